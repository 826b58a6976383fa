"""The S3 server of these tests, started once, and a fresh bucket for each test."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("curate_tests_s3", Path(__file__).parent / "s3.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


s3 = _load()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, Any]]:
    """The server's own address, and the proxy before it."""
    pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    os.environ["MOTO_S3_DEFAULT_MAX_KEYS"] = "100"  # pages of listings
    with s3.server() as (direct, proxy):
        yield direct, proxy


@pytest.fixture
def store(s3_server: tuple[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A fresh bucket without faults; the environment names the proxy, and copies go to this test's folder."""
    from s3fs import S3FileSystem

    direct, proxy = s3_server
    proxy.faults.clear()
    proxy.requests.clear()
    for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_"))]:
        monkeypatch.delenv(name)
    for name, value in s3.environment(proxy).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))
    S3FileSystem.clear_instance_cache()  # a file system remembers where it was made for
    yield s3.Store(direct, proxy)
    proxy.faults.clear()
    proxy.come_back()
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def fault() -> Any:
    """The class of faults: `store.proxy.faults.append(fault("cut", every=2))`."""
    return s3.Fault
