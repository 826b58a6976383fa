"""The exchange that all methods of deduplication share: what is alike, who belongs together, who survives.

Rounds: `alike` joins documents of equal digest over the parts; a method may link more (curate.dedup.minhash);
`address` goes over the parts and sends the members of clusters to one place each; `clusters` decides. Bytes on the way:
24 a distinct document of a part, 24 a copy in another part, some 110 a member of a cluster, some 80 a fate.
In one task: a range of these rows (curate.engine.exchange), and the members of a cluster, all at once: of equal
documents MEMBERS_SHOWN + 1 a part, so that only clusters of many different texts are large (150 bytes each).
"""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curate.dedup.clusters import EDGES_SCHEMA, FATES_SCHEMA, decided, members_of, members_schema, state_of, summary_of
from curate.dedup.corpus import check_settings, fixed_rows
from curate.dedup.index import STANDING, index_problem, open_index, with_dumps, with_standing
from curate.dedup.keep import Keep, as_written, lacking
from curate.dedup.similarity import Similarity
from curate.errors import MismatchError
from curate.rounds import KEY, Attached, Out, Round, Stored, Tables, View, first_of_equals, places, repeated_order
from curate.steps import Exchange, State
from curate.yamlfile import NAME_RULE, is_name

DIGESTS_SCHEMA = pa.schema(
    [
        KEY,  # first half of the digest
        pa.field("other", pa.uint64(), nullable=False),  # second half
        pa.field("place", pa.uint64(), nullable=False),  # of the document that speaks for it in its part
    ]
)
ALIKE_SCHEMA = pa.schema([KEY, pa.field("node", pa.uint64(), nullable=False)])
"""Places that speak for a digest that other parts have too, with the lowest such place."""


def _standing(keep: Keep) -> pa.Schema:
    return members_schema(keep).append(STANDING)


class Deduplication(Exchange):
    """Base of the exchanges that keep one document of each cluster."""

    state_tables: ClassVar[tuple[str, ...]] = ("fates",)

    keep: Keep
    against: str | None = None
    """An index (curate.dedup.index): documents that a dump of it holds leave as its duplicates."""
    dump: str | None = None
    """Under which name this corpus enters the index: it is held against the dumps before that one, or all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.against is None) != (self.dump is None):
            raise ValueError(
                "`against` and `dump` belong together: the index, and the name of this corpus in it, so that a later "
                "run is not held against itself"
            )
        if self.dump is not None and not is_name(self.dump):
            raise ValueError(f"{NAME_RULE} (`dump` is {self.dump!r})")

    @classmethod
    def problem_of(cls, field: str, path: Path) -> str | None:
        """Why a folder cannot be an index; None if it may be."""
        return index_problem(path)

    def content_of(self, field: str) -> Any:
        """The dumps that it is held against, by content."""
        return {"dumps": [[dump.name, dump.fingerprint] for dump in self.older()]}

    def reduce(self, partials: Sequence[pa.Table], *, ranges: int = 1, attached: Attached | None = None) -> State:
        """The decision over all parts, in memory. Raises MismatchError without the dumps that `against` names."""
        if attached is None and self.older():
            raise MismatchError(
                f"`{self.name}`: `against` is for recipes that `curate run` runs; leave it out of a datatrove pipeline."
            )
        return super().reduce(partials, ranges=ranges, attached=attached)

    def missing_column(self, there: Collection[str]) -> tuple[str, str] | None:
        """The one that `keep` asks for."""
        said = lacking(self.policy, there)
        return ("keep", said) if said else None

    @property
    def adds(self) -> tuple[str, ...]:
        """What is said of the cluster."""
        return f"{self.name}.cluster", f"{self.name}.cluster_size"

    def older(self) -> Sequence[Stored]:
        """The dumps before this one. Raises MismatchError if they were made with other parameters."""
        if self.against is None or self.dump is None:
            return ()
        index = open_index(self.against)
        index.check_made_with(self.made_with())
        return index.older_than(self.dump)

    def made_with(self) -> dict[str, Any]:
        """What all dumps of an index have in common: the step and the parameters that decide who is kept."""
        others = {name: value for name, value in self.parameters().items() if name not in self.free}
        common: dict[str, Any] = json.loads(json.dumps({"step": self.name, "version": self.version, **others}))
        return common

    free: ClassVar[tuple[str, ...]] = ("against", "dump")
    """Parameters in which the dumps of an index may differ."""

    @property
    def chains(self) -> bool:
        """Whether a document can leave for a survivor that it is not similar to itself."""
        return False

    @property
    def policy(self) -> Keep:
        """The policy by which members of a cluster are ordered."""
        return self.keep

    def settings(self) -> bytes:
        """By which parameters a partial is made."""
        # `keep`: the best of equal documents of a part is chosen while mapping.
        every = {"method": self.name, "version": self.version, "keep": as_written(self.policy)}
        return json.dumps(every | self.made_by(), sort_keys=True).encode()

    def made_by(self) -> dict[str, Any]:
        """Parameters of this method that decide what a partial holds."""
        raise NotImplementedError

    def parameters(self) -> dict[str, Any]:
        """The parameters, `keep` as the recipe writes it."""
        return super().parameters() | {"keep": as_written(self.keep)}

    def tables(self) -> Tables:
        """What goes from round to round."""
        return {
            "digests": DIGESTS_SCHEMA,
            "alike": ALIKE_SCHEMA,
            "members": members_schema(self.policy) if self.against is None else _standing(self.policy),
            "edges": EDGES_SCHEMA,
            "fates": FATES_SCHEMA,
        }

    def rounds(self) -> Sequence[Round]:
        """Alike, what links more, address, clusters."""
        return (
            Round("alike", reads=("digests",), gives=("alike",), by="hash"),
            *self.linking(),
            Round("address", reads=("alike",), gives=("members", "edges"), by="part", row_bytes=64),
            Round("clusters", reads=("members", "edges"), gives=("fates",), by="hash"),
        )

    def linking(self) -> Sequence[Round]:
        """Rounds that link documents which differ."""
        return ()

    def scatter(self, partial: pa.Table, part: int, out: Out) -> None:
        """The digest of each distinct document of the part."""
        check_settings(partial, part, self.settings())
        speakers = self.speakers(partial)
        digests = fixed_rows(partial.column("digest"), np.uint64)[speakers]
        columns = [digests[:, 0], digests[:, 1], places(part, speakers)]
        out.write("digests", pa.table(columns, schema=DIGESTS_SCHEMA))
        distinct = int(np.count_nonzero(np.bincount(partial.column("best").to_numpy())))
        out.tell(documents=partial.num_rows, distinct_documents=distinct)

    def speakers(self, partial: pa.Table) -> np.ndarray:
        """Rows that speak for a digest; all others equal one of them."""
        best = partial.column("best").to_numpy()
        return np.flatnonzero(best == np.arange(len(best)))

    def alike(self, view: View, out: Out) -> None:
        """Documents of the same digest in several parts, and in the index."""
        rows = view.met("digests")
        keys = rows.column("key").to_numpy()
        some = repeated_order(keys)
        key, other, place = keys[some], rows.column("other").to_numpy()[some], rows.column("place").to_numpy()[some]
        order = np.lexsort((place, other, key))
        key, other, place = key[order], other[order], place[order]
        first = first_of_equals(key, other)
        group = np.cumsum(first) - 1
        together = np.bincount(group)[group] > 1 if len(group) else first
        node = place[first][group]
        out.write("alike", pa.table([place[together], node[together]], schema=ALIKE_SCHEMA))
        out.tell(distinct_documents=-int((~first & (place < view.end)).sum()))

    def address(self, view: View, out: Out) -> None:
        """The members of clusters, part by part."""
        for part in view.span.parts:
            own = view.of_part(part)
            alike = own.rows("alike")

            def of_speakers(
                place: np.ndarray, alike: pa.Table = alike
            ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
                node = place.copy()
                at = np.searchsorted(place, alike.column("key").to_numpy())
                node[at] = alike.column("node").to_numpy()
                root, link, linked = self.linked(view, node)
                linked[at] = True
                return node, root, link, linked

            members = members_of(view.partial(part), part, self.policy, of_speakers)
            out.write("members", members if self.against is None else with_standing(members, part, view))
            view.release()

    def linked(self, view: View, node: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Root and strongest link of each node, and whether it is linked to another one."""
        return node, np.full(len(node), np.nan), np.zeros(len(node), dtype=bool)

    def clusters(self, view: View, out: Out) -> None:
        """Survivors, and the fates of the others."""
        members, keep = self.ordered(view)
        fates, facts = decided(members, keep, self.similarity(view), threshold=self.required, guard=self.guard(view))
        out.write("fates", fates)
        out.tell(**facts)

    def ordered(self, view: View) -> tuple[pa.Table, Keep]:
        """The members of clusters, and the policy that orders them by their columns."""
        return view.rows("members"), self.policy

    def similarity(self, view: View) -> Similarity:
        """How similar documents of two nodes are; where only equal ones are joined, nobody asks."""
        return lambda left, right: np.ones(len(left))

    @property
    def required(self) -> float:
        """The similarity below which a removal is counted as one through a third document."""
        return 1.0

    def guard(self, view: View) -> Any:
        """What may choose other leaders than the most preferred one of a cluster (curate.dedup.clusters.decided)."""
        return None

    def state(self, view: View, part: int) -> pa.Table:
        """Survivor, cluster, similarity of each document of a part."""
        state, attached = state_of(view.partial(part), part, view.rows("fates")), view.shelf.attached
        return with_dumps(state, attached, view.shelf.own) if attached else state

    def summary(self, told: dict[str, Any]) -> dict[str, Any]:
        """Counts, the largest clusters, the histogram."""
        return summary_of(told)
