"""A server on loopback that answers as the Hugging Face Hub does, for one data set, me/data."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT, REVISION = "c0ffee" * 6 + "beef", "v1"


class Hub:
    """Its files are those of a folder, at the branch main and the tag v1; `requests` has the method and path of each.

    fault: (method, path) → an HTTP code, or 0; an answer 429 asks to wait for no time at all.
    """

    def __init__(self, folder: Path, fault: Callable[[str, str], int] = lambda method, path: 0) -> None:
        self.folder, self.fault, self.requests = folder, fault, []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = "http://{}:{}".format(*self._server.server_address)

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(handler.path).path)
        self.requests.append((handler.command, path))
        if code := self.fault(handler.command, path):
            send(handler, code, b"", {"Retry-After": "0"} if code == 429 else {})
        elif path in ("/api/datasets/me/data", *(f"/api/datasets/me/data/revision/{r}" for r in ("main", REVISION))):
            send(handler, 200, json.dumps({"id": "me/data", "sha": COMMIT}).encode())
        elif path.startswith(tree := f"/api/datasets/me/data/tree/{COMMIT}"):
            send(handler, 200, json.dumps(self._list(path.removeprefix(tree).strip("/"))).encode())
        elif path.startswith(files := f"/datasets/me/data/resolve/{COMMIT}/") and self._has(path.removeprefix(files)):
            content = (self.folder / path.removeprefix(files)).read_bytes()
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
            send(handler, 200, content, headers)
        else:
            code = "EntryNotFound" if "/resolve/" in path else "RepoNotFound"
            send(handler, 404, b"", {"X-Error-Code": code})

    def _has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def _list(self, below: str) -> list[dict]:
        found = sorted(path for path in (self.folder / below).rglob("*") if path.is_file())
        names = [path.relative_to(self.folder).as_posix() for path in found]
        return [
            {"type": "file", "path": name, "size": path.stat().st_size, "oid": hashlib.sha1(name.encode()).hexdigest()}
            for name, path in zip(names, found, strict=True)
        ]


@contextlib.contextmanager
def hub_of(folder: Path, monkeypatch) -> Iterator[Hub]:
    """The stand-in with a folder's files, to which this process's clients go, without patience."""
    from huggingface_hub import constants

    from shardify.storage import attempts

    monkeypatch.setattr(attempts, "BOUNDS", attempts.Bounds(connect=0.5, request=0.5, tries=3, total=3))
    with Hub(folder) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub


def send(handler: BaseHTTPRequestHandler, code: int, content: bytes, headers: dict[str, str] | None = None) -> None:
    handler.send_response_only(code)
    for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(content)
