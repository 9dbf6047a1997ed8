"""The arguments of a call, however they came: query, form or JSON."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from tests.fakes.slack_rules import RefusalError


async def arguments(request: web.Request) -> dict[str, Any]:
    """Query, form and JSON are all taken, as the real server does."""
    arguments: dict[str, Any] = dict(request.query)
    if request.content_type == "application/json":
        body = await request.text()
        if body:
            arguments.update(json.loads(body))
    else:
        arguments.update(await request.post())
    return arguments


def content(arguments: dict[str, Any]) -> tuple[str, list[Any], list[Any]]:
    text = arguments.get("text") or ""
    if not isinstance(text, str):
        raise RefusalError("invalid_arguments", "text")
    return text, parsed(arguments, "blocks"), parsed(arguments, "attachments")


def parsed(arguments: dict[str, Any], key: str) -> Any:
    """A form carries structures as JSON text."""
    value = arguments.get(key) or []
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise RefusalError(f"invalid_{key}_format" if key == "blocks" else f"invalid_{key}") from None
    return value


def metadata(arguments: dict[str, Any]) -> dict[str, Any] | None:
    value = parsed(arguments, "metadata") or None
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("event_type"), str) or not value["event_type"]:
        raise RefusalError("invalid_metadata_format")
    if not isinstance(value.get("event_payload"), dict):
        raise RefusalError("invalid_metadata_format")
    return value


def truth(value: Any) -> bool:
    return value in (True, 1, "1", "true", "True")
