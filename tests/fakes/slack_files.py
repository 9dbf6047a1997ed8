"""The stand-in as one that takes files: where to send the bytes, the bytes, and who may see them then."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.fakes.slack import FakeSlack
from tests.fakes.slack_rules import RefusalError


@dataclass
class Upload:
    """`shared` is True from completeUploadExternal on; a second one of the same file is refused."""

    id: str
    name: str
    length: int
    body: bytes = b""
    title: str = ""
    channel: str = ""
    thread_ts: str | None = None
    shared: bool = False


class FakeFiles(FakeSlack):
    """`upload_status` other than 200 is what sending the bytes is answered with."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.scopes |= {"files:write"}
        self.uploads: dict[str, Upload] = {}
        self.upload_status = 200

    def pictures(self, channel: str) -> list[Upload]:
        """What people see, in order."""
        wanted = self._find(channel).id
        return [upload for upload in self.uploads.values() if upload.shared and upload.channel == wanted]

    def _add_routes(self, app: web.Application) -> None:
        super()._add_routes(app)
        app.router.add_post("/upload/{file}", self._receive)

    def _method(self, name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        own = {"files.getUploadURLExternal": self._place, "files.completeUploadExternal": self._complete}
        return own.get(name) or super()._method(name)

    def _place(self, arguments: dict[str, Any]) -> dict[str, Any]:
        name, length = str(arguments.get("filename") or ""), int(arguments.get("length") or 0)
        if not name or length <= 0:
            raise RefusalError("invalid_arguments")
        file = Upload(f"F{len(self.uploads) + 1:08d}", name, length)
        self.uploads[file.id] = file
        return {"file_id": file.id, "upload_url": self.url.replace("/api/", f"/upload/{file.id}")}

    async def _receive(self, request: web.Request) -> web.Response:
        file, body = self.uploads[request.match_info["file"]], await request.read()
        if self.upload_status != 200:
            return web.Response(status=self.upload_status, text="Something went wrong")
        if len(body) != file.length:
            return web.Response(status=400, text="length")
        file.body = body
        return web.Response(text=f"OK - {len(body)}")

    def _complete(self, arguments: dict[str, Any]) -> dict[str, Any]:
        files = arguments.get("files")
        files = json.loads(files) if isinstance(files, str) else files
        if not isinstance(files, list) or len(files) != 1 or files[0].keys() - {"id", "title"}:
            raise RefusalError("invalid_arguments")
        file = self.uploads.get(files[0].get("id", ""))
        if file is None or file.shared or not file.body:
            raise RefusalError("file_not_found")
        channel = self._channels.get(str(arguments.get("channel_id")))
        if channel is None:
            raise RefusalError("channel_not_found")
        if not channel.member:
            raise RefusalError("not_in_channel")
        thread = arguments.get("thread_ts")
        if thread is not None and not any(said.ts == thread for said in channel.said):
            raise RefusalError("thread_not_found")
        file.title, file.channel, file.thread_ts, file.shared = str(files[0].get("title", "")), channel.id, thread, True
        return {"files": [{"id": file.id, "title": file.title}]}
