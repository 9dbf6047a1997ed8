"""A picture into a thread: three calls, of which only the last shows anything.

What goes wrong before it has shown nothing, and may be done again; whether the last one has taken effect may
stay unknown, and is then for the caller to leave alone.
"""

from __future__ import annotations

from typing import Any, Protocol

from agent.errors import AmbiguousError, RetryError
from agent.plugin import Thread


class Call(Protocol):
    """One method of the API; raises the DeliveryError tree."""

    async def __call__(self, method: str, arguments: dict[str, Any], *, json: bool = True) -> dict[str, Any]: ...


async def upload(
    call: Call, png: bytes, *, name: str, title: str, channel: str, thread_ts: str, timeout: float
) -> None:
    """`channel` is an id, `name` the file's; `timeout` for the bytes. AmbiguousError: it may be there."""
    try:
        place = await call("files.getUploadURLExternal", {"filename": name, "length": len(png)}, json=False)
    except AmbiguousError as error:
        raise RetryError(error.code, str(error)) from None
    url = str(place.get("upload_url", ""))
    await Thread("slack-upload").run(lambda: _send(url, png, timeout))
    shared = {"files": [{"id": place.get("file_id", ""), "title": title}], "channel_id": channel}
    await call("files.completeUploadExternal", {**shared, "thread_ts": thread_ts})


def _send(url: str, body: bytes, timeout: float) -> None:
    """Thread side."""
    import http.client  # noqa: PLC0415
    import urllib.request  # noqa: PLC0415

    if not url.startswith(("https://", "http://")):
        raise RetryError("upload_url", "no address to send a file to")
    request = urllib.request.Request(url, body, {"Content-Type": "application/octet-stream"})  # noqa: S310 - checked
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
            answer.read(1000)
    except (OSError, http.client.HTTPException, ValueError) as error:  # an HTTPError is an OSError
        raise RetryError("upload", repr(error)[:200]) from None
