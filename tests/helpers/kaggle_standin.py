"""A stand-in for Kaggle's service, as far as the real client needs it to make datasets, on a port of this machine."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from click.testing import CliRunner, Result

from shardify.cli.main import main

NAMED = ("--id", "somebody/small-shards", "--title", "Small shards")
OLD = "2020-01-01T00:00:00Z"


def call(*arguments: object) -> Result:
    """`shardify kaggle` with these arguments."""
    return CliRunner().invoke(main, ["kaggle", *map(str, arguments)])


class StandIn:
    """Datasets, what was sent for them, and the faults that a test asks for."""

    def __init__(self) -> None:
        self.datasets: dict[str, list[dict[str, bytes]]] = {}  # owner/slug → versions → file name → bytes
        self.created: list[dict] = []  # bodies of the requests that made a dataset or a version
        self.received = Counter()  # file name → bytes that came over the wire
        self.refused: set[str] = set()  # file names that the blob store answers with 500
        self.cut: dict[str, int] = {}  # file name → bytes after which the store says "incomplete", once
        self.lost: set[str] = set()  # file names that never reach the dataset
        self.unpacks = True
        self.answers: dict[str, tuple[int, dict]] = {}  # remote call → status and answer, in place of the usual ones
        self.statuses: list[str] = []  # that come before READY
        self.lag = 0  # looks at the version number for which the one before the newest still stands
        self.calls = Counter()
        self._blobs: dict[str, tuple[str, int, bytearray]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def call(self, method: str, body: dict) -> tuple[int, dict]:
        """Status and answer of one remote call."""
        self.calls[method] += 1
        if method in self.answers:
            return self.answers[method]
        ref = f"{body.get('ownerSlug')}/{body.get('datasetSlug') or body.get('slug')}"
        if method == "StartBlobUpload":
            token = f"blob-{len(self._blobs)}"
            self._blobs[token] = (body["name"], body["contentLength"], bytearray())
            return 200, {"token": token, "createUrl": f"{self.url}/blob/{token}"}
        if method in ("CreateDataset", "CreateDatasetVersion"):
            body = {**body, **body.get("body", {})}
            self.created.append(body)
            files = {self._blobs[file["token"]][0]: bytes(self._blobs[file["token"]][2]) for file in body["files"]}
            kept = {name: content for name, content in self._unpack(files).items() if name not in self.lost}
            self.datasets.setdefault(ref, []).append(kept)
            return 200, {"ref": ref, "status": "ok", "url": f"https://www.kaggle.com/datasets/{ref}"}
        if ref not in self.datasets:
            return 404, {"code": 404, "message": f"{ref} is not here"}
        if method == "GetDatasetStatus":
            return 200, {"status": self.statuses.pop(0) if self.statuses else "READY"}
        shown = max(1, len(self.datasets[ref]) - (self.lag > 0))
        if method == "GetDataset":
            self.lag -= 1
            return 200, {"ref": ref, "lastUpdated": OLD, "currentVersionNumber": shown}
        assert method == "ListDatasetFiles", method
        contents = self.datasets[ref][shown - 1]
        names = sorted(contents)
        start, count = int(body.get("pageToken") or 0), min(body["pageSize"], 40)
        files = [
            {"name": name, "totalBytes": len(contents[name]), "creationDate": OLD}
            for name in names[start : start + count]
        ]
        more = {"nextPageToken": str(start + count)} if start + count < len(names) else {}
        return 200, {"datasetFiles": files, **more}

    def store(self, token: str, content_range: str | None, content: bytes) -> tuple[int, dict[str, str]]:
        """Status and headers of one request to the blob store, which follows Google's resumable uploads."""
        name, length, blob = self._blobs[token]
        self.received[name] += len(content)
        if name in self.refused:
            return 500, {}
        if name in self.cut:
            blob += content[: self.cut.pop(name)]
            return 503, {}
        if content_range is None:
            blob.clear()
        blob += content
        if len(blob) == length:
            return 200, {}
        return 308, {"Range": f"bytes=0-{len(blob) - 1}"} if blob else {}

    def _unpack(self, files: dict[str, bytes]) -> dict[str, bytes]:
        if not self.unpacks:
            return files
        found = {}
        for name, content in files.items():
            if not name.endswith(".tar"):
                found[name] = content
                continue
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                members = {f"{name[:-4]}/{member.name}": tar.extractfile(member).read() for member in tar}
            found |= members
        return found

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        standin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self._body() or b"{}")
                status, answer = standin.call(self.path.rsplit("/", 1)[1], body)
                self._answer(status, {"Content-Type": "application/json"}, json.dumps(answer).encode())

            def do_PUT(self) -> None:
                content = self._body()
                self._answer(*standin.store(self.path.rsplit("/", 1)[1], self.headers["Content-Range"], content), b"")

            def _body(self) -> bytes:
                if self.headers["Transfer-Encoding"] != "chunked":
                    return self.rfile.read(int(self.headers["Content-Length"] or 0))
                chunks = []
                while size := int(self.rfile.readline(), 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(chunks)

            def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments) -> None:
                pass

        return Handler
