"""Fingerprints depend on content and on nothing else."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.fingerprints import ContentMemory, file_fingerprint, fingerprint, write_json

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_the_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(list(value.items()))))


@given(st.text(), st.text())
def test_different_values_have_different_fingerprints(one: str, two: str) -> None:
    assert (fingerprint({"a": one}) == fingerprint({"a": two})) == (one == two)
    assert fingerprint([one, two]) != fingerprint([[one], two])


def test_nan_has_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="JSON"):
        fingerprint(float("nan"))


def test_contents_are_remembered_until_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"one")
    memory = ContentMemory(tmp_path / "memory.json")
    first = memory.of(path)
    memory.save()
    assert ContentMemory(tmp_path / "memory.json").of(path) == first == file_fingerprint(path)
    path.write_bytes(b"two!")
    assert ContentMemory(tmp_path / "memory.json").of(path) == file_fingerprint(path) != first


def test_verify_hashes_again(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"one")
    memory = ContentMemory(tmp_path / "memory.json")
    memory.of(path)
    memory.save()
    status = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert ContentMemory(tmp_path / "memory.json", verify=True).of(path) == file_fingerprint(path)


def test_a_damaged_memory_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "memory.json").write_text("{")
    (tmp_path / "data").write_bytes(b"x")
    assert ContentMemory(tmp_path / "memory.json").of(tmp_path / "data") == file_fingerprint(tmp_path / "data")


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    assert (tmp_path / "a.json").read_text() == '{\n "x": 1\n}'
