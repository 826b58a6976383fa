"""A headline that is the mean of its parts: formed where it means something, refused in one sentence elsewhere."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.comparator import compare
from curate.comparator.points import learning_rate_factors
from curate.errors import MeasurementError
from tests.comparator.worlds import Source, ladder


def parts(make: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> pa.Table:
    whole = ladder({"full": Source(), "raw": Source(E=1.2, B=1.4)}, rng=np.random.default_rng(0))
    rows = [row | change for row in whole.to_pylist() for change in make(row)]
    return pa.Table.from_pylist(rows, schema=whole.schema)


def test_a_learning_rate_factor_is_a_positive_number_or_not_given() -> None:
    table = pa.table({"hyperparameters": ['{"learning_rate_factor": null}', None, "{}", '{"learning_rate_factor": 3}']})
    assert learning_rate_factors(table).tolist() == [1.0, 1.0, 1.0, 3.0]
    for wrong in ('"x"', "[1]", "0", "NaN"):
        bad = pa.table({"hyperparameters": ["{}", f'{{"learning_rate_factor": {wrong}}}']})
        with pytest.raises(MeasurementError, match="row 2: learning_rate_factor"):
            learning_rate_factors(bad)


def test_the_mean_of_held_out_sets_never_chooses_between_two_evaluations_of_one_run() -> None:
    two = parts(
        lambda row: [
            {"metric": f"loss/{part}", "evaluation": version, "value": row["value"] + (version == "v2")}
            for part in ("wiki", "books")
            for version in ("v1", "v2")
        ]
    )
    with pytest.raises(MeasurementError, match="two values of loss/wiki at one budget"):
        compare(two, metric="loss", bootstraps=100)


def test_the_mean_of_parts_has_the_mean_of_their_chance_levels() -> None:
    chances = {"accuracy/four": 0.25, "accuracy/two": 0.5}
    found = compare(
        parts(
            lambda row: [
                {"metric": m, "value": c + 0.1 * (4 - row["value"]), "chance": c, "lower_is_better": False}
                for m, c in chances.items()
            ]
        ),
        metric="accuracy",
        bootstraps=100,
    )
    assert found.headline.chance == pytest.approx(0.375)


def test_parts_that_are_better_in_opposite_directions_have_no_mean() -> None:
    with pytest.raises(MeasurementError, match=r"less is better \(quality/loss\)"):
        compare(
            parts(
                lambda row: [
                    {"metric": "quality/loss", "lower_is_better": True},
                    {"metric": "quality/accuracy", "value": 0.1 * (4 - row["value"]), "lower_is_better": False},
                ]
            ),
            metric="quality",
            bootstraps=100,
        )


def test_a_composite_never_chooses_between_two_evaluations_either() -> None:
    two = parts(
        lambda row: [
            {"metric": f"loss/{part}", "evaluation": version, "value": row["value"] + (version == "v2")}
            for part in ("wiki", "books")
            for version in ("v1", "v2")
        ]
    )
    with pytest.raises(MeasurementError, match="a composite cannot choose"):
        compare(two, metric="composite:loss", bootstraps=100)
