"""The few real pages of the sample crawl: United States federal works and MDN, each looked at before it was taken.

Scripts, styles, comments and inline pictures are cut out of them (they may belong to others); the text is as served.
"""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from examples.sample.packing import Fetched

FEDERAL = "US federal government work, public domain (17 USC 105)"
MDN = "CC-BY-SA-2.5"
REAL_PAGES = {
    "https://www.sba.gov/business-guide/manage-your-business/strengthen-your-cybersecurity": FEDERAL,
    "https://www.fda.gov/drugs/postmarket-drug-safety-information-patients-and-providers/"
    "fdas-concerns-unapproved-glp-1-drugs-used-weight-loss": FEDERAL,
    "http://www.msha.gov/news-and-updates/alerts-hazards/filter/electrical-safety": FEDERAL,
    "http://www.osha.gov/electrical": FEDERAL,
    "https://svs.gsfc.nasa.gov/4974": FEDERAL,
    "https://www.hrsa.gov/oral-health": FEDERAL,
    "https://www.nsf.gov/science-matters/climate-change-problem-solvers-startups-solutions": FEDERAL,
    "https://www.niddk.nih.gov/health-information/weight-management/myths-nutrition-physical-activity": FEDERAL,
    "https://developer.mozilla.org/en-US/docs/Web/API/WebSocket": MDN,
    "https://developer.mozilla.org/en-US/docs/Web/JavaScript/Reference/Global_Objects/Promise": MDN,
}
_CUT = re.compile(rb"<(script|style|svg|noscript|iframe)\b.*?</\1\s*>|<!--.*?-->|<link\b[^>]*>", re.S | re.I)
_DATA = re.compile(rb"(?:src|srcset|href|content)\s*=\s*\"data:[^\"]*\"", re.I)


def real_pages(web_parquet: Path) -> list[Fetched]:
    """The pages of REAL_PAGES; an empty list where the saved pages are not at hand."""
    if not web_parquet.exists():
        return []
    pages: list[Fetched] = []
    wanted = set(REAL_PAGES)
    for batch in pq.ParquetFile(web_parquet).iter_batches(100, columns=["id", "url", "html"]):
        for row in batch.filter(pc.is_in(batch["url"], value_set=pa.array(sorted(REAL_PAGES)))).to_pylist():
            if row["url"] not in wanted:
                continue
            wanted.remove(row["url"])
            body = re.sub(rb"\n\s*\n+", b"\n", _DATA.sub(b"", _CUT.sub(b"", row["html"])))
            license = REAL_PAGES[row["url"]]
            pages.append(Fetched(row["url"], body, "real", "mdn" if license == MDN else "federal", row["id"], license))
    return pages
