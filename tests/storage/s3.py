"""A real S3 server (moto, on a free loopback port) and a proxy before it that can throttle, cut, reset and be away.

The proxy speaks HTTP/1.1 with kept connections. It damages no byte: what it passes on, it passes on as it is. Faults
come by count, not by chance, so a test that fails fails again.
"""

import contextlib
import http.client
import socket
import struct
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ACCESS_KEY, SECRET_KEY = "AKIATESTTESTTESTTEST", "wJalrXUtnFEMI-made-up-for-this-test"
SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.'
    b"</Message></Error>"
)


@dataclass
class Fault:
    """Every so manieth request of some kind goes wrong in one way."""

    kind: str
    """`throttle` (503), `internal` (500), `cut` (half of a body), `reset` (no answer), `lost` (done, but no answer)."""
    every: int = 3
    methods: tuple[str, ...] = ("GET", "PUT", "POST", "HEAD", "DELETE")
    containing: str = ""
    """Only requests whose path holds this."""
    times: int = 10**9
    seen: int = 0
    done: int = 0

    def strikes(self, method: str, path: str) -> bool:
        """Whether this request goes wrong."""
        if method not in self.methods or self.containing not in path or self.done >= self.times:
            return False
        self.seen += 1
        if self.seen % self.every:
            return False
        self.done += 1
        return True


class FaultyProxy:
    """Passes requests on to a server; a thread a connection."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._leave_at: int | None = None
        self._away_seconds = 0.0
        self.faults: list[Fault] = []
        self.requests: Counter[str] = Counter()
        self._serve()

    @property
    def endpoint(self) -> str:
        """What clients are told."""
        return f"http://127.0.0.1:{self.port}"

    def struck(self, kind: str) -> int:
        """How many requests have gone wrong in this way."""
        return sum(fault.done for fault in self.faults if fault.kind == kind)

    def _serve(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # closed: away, or the end
            while True:
                connection, _ = listener.accept()
                with self._lock:
                    self._open.add(connection)
                threading.Thread(target=self._connection, args=(connection,), daemon=True).start()

    def _connection(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as incoming:
                while self._request(connection, incoming):
                    pass
        except (OSError, http.client.HTTPException):
            pass  # the client went away, or we did
        finally:
            with self._lock:
                self._open.discard(connection)

    def _request(self, connection: socket.socket, incoming: Any) -> bool:
        line = incoming.readline()
        if not line:
            return False
        method, path, _ = line.decode("latin-1").split(" ", 2)
        headers = http.client.parse_headers(incoming)
        if headers.get("Expect", "").lower() == "100-continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self._body(headers, incoming)
        with self._lock:
            self.requests[method] += 1
            fault = next((fault for fault in self.faults if fault.strikes(method, path)), None)
            leaving = self._leave_at is not None and self.requests.total() >= self._leave_at
        if leaving:
            self._go()
            return False
        kind = fault.kind if fault else ""
        if kind == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if kind in ("throttle", "internal"):
            status = b"503 Slow Down" if kind == "throttle" else b"500 Internal Server Error"
            text = SLOW_DOWN if kind == "throttle" else SLOW_DOWN.replace(b"SlowDown", b"InternalError")
            text = b"" if method == "HEAD" else text
            connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text))
            return True
        status_line, answer, data = self._passed_on(method, path, headers, body)
        if kind == "lost":
            return False
        head = "".join(f"{name}: {value}\r\n" for name, value in answer).encode("latin-1")
        connection.sendall(status_line + head + b"\r\n" + (data[: len(data) // 2] if kind == "cut" else data))
        return kind != "cut"

    @staticmethod
    def _body(headers: Any, incoming: Any) -> bytes:
        if headers.get("Transfer-Encoding", "").lower() == "chunked":
            pieces = []
            while size := int(incoming.readline().split(b";")[0], 16):
                pieces.append(incoming.read(size))
                incoming.readline()
            while incoming.readline().strip():
                pass
            return b"".join(pieces)
        return incoming.read(int(headers.get("Content-Length", 0)))  # type: ignore[no-any-return]

    def _passed_on(
        self, method: str, path: str, headers: Any, body: bytes
    ) -> tuple[bytes, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(*self._upstream, timeout=60)
        skipped = ("expect", "transfer-encoding", "connection", "content-length")
        passed = {name: value for name, value in headers.items() if name.lower() not in skipped}
        upstream.request(method, path, body=body, headers=passed | {"Content-Length": str(len(body))})
        response = upstream.getresponse()
        data = response.read()
        answer = [(name, value) for name, value in response.getheaders() if name.lower() not in skipped]
        length = response.getheader("Content-Length") if method == "HEAD" else str(len(data))
        upstream.close()
        line = f"HTTP/1.1 {response.status} {response.reason}\r\n".encode("latin-1")
        return line, [*answer, ("Content-Length", length or "0")], data

    def leave(self) -> None:
        """Refuse connections, and end those that are open."""
        # shutdown wakes the thread in accept, which would keep the port open otherwise
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def come_back(self) -> None:
        """Listen again, at the same port."""
        if self._listener.fileno() != -1:
            return
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._serve()

    def away_for(self, seconds: float, *, after: int = 0) -> None:
        """Leave at the request after so many more, and come back by itself."""
        self._leave_at = self.requests.total() + after + 1
        self._away_seconds = seconds
        if not after:
            self._go()

    def _go(self) -> None:
        self._leave_at = None
        self.leave()
        timer = threading.Timer(self._away_seconds, self.come_back)
        timer.daemon = True
        timer.start()


class Store:
    """A bucket on the server, and the proxy through which everybody but this object reaches it."""

    def __init__(self, direct: str, proxy: FaultyProxy) -> None:
        import boto3

        self.proxy = proxy
        self.bucket = f"test-{uuid.uuid4().hex[:12]}"
        self.client = boto3.client(
            "s3", endpoint_url=direct, region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
        )  # fmt: skip
        self.client.create_bucket(Bucket=self.bucket)

    def url(self, key: str) -> str:
        """The URL of a key."""
        return f"s3://{self.bucket}/{key}"

    def put(self, key: str, data: bytes) -> None:
        """Write an object past the proxy."""
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        """An object's bytes, past the proxy."""
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()  # type: ignore[no-any-return]

    def keys(self, prefix: str = "") -> list[str]:
        """The names of the objects, sorted."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return sorted(item["Key"] for page in pages for item in page.get("Contents", ()))

    def unfinished_uploads(self) -> int:
        """Multipart uploads that were begun and neither completed nor aborted."""
        return len(self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ()))


@contextlib.contextmanager
def server() -> Iterator[tuple[str, FaultyProxy]]:
    """The server's own address, and the proxy before it."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    proxy = FaultyProxy(host, port)
    try:
        yield f"http://{host}:{port}", proxy
    finally:
        proxy.leave()
        moto.stop()


def environment(proxy: FaultyProxy) -> dict[str, str]:
    """What a process needs to reach the store through the proxy; no file holds it."""
    return {
        "AWS_ENDPOINT_URL": proxy.endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "2",  # of botocore's own: ours are what is tested
    }
