"""The dashboard's files, read once: served with an ETag, compressed ahead, and with HEAD and 304."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
from pathlib import Path

from aiohttp import web

from agent.collector.web.parts import refuse

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    body: bytes
    packed: bytes
    etag: str
    kind: str


class Files:
    """Everything below `static` whose type we know, by its path with slashes; nothing else is ever read."""

    def __init__(self, folder: Path = STATIC) -> None:
        self._files = {
            path.relative_to(folder).as_posix(): load(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix in TYPES
        }

    def named(self, name: str) -> File:
        """Raises KeyError for what is not there."""
        return self._files[name]

    async def static(self, request: web.Request) -> web.Response:
        try:
            file = self.named(request.match_info["name"])
        except KeyError:
            refuse(404, "not_found", "no such file")
        return respond(request, file)

    async def shell(self, request: web.Request) -> web.Response:
        """The one page; its script shows what the path asks for."""
        return respond(request, self.named("index.html"))


def load(path: Path) -> File:
    body = path.read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return File(body, gzip.compress(body, 9, mtime=0), etag, TYPES[path.suffix])


def respond(request: web.Request, file: File) -> web.Response:
    """Kept by the browser, but asked for again each time: an upgrade is seen at once."""
    headers = {"ETag": file.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding", "Content-Type": file.kind}
    if file.etag in matches(request):
        del headers["Content-Type"]
        return web.Response(status=304, headers=headers)
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return web.Response(body=file.packed, headers=headers)
    return web.Response(body=file.body, headers=headers)


def matches(request: web.Request) -> set[str]:
    """The ETags of If-None-Match; a weak one is as good, for bytes that are compressed on the way."""
    return {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
