"""A model hub on this machine: folders served under the published names, by the protocol of the real one.

What a user downloads, `huggingface_hub` and `datasets` download from here, into a cache of their own: metadata, file
lists, redirections and etags are those that the clients ask for. Start it, and give its address as ``HF_ENDPOINT``
before those libraries are imported.
"""

import json
import re
from collections.abc import Collection
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar
from urllib.parse import unquote, urlsplit

REVISION = "0" * 40
_FILE = re.compile(r"/(?:(datasets)/)?([\w.-]+/[\w.-]+)/resolve/[^/]+/(.+)")
_INFO = re.compile(
    r"/api/(models|datasets)/([\w.-]+/[\w.-]+)(?:/(revision|tree|paths-info|refs|auth-check)(?:/([^/]+))?(?:/(.+))?)?"
)


class Hub:
    """Serves ``folder/models/<owner>/<name>`` and ``folder/datasets/<owner>/<name>``; a context manager.

    Args:
        folder: What it serves.
        gated: Names that it gives to nobody.

    Attributes:
        url: For ``HF_ENDPOINT``.
        asked: Every (repository, file) that was downloaded or looked up, in order; what is missing included.
    """

    def __init__(self, folder: Path, gated: Collection[str] = ()):
        self.asked: list[tuple[str, str]] = []
        handler = type("Handler", (_Handler,), {"folder": Path(folder), "asked": self.asked, "gated": gated})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Hub":
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: ClassVar[Path]
    asked: ClassVar[list]
    gated: ClassVar[Collection[str]]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(posted=self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def log_message(self, *_) -> None:
        pass

    def _answer(self, body: bool = True, posted: bytes = b"") -> None:
        path = unquote(urlsplit(self.path).path)
        if match := _FILE.fullmatch(path):
            kind, name, file = match.groups()
            return self._file(kind or "models", name, file, body)
        if match := _INFO.fullmatch(path):
            kind, name, question, _, inside = match.groups()
            repository = self.folder / kind / name
            if not repository.is_dir():
                return self._missing("RepoNotFound")
            if question == "auth-check":
                return self._missing("GatedRepo") if name in self.gated else self._json({})
            if question == "tree":
                entries = _entries(repository, repository / (inside or ""))
                return self._json(entries) if entries is not None else self._missing("EntryNotFound")
            if question == "paths-info":
                wanted = json.loads(posted).get("paths", [])
                found = [_entry(repository, repository / p) for p in wanted if (repository / p).exists()]
                return self._json(found)
            if question == "refs":
                return self._json({"branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": REVISION}],
                                   "tags": [], "converts": []})  # fmt: skip
            siblings = [{"rfilename": f["path"]} for f in _entries(repository, repository) if f["type"] == "file"]
            return self._json(
                {"id": name, "sha": REVISION, "siblings": siblings, "private": False, "gated": False, "tags": []}
            )
        return self._missing("EntryNotFound")

    def _file(self, kind: str, name: str, file: str, body: bool) -> None:
        repository = self.folder / kind / name
        self.asked.append((name, file))
        if not repository.is_dir():
            return self._missing("RepoNotFound")
        path = repository / file
        if not path.is_file():
            return self._missing("EntryNotFound")
        content = path.read_bytes()
        headers = {"ETag": f'"{_digest(content)}"', "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"}
        first, last = 0, len(content) - 1
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(wanted[1]), min(last, int(wanted[2] or last))
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._send(206 if wanted else 200, content[first : last + 1], headers, body)

    def _json(self, content) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _missing(self, code: str) -> None:
        self._send(404, b"", {"X-Error-Code": code, "X-Error-Message": "not here", "X-Repo-Commit": REVISION})

    def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool = True) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(content)


def _entries(repository: Path, folder: Path) -> list[dict] | None:
    return [_entry(repository, p) for p in sorted(folder.rglob("*"))] if folder.is_dir() else None


def _entry(repository: Path, path: Path) -> dict:
    name = path.relative_to(repository).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": _digest(name.encode())}
    return {"type": "file", "path": name, "size": path.stat().st_size, "oid": _digest(path.read_bytes())}


def _digest(content: bytes) -> str:
    """An etag as git's or, of large files, as LFS's."""
    return (sha1 if len(content) < 1 << 20 else sha256)(content).hexdigest()
