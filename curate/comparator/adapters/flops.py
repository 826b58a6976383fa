"""FLOP conventions by name, with formula and source: numbers of two conventions are not the same axis.

N = params (all weights, one V x d counted), N_ne = without embeddings, D = tokens, L = layers, d = width, T = context.
Forward and backward together are three times the forward pass, and a multiply-add is two FLOPs, everywhere here.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from curate.comparator.tables import counts_samples, numbers, replace, with_notes
from curate.errors import MeasurementError

SIX_ND = "6ND"
NON_EMBEDDING = "6ND non-embedding"
KAPLAN = "with attention (Kaplan 2020)"
PALM = "with attention (PaLM 2022)"
SAMPLES = "3 x forward x samples"

CONVENTIONS: Mapping[str, str] = MappingProxyType(
    {
        SIX_ND: "6 N D; Kaplan et al. 2020, section 2.1, with all weights as Hoffmann et al. 2022, Approach 3",
        NON_EMBEDDING: "6 N_ne D; Kaplan et al. 2020, section 2.1",
        KAPLAN: "(6 N_ne + 6 L T d) D; Kaplan et al. 2020, section 2.1: C_forward = 2 N_ne + 2 L T d a token",
        PALM: "(6 N + 12 L d T) D; Chowdhery et al. 2022, appendix B",
        SAMPLES: "3 x forward FLOPs of one sample x samples seen; contrastive image-text models (open_clip's profile)",
    }
)


def six_nd(params: float, tokens: float) -> float:
    """6 N D; with N_ne for `params` it is the non-embedding convention."""
    return 6.0 * params * tokens


def kaplan(params_non_embedding: float, tokens: float, *, layers: int, width: int, context: int) -> float:
    """Kaplan 2020, 2.1: attention adds 2 L T d forward FLOPs a token (causal masking not counted)."""
    return (6.0 * params_non_embedding + 6.0 * layers * context * width) * tokens


def palm(params: float, tokens: float, *, layers: int, width: int, context: int) -> float:
    """PaLM 2022, appendix B: 6 N + 12 L H Q T a token, where heads x head size = width."""
    return (6.0 * params + 12.0 * layers * width * context) * tokens


def forward_times_three(forward_flops: float, samples: float) -> float:
    """Training FLOPs of `samples` samples whose forward pass costs `forward_flops`."""
    return 3.0 * forward_flops * samples


def to_six_nd(table: pa.Table) -> pa.Table:
    """Measurements with flops recounted as 6 x params x tokens, so that tables of several conventions share an axis.

    Raises MeasurementError where params or tokens are missing, or tokens counts samples.
    """
    params, tokens = numbers(table, "params"), numbers(table, "tokens")
    samples = counts_samples(table)
    bad = np.isnan(params) | np.isnan(tokens) | samples
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise MeasurementError(
            f"row {row + 1}: flops cannot be recounted as 6ND: params or tokens is missing, or tokens counts samples."
        )
    found = sorted({str(name) for name in table["flops_convention"].to_pylist()} - {SIX_ND})
    out = replace(table, "flops", 6.0 * params * tokens)
    out = replace(out, "flops_convention", [SIX_ND] * table.num_rows)
    note = f"flops recounted as 6 x params x tokens ({', '.join(found) or 'all were 6ND'})"
    return with_notes(out.replace_schema_metadata(table.schema.metadata), [note])
