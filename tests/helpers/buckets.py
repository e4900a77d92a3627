"""An S3 server on loopback, buckets in it, and a proxy before it that fails as networks do."""

from __future__ import annotations

import functools
import http.client
import itertools
import socket
import struct
import threading
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from shardify.storage import remote
from shardify.storage.address import Address, place_of

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "top-secret", "AWS_REGION": "us-east-1"}
COUNTER = itertools.count()


@functools.cache
def moto_endpoint() -> str:
    """The address of this process's server, which ends with it."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    return "http://{}:{}".format(*server.get_host_and_port())


def use_endpoint(monkeypatch, endpoint: str) -> None:
    """Let this process's clients go there, with keys."""
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)


def make_bucket(endpoint: str) -> Address:
    """A new, empty bucket, of a name that no client knows yet."""
    name = f"bucket-{next(COUNTER)}"
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT")).close()
    return place_of(f"s3://{name}")


def put_folder(folder: Path, there: Address) -> Address:
    for path in sorted(folder.iterdir()):
        if not path.name.startswith("."):
            remote.write_bytes(there / path.name, path.read_bytes())
    return there


class Proxy:
    """A proxy of which a function says for each request how it fails.

    fault: (method, path, number of the request) → "", an HTTP code, reset, half, short, wrong, hang, or lost: the
    request arrives, its answer does not.
    requests: (method, path, Range) of all that came.
    """

    def __init__(self, endpoint: str, fault: Callable[[str, str, int], str] = lambda method, path, number: "") -> None:
        self.fault, self.requests, self.ending = fault, [], threading.Event()
        self._upstream = urlsplit(endpoint)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy.answer(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

            def log_message(self, *_) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # of clients that have gone
        self.endpoint = "http://{}:{}".format(*self._server.server_address)

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()

    def gets(self, ending: str = "") -> list[tuple[str, str]]:
        """(path, Range) of the GETs of objects whose name ends so."""
        return [(path, part) for method, path, part in self.requests if method == "GET" and path.endswith(ending)]

    def asked(self, path: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
        """The path and headers of a request, as the server is to see them."""
        return path, headers

    def answered(self, headers: dict[str, str]) -> dict[str, str]:
        """The headers of an answer, as the client is to see them."""
        return headers

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        self.requests.append((handler.command, handler.path, handler.headers.get("Range", "")))
        fault = self.fault(handler.command, handler.path, len(self.requests))
        handler.close_connection = fault in ("reset", "half", "hang", "lost")
        if fault == "hang":
            self.ending.wait()
        elif fault == "reset":
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
        elif fault.isdigit():
            self._send(handler, int(fault), {}, b"")
        else:
            self._pass_on(handler, body, fault)

    def _pass_on(self, handler: BaseHTTPRequestHandler, body: bytes, fault: str) -> None:
        upstream = http.client.HTTPConnection(self._upstream.hostname, self._upstream.port)
        path, headers = self.asked(handler.path, dict(handler.headers))
        upstream.request(handler.command, path, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        headers = self.answered(dict(answer.getheaders()))
        headers = {name: value for name, value in headers.items() if name.lower() != "transfer-encoding"}
        upstream.close()
        if fault == "wrong":
            content = bytes(byte ^ 255 for byte in content)
        if fault == "short":
            content = content[: len(content) // 2]
        if handler.command != "HEAD":
            headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
            headers["Content-Length"] = str(len(content))
        if fault != "lost":
            self._send(handler, answer.status, headers, content[: len(content) // 2] if fault == "half" else content)

    def _send(self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], content: bytes) -> None:
        handler.send_response_only(status)
        for name, value in (headers or {"Content-Length": str(len(content))}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)


class GoogleProxy(Proxy):
    """Makes a Google bucket of the server's: conditions of writes are on generations, here numbers made of ETags.

    Source: https://cloud.google.com/storage/docs/xml-api/reference-headers
    """

    def asked(self, path: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
        headers = {name.lower(): value for name, value in headers.items()}
        condition = headers.pop("x-goog-if-generation-match", None)
        if condition == "0":
            headers["if-none-match"] = "*"
        elif condition:
            headers["if-match"] = f'"{int(condition):032x}"'
        headers["authorization"] = "AWS4-HMAC-SHA256 Credential=key/20200101/us-east-1/s3/aws4_request"
        key, mark, query = path.partition("?")
        return unquote(key) + mark + query, headers

    def answered(self, headers: dict[str, str]) -> dict[str, str]:
        etag = next((value for name, value in headers.items() if name.lower() == "etag"), None)
        return headers | ({"x-goog-generation": str(int(etag.strip('"'), 16))} if etag else {})
