"""Which metrics the models of a study will have, from its file alone: a metric that is not among them is refused before
hours of training, not after them. What an evaluator then measures is checked against this in the tests. No torch.
"""

from collections.abc import Iterable, Mapping
from typing import Any


def metric_names(heldout: Iterable[str], tasks: Iterable[str | Mapping[str, Any]]) -> list[str]:
    """Metrics by their names, or by what they start with up to the `/` where the rest comes from a file."""
    from curate.proxy_training.evaluation.alice import alice_spec
    from curate.proxy_training.evaluation.multiple_choice import NORMS
    from curate.proxy_training.evaluation.task_items import task_spec

    names = ["bits_per_byte", *(f"bits_per_byte/{name}" for name in heldout)]
    of_choices = [f"{kind}_{norm}" for kind in ("correct_prob", "acc", "acc_centred") for norm in NORMS]
    for task in tasks:
        if alice := alice_spec(task):
            names += [f"{alice.task}_{kind}/" for kind in ("rate", "spread", "rate_by_variation")]
        else:
            spec = task_spec(task)
            alone = ["exact_greedy"] if spec.kind == "completion" else []  # may have several answers all the same
            names += [f"{kind}/{spec.task}" for kind in ("answer_bits_per_byte", *of_choices, *alone)]
    return names


def is_measured(metric: str, names: Iterable[str]) -> bool:
    """Whether `metric` is one of `names`, or several of them by what stands before their `/`."""
    return any(
        metric == name or name.startswith(f"{metric}/") or (name.endswith("/") and metric.startswith(name))
        for name in names
    )
