"""`curate card` says what manifests say, guesses nothing, escapes everything; its Croissant is read by tools."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml

from curate.housekeeping.card import card, code, escaped, facts, fenced
from curate.housekeeping.croissant import croissant
from curate.housekeeping.remove import remove

from .conftest import Place


def front_matter(text: str) -> dict:
    head = text.split("---\n")[1]
    return dict(yaml.safe_load(head))


def test_the_card_of_an_output_says_where_it_came_from(place: Place) -> None:
    known = facts(place.published())
    text = card(known)
    head = front_matter(text)
    assert head["license"] == "odc-by" and head["language"] == ["en"] and head["size_categories"] == ["n<1K"]
    assert head["configs"][0]["data_files"][0]["path"] == "part-*.parquet"
    assert "A test of everything." in text and "name: full" in text and known.fingerprint in text
    for step in ("read warc", "extract", "language", "gopher_quality", "c4", "minhash", "quality"):
        assert f"| `{step}` |" in text
    assert "min_words=50" in text and "seeds: minhash 1" in text and "None so far" in text
    source = json.loads((place.root / "out/full/manifest.json").read_text())["sources"][0]
    assert source["content"] in text and source["name"] in text
    assert f"distinct documents {place.made().stages[3].manifest['records_in']:,}" in text  # type: ignore[index]
    assert "Contamination with evaluation sets was not checked" in text and "licence of the texts" not in text


def test_the_card_of_a_recipe_in_its_work_folder_says_the_same(place: Place) -> None:
    made, published = card(facts(place.made())), card(facts(place.published()))
    for heading in ("## Sources", "## Steps", "## What became of the records", "## Known limits"):
        parts = [text.split(heading)[1].split("\n## ")[0] for text in (made, published)]
        assert parts[0] == parts[1]


def test_what_is_not_stated_is_not_guessed(place: Place) -> None:
    head = front_matter(card(facts(place.published("raw"))))
    assert head["license"] == "other" and head["license_name"] == "not stated"
    path = place.root / "out/raw/manifest.json"
    manifest = json.loads(path.read_text())
    old = {key: manifest[key] for key in ("name", "fingerprint", "documents", "text_bytes", "parts", "funnel")}
    path.write_text(json.dumps(old))  # as it was written before provenance was noted
    text = card(facts(place.published("raw")))
    assert "Not stated: this output was made before sources were noted" in text and "not stated" in text


def test_removals_are_recorded(place: Place) -> None:
    victim = place.table(place.root / "out/full").column("id")[0].as_py()
    remove([place.made()], [victim], reason="request <b>4711</b>")
    text = card(facts(place.published()))
    assert "Taken out after it was made" in text and "request &lt;b&gt;4711&lt;/b&gt;" in text and victim not in text
    place.run("raw")
    text = card(facts(place.published("raw")))
    assert "Made without the ids and URLs of 1 requests; 1 documents" in text


HOSTILE = [
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "![](https://evil.example/x.png)",
    "`code` | cell\n# heading",
    "see https://evil.example or www.evil.example or mail@evil.example",
    "\x1b[31mred\u202e",
    "***bold*** ~~gone~~ $x$",
    "```\n<img src=x onerror=alert(1)>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_comes_from_the_web_is_shown_and_does_nothing(place: Place, text: str) -> None:
    shown = escaped(text)
    for sign in ("<", "\n", "\x1b", "\u202e", "://", "www."):
        assert sign not in shown
    for place_, sign in enumerate(shown):
        if sign in "`*[]|~$_":
            assert shown[place_ - 1] == "\\", shown
    manifest = json.loads((place.root / "out/full/manifest.json").read_text())
    manifest["name"] = manifest["description"] = text
    manifest["recipe_text"] += f"\n{text}"
    manifest["sources"][0]["name"] = text
    (place.root / "out/full/manifest.json").write_text(json.dumps(manifest))
    written = card(facts(place.published()))
    recipe = fenced(manifest["recipe_text"], "yaml")
    outside = written.replace(recipe, "").split("---\n", 2)[2]
    assert recipe in written and front_matter(written)["pretty_name"]
    spans = outside.replace(code(text), "").replace(code(text).replace("|", "\\|"), "")
    for sign in ("<script", "<img"):
        assert sign not in spans
    assert not re.search(r"(?<!\\)\]\(", spans)


def test_a_span_of_code_cannot_be_ended_by_its_text() -> None:
    assert code("a`b") == "``a`b``" and code("`") == "`` ` ``" and code("a|b") == "`a\\|b`" and code("") == ""
    assert fenced("x\n`````\ny", "").startswith("``````")


def test_credentials_in_a_recipe_do_not_reach_the_card(place: Place) -> None:
    text = place.recipe("raw").read_text()
    place.recipe("raw").write_text(text + "# from https://user:hunter2@example.org/crawl\n")
    assert "hunter2" not in card(facts(place.made("raw")))


def test_croissant_names_every_file_by_its_sha256_and_every_field_with_its_type(place: Place) -> None:
    known = facts(place.published())
    said = croissant(known)
    assert said["conformsTo"] == "http://mlcommons.org/croissant/1.0" and said["@type"] == "sc:Dataset"
    for key in ("name", "description", "license", "datePublished", "version", "distribution", "recordSet"):
        assert said[key], key
    files = [node for node in said["distribution"] if node["@type"] == "cr:FileObject"]
    assert [file["contentUrl"] for file in files] == [file.place.name for file in known.files]
    for file in files:
        data = (place.root / "out/full" / file["contentUrl"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(data).hexdigest() and file["contentSize"] == f"{len(data)} B"
    (records,) = said["recordSet"]
    types = {field["source"]["extract"]["column"]: field["dataType"] for field in records["field"]}
    assert types["text"] == "sc:Text" and types["offset"] == "sc:Integer" and types["quality_score"] == "sc:Float"
    names = {node["@id"] for node in said["distribution"]}
    assert all(field["source"]["fileSet"]["@id"] in names for field in records["field"])
    assert records["key"]["@id"] in {field["@id"] for field in records["field"]}


@pytest.mark.parametrize("name", ["full", "raw-lines"])
def test_mlcroissant_accepts_it_and_reads_the_documents(place: Place, name: str) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    assert place.curate("card", place.root / "out" / name) == 0
    dataset = mlcroissant.Dataset(str(place.root / "out" / name / "croissant.json"))
    assert not list(dataset.metadata.ctx.issues.errors)
    ids = [record["documents/id"] for record in dataset.records("documents")]
    assert len(ids) == place.published(name).manifest["documents"]


def test_the_command_writes_beside_the_output_and_verify_knows_its_files(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.curate("card", place.root / "out/full") == 0
    assert (place.root / "out/full/README.md").read_text() == card(facts(place.published()))
    assert place.curate("verify", place.root / "out/full") == 0
    assert place.curate("card", place.recipe("full"), "--work", place.work) == 2
    assert "name a folder with --out" in capsys.readouterr().err
    assert place.curate("card", place.recipe("full"), "--work", place.work, "--out", place.root / "card") == 0
    assert sorted(path.name for path in Path(place.root / "card").iterdir()) == ["README.md", "croissant.json"]
    assert place.curate("card", place.root / "out/full", "--print") == 0
    assert "# full" in capsys.readouterr().out
