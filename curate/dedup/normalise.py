"""What counts as the same text, address or value in exact matching. Vectorised by Arrow; nulls stay null.

Texts: NFC, lower case, runs of white space (Unicode's) as one space; punctuation counts.
Addresses: the scheme, `www.`, the fragment, parameters that only track the visitor, and trailing slashes do not count,
nor does the case of the host; the path and all other parameters do.
Values of columns: as they are, by type; 1 is not "1" nor 1.0. Integers of all widths are one type, and so are floats.
"""

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.documents import declaring
from curate.errors import InputError
from curate.kernels.hashing import hash128_strings

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


def lacking_columns(names: Sequence[str], there: Collection[str]) -> str | None:
    """What to say if documents with these columns lack one of those that are to be compared; None if all are there."""
    missing = [name for name in names if name not in there]
    if not missing:
        return None
    return (
        f"`exact: {{by: {{columns: [...]}}}}` names the column {missing[0]!r}, which these documents do not have; "
        f"they have {', '.join(there)}. {declaring(missing[0])}"
    )


def digests_of_columns(data: pa.RecordBatch, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """128 bits of each row's values, uint64[n, 2], and whether it has a value in each column, bool[n]."""
    if said := lacking_columns(names, data.schema.names):
        raise InputError(said)
    lanes, matched = [], np.ones(data.num_rows, dtype=bool)
    for name in names:
        kind, values = _typed(name, data.column(name))
        matched &= values.is_valid().to_numpy(zero_copy_only=False)
        lanes.append(hash128_strings(values) ^ hash128_strings(pa.array([kind])))
    return _digests_of(np.concatenate(lanes, axis=1)), matched


def _typed(name: str, column: pa.Array) -> tuple[str, pa.Array]:
    """Which type the values are of, and each as bytes."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text", column.cast(pa.large_string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return "binary", column.cast(pa.large_binary())
    if pa.types.is_floating(kind):
        numbers = column.cast(pa.float64())
        numbers = pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
        return "float", pc.add(numbers, 0.0).cast(pa.large_string())  # -0.0 becomes 0.0
    if pa.types.is_integer(kind):
        return "integer", column.cast(pa.large_string())
    if pa.types.is_boolean(kind) or pa.types.is_temporal(kind) or pa.types.is_decimal(kind):
        return str(kind), column.cast(pa.large_string())
    raise InputError(
        f"Documents cannot be matched by the column {name!r}: it holds {kind}, not text, numbers, truth values, dates "
        "or times."
    )


def _digests_of(rows: np.ndarray) -> np.ndarray:
    """128 bits of each row of a matrix."""
    offsets = pa.py_buffer(np.arange(len(rows) + 1, dtype=np.int64) * rows.shape[1] * rows.itemsize)
    buffers = [None, offsets, pa.py_buffer(np.ascontiguousarray(rows))]
    return hash128_strings(pa.Array.from_buffers(pa.large_binary(), len(rows), buffers))
