"""What counts as the same text, or the same address, in exact matching. Vectorised by Arrow; nulls stay null.

Texts: NFC, lower case, runs of white space (Unicode's) as one space; punctuation counts.
Addresses: the scheme, `www.`, the fragment, parameters that only track the visitor, and trailing slashes do not count,
nor does the case of the host; the path and all other parameters do.
"""

import pyarrow as pa
import pyarrow.compute as pc

_TRACKING = r"(?:utm_[^=&]*|fbclid|gclid|dclid|msclkid|yclid|igshid|mc_cid|mc_eid|_hsenc|_hsmi|ref_src)"
"""Names of query parameters that tell where a visitor came from and never what the page shows."""
_ADDRESS = r"^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//(?:[^/?#@]*@)?(?P<host>[^/?#]*)(?P<rest>[^#]*)"


def normalised_texts(texts: pa.Array) -> pa.LargeStringArray:
    """The texts as they are compared."""
    folded = pc.utf8_lower(pc.utf8_normalize(texts.cast(pa.large_string()), form="NFC"))
    return pc.binary_join(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(folded)), pa.scalar(" ", pa.large_string()))


def normalised_urls(urls: pa.Array) -> pa.LargeStringArray:
    """The addresses as they are compared; what does not read as an address is compared as it is."""
    trimmed = pc.utf8_trim_whitespace(urls.cast(pa.large_string()))
    parts = pc.extract_regex(trimmed, _ADDRESS)
    host = pc.replace_substring_regex(pc.utf8_lower(pc.struct_field(parts, "host")), r"^www\.|:(?:80|443)$", "")
    rest = pc.replace_substring_regex(pc.struct_field(parts, "rest"), rf"([?&]){_TRACKING}(?:=[^&]*)?", r"\1")
    rest = pc.replace_substring_regex(pc.replace_substring_regex(rest, r"&{2,}", "&"), r"\?&+", "?")
    rest = pc.replace_substring_regex(rest, r"[?&]+$", "")
    rest = pc.replace_substring_regex(rest, r"/+(\?|$)", r"\1")
    joined = pc.binary_join_element_wise(host, rest, pa.scalar("", pa.large_string()))
    return pc.if_else(pc.is_valid(parts), joined, trimmed)
