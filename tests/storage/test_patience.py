"""What passes by itself is tried again, what does not is said at once, and no wait is without an end."""

import errno
import http.client
import time

import aiohttp
import botocore.exceptions
import pytest

from curate.errors import InputError, StorageError
from curate.storage import is_transient, retried


def answered(code: str, status: int) -> botocore.exceptions.ClientError:
    parts = {"Error": {"Code": code, "Message": "said"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.exceptions.ClientError(parts, "GetObject")  # type: ignore[arg-type]


def because(cause: Exception) -> OSError:
    error = OSError(errno.EIO, "as s3fs says it")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(errno.ECONNRESET, "reset"),
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        TimeoutError("timed out"),
        OSError(errno.ESTALE, "Stale file handle"),
        http.client.IncompleteRead(b"abc", 10),
        botocore.exceptions.EndpointConnectionError(endpoint_url="http://h"),
        botocore.exceptions.ConnectionClosedError(endpoint_url="http://h"),
        botocore.exceptions.ReadTimeoutError(endpoint_url="http://h"),
        botocore.exceptions.ConnectTimeoutError(endpoint_url="http://h"),
        aiohttp.ClientPayloadError("Response payload is not completed"),
        aiohttp.ServerDisconnectedError(),
        answered("SlowDown", 503),
        answered("InternalError", 500),
        answered("RequestTimeout", 400),
        answered("429", 429),
        because(answered("SlowDown", 503)),
        because(answered("503", 503)),
    ],
    ids=repr,
)
def test_it_passes_by_itself(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "gone"),
        PermissionError("Forbidden"),
        OSError(errno.ENOSPC, "full"),
        ValueError("not ours"),
        botocore.exceptions.NoCredentialsError(),
        botocore.exceptions.SSLError(endpoint_url="https://h", error="CERTIFICATE_VERIFY_FAILED"),
        answered("AccessDenied", 403),
        answered("NoSuchKey", 404),
        answered("NoSuchBucket", 404),
        because(answered("InvalidAccessKeyId", 403)),
        InputError("wrong"),
        StorageError("waited for already"),
    ],
    ids=repr,
)
def test_it_does_not_pass(error: Exception) -> None:
    assert not is_transient(error)


def test_an_operation_is_tried_again_until_it_succeeds() -> None:
    tries = []

    def operation() -> str:
        tries.append(1)
        if len(tries) < 4:
            raise ConnectionResetError
        return "done"

    assert retried(operation, "s3://b/k") == "done" and len(tries) == 4


def test_what_does_not_pass_is_raised_at_once() -> None:
    tries = []

    def operation() -> None:
        tries.append(1)
        raise FileNotFoundError("k")

    with pytest.raises(FileNotFoundError):
        retried(operation, "s3://b/k")
    assert len(tries) == 1


def test_patience_has_an_end_and_says_what_to_do_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_STORAGE_PATIENCE", "0.5")
    began = time.monotonic()

    def operation() -> None:
        raise ConnectionResetError(errno.ECONNRESET, "reset by https://u:secret99@h")

    with pytest.raises(StorageError, match=r"https://\*\*\*@h/k: storage did not answer .* run the same command again"):
        retried(operation, "https://u:secret99@h/k")
    assert 0.4 < time.monotonic() - began < 5


def test_a_patience_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_STORAGE_PATIENCE", "long")
    with pytest.raises(StorageError, match="CURATE_STORAGE_PATIENCE is 'long'; give a number of seconds"):
        retried(lambda: None, "s3://b/k")
