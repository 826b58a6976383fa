"""Masking personal data: what is put in its place, for whom, and what datatrove does with the same text."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.pipeline.formatters.pii import PIIFormatter
from pydantic import ValidationError

from curate.documents import Batch
from curate.engine.recipe import load_recipe
from curate.errors import RecipeError
from curate.filters.pii import PARTS, PLACEHOLDERS, Pii
from curate.kernels.pii import find_pii

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "text"
ALL = "jane@mail.net, 93.184.216.34, 2606:4700::1111, +49 30 1234567, DE89370400440532013000, 4111 1111 1111 1111"


def batch(*texts: str | None, ids: list[str] | None = None) -> Batch:
    names = ids or [f"d{number}" for number in range(len(texts))]
    return Batch(pa.record_batch({"id": pa.array(names), "text": pa.array(texts, pa.string())}))


def masked(step: Pii, *texts: str | None, ids: list[str] | None = None) -> list[str | None]:
    return step.process(batch(*texts, ids=ids)).batch.texts.to_pylist()


def test_e_mail_and_public_ip_addresses_are_masked_as_fineweb_asks() -> None:
    text = "jane@mail.net or john@mail.net from 93.184.216.34, not 10.0.0.1; call +49 30 1234567"
    (got,) = masked(Pii(), text)
    assert got is not None
    first, second = got.split(" from ")[0].split(" or ")
    assert {first, second} == set(PLACEHOLDERS["email"])
    assert got.split("from ")[1].split(",")[0] in PLACEHOLDERS["ipv4"]
    assert got.endswith(", not 10.0.0.1; call +49 30 1234567")


def test_all_kinds_are_counted_and_only_the_wanted_ones_masked() -> None:
    outcome = Pii(mask=["iban", "card"]).process(batch(ALL, "nothing", None))
    counts = {name: values.tolist() for name, values in outcome.signals.items()}
    assert counts == {f"pii.{kind}": [2.0 if kind == "ip" else 1.0, 0.0, 0.0] for kind in PARTS}
    assert outcome.batch.texts.to_pylist() == [
        ALL.replace("DE89370400440532013000", "[IBAN]").replace("4111 1111 1111 1111", "[card number]"),
        "nothing",
        None,
    ]
    assert outcome.edited is not None and outcome.edited.tolist() == [22 + 19, 0, 0]


def test_placeholders_are_not_found_again_so_masking_twice_changes_nothing() -> None:
    step = Pii(mask=["email", "ip", "phone", "iban", "card"])
    once = masked(step, ALL, ALL + " " + ALL)
    assert masked(step, *once) == once
    assert not len(find_pii(pa.array(once)))
    for words in PLACEHOLDERS.values():
        for before in ("see", "from", "Tel.:", "Telefon"):
            assert not len(find_pii(pa.array([f"{before} {word} there" for word in words])))


def test_a_document_gets_the_same_placeholders_whatever_stands_beside_it() -> None:
    texts = [f"a{i}@mail.net b@mail.net c@mail.net" for i in range(50)]
    ids = [f"id{i}" for i in range(50)]
    together = dict(zip(ids, masked(Pii(), *texts, ids=ids), strict=True))
    order = list(range(50))
    random.Random(1).shuffle(order)
    for i in order[:20]:
        assert masked(Pii(), texts[i], ids=[ids[i]]) == [together[ids[i]]]
    assert len(set(together.values())) == 2  # they begin with either
    assert masked(Pii(seed=1), *texts, ids=ids) != list(together.values())


def test_own_placeholders_or_none() -> None:
    assert masked(Pii(placeholders={"email": "<E>"}), "to a@mail.net!") == ["to <E>!"]
    assert masked(Pii(placeholders={"email": ""}), "to a@mail.net!") == ["to !"]
    assert masked(Pii(placeholders={"email": ["é", "ü"]}), "a@mail.net b@mail.net")[0] in ("é ü", "ü é")


def test_documents_with_too_much_of_a_kind_are_dropped() -> None:
    outcome = Pii(drop={"card": 0, "email": 1}).process(
        batch("4111 1111 1111 1111", "a@mail.net", "a@mail.net b@mail.net", "10.0.0.1")
    )
    assert outcome.batch.ids.to_pylist() == ["d1", "d3"]
    assert [(row["rule"], row["value"], row["threshold"]) for row in outcome.left.to_pylist()] == [
        ("pii.card", 1.0, 0.0),
        ("pii.email", 2.0, 1.0),
    ]
    assert outcome.edited is not None and len(outcome.edited) == 2
    assert Pii().rules() == ()


def test_texts_without_findings_are_not_copied() -> None:
    given = batch("nothing here", "nor here")
    assert Pii().process(given).batch is given


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValidationError):
        Pii(mask=["passport"])  # type: ignore[list-item]
    with pytest.raises(ValidationError):
        Pii(placeholders={"email": []})


@pytest.mark.parametrize(
    ("kind", "words", "word"),
    [
        ("email", "me@real.com", "me@real.com"),
        ("ipv4", ["192.0.2.1", "8.8.8.8"], "8.8.8.8"),
        ("phone", "030 1234567", "030 1234567"),  # after "Tel."
        ("card", "me@real.com", "me@real.com"),
    ],
)
def test_a_placeholder_that_would_be_found_is_refused(kind: str, words: str | list[str], word: str) -> None:
    with pytest.raises(ValidationError, match=f"the placeholder '{word}' would itself be found"):
        Pii(placeholders={kind: words})  # type: ignore[dict-item]


def test_the_placeholders_built_in_may_be_written_down() -> None:
    step = Pii(placeholders={kind: list(words) for kind, words in PLACEHOLDERS.items()})  # type: ignore[misc]
    assert masked(step, ALL) == masked(Pii(), ALL)
    assert masked(Pii(placeholders={}), ALL) == masked(Pii(), ALL)


@pytest.mark.parametrize(
    ("step", "field", "said"),
    [
        ("pii: {placeholders: {email: []}}", "pii.placeholders.email", r"write a text, or a list .* \(found \[\]\)"),
        ("pii: {placeholders: {email: 5}}", "pii.placeholders.email", r"write a text, or a list .* \(found 5\)"),
        ("pii: {drop: {ssn: 0}}", "pii.drop.ssn", r"must be 'email', .* \(found 'ssn'\)"),
        ("pii: {placeholders: {email: me@real.com}}", "pii.placeholders", r"the placeholder .* \(email\)[^(]*"),
    ],
)
def test_a_recipe_says_in_one_line_what_is_wrong(tmp_path: Path, step: str, field: str, said: str) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": "1", "text": "a"}\n')
    path = tmp_path / "r.yaml"
    path.write_text(f"name: r\nsource: {{jsonl: in.jsonl}}\nsteps:\n  - {step}\noutput: {{parquet: out}}\n")
    with pytest.raises(RecipeError, match=rf"\A[^\n]*, line 4, steps\[0\]\.{field}: {said}\.\Z"):
        load_recipe(path)


def test_datatrove_masks_the_same_on_real_texts_but_for_what_the_docs_name() -> None:
    if not DATA.exists():
        pytest.skip("no shared data beside the project")
    table = pq.read_table(sorted(DATA.glob("docs_misc*"))[0], columns=["id", "text"])
    theirs = PIIFormatter(email_replacement="<E>", ip_replacement="<I>")
    step = Pii(placeholders={"email": "<E>", "ipv4": "<I>"})
    ours = step.process(Batch(table.combine_chunks().to_batches()[0]))
    texts = table["text"].to_pylist()
    emails = [
        (theirs.format(text).count("<E>"), got.count("<E>"))
        for text, got in zip(texts, ours.batch.texts.to_pylist(), strict=True)
    ]
    found = np.array(emails).sum(axis=0)
    assert found[1] > 200
    assert sum(a == b for a, b in emails) >= 0.99 * len(emails)
