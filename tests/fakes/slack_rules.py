"""What Slack takes and what it refuses in a message: shapes, limits and escaping. Pure.

Stricter than the real one in one thing: text that is not escaped is refused ("unescaped"), because a
real `<!channel>` from a label would be accepted there, and wake everybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_CONTROL = re.compile(
    r"<(?:"
    r"!date\^\d{1,11}\^[^<>|^]+(?:\^https?://[^<>|]+)?\|[^<>|]+"
    r"|!(?:here|channel|everyone)(?:\|[^<>|]*)?"
    r"|!subteam\^S[A-Z0-9]+(?:\|[^<>|]*)?"
    r"|@[UW][A-Z0-9]+(?:\|[^<>|]*)?"
    r"|#C[A-Z0-9]+(?:\|[^<>|]*)?"
    r"|(?:https?://|mailto:)[^<>|\s]+(?:\|[^<>|]*)?"
    r")>"
)
_ENTITY = re.compile(r"&(?:amp|lt|gt);")
_COLOUR = re.compile(r"good|warning|danger|#[0-9a-fA-F]{6}|[0-9a-fA-F]{6}")
_TEXT_KEYS = {"mrkdwn": {"type", "text", "verbatim"}, "plain_text": {"type", "text", "emoji"}}
_BLOCK_KEYS = {
    "section": {"text", "fields", "accessory", "expand"},
    "header": {"text"},
    "context": {"elements"},
    "actions": {"elements"},
    "divider": set[str](),
    "image": {"image_url", "slack_file", "alt_text", "title"},
}


class RefusalError(Exception):
    """`code` is the API's own word."""

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        super().__init__(f"{code}: {detail}")


def check_message(text: str, blocks: Any, attachments: Any, *, editing: bool = False) -> None:
    """Raise the RefusalError that Slack would give. `editing`: chat.update takes 4000 characters of text."""
    if not text and not blocks and not attachments:
        raise RefusalError("no_text")
    if editing and len(text) > 4000:
        raise RefusalError("msg_too_long")
    check_escaping(text)
    total = check_blocks(blocks or [])
    if not isinstance(attachments or [], list):
        raise RefusalError("invalid_attachments", "no list")
    if len(attachments or []) > 100:
        raise RefusalError("too_many_attachments")
    for attachment in attachments or []:
        if not isinstance(attachment, dict) or attachment.keys() - {"color", "blocks", "fallback", "text"}:
            raise RefusalError("invalid_attachments", f"keys of {attachment!r:.100}")
        if "color" in attachment and not _COLOUR.fullmatch(str(attachment["color"])):
            raise RefusalError("invalid_attachments", f"color {attachment['color']!r}")
        for key in ("fallback", "text"):
            check_escaping(str(attachment.get(key, "")))
        total += check_blocks(attachment.get("blocks", []))
    if total > 13_000:
        raise RefusalError("msg_blocks_too_long", f"{total} characters")


def check_blocks(blocks: Any) -> int:
    """Characters of text in all of them."""
    if not isinstance(blocks, list):
        raise RefusalError("invalid_blocks_format")
    if len(blocks) > 50:
        raise RefusalError("invalid_blocks", "more than 50")
    ids = [block["block_id"] for block in blocks if isinstance(block, dict) and "block_id" in block]
    if len(ids) != len(set(ids)) or any(not isinstance(i, str) or not 0 < len(i) <= 255 for i in ids):
        raise RefusalError("invalid_blocks", "block_id")
    return sum(_block(block) for block in blocks)


def check_escaping(text: str) -> None:
    """Outside of control sequences there is no "<", ">" or "&" but as an entity."""
    rest = _ENTITY.sub("", _CONTROL.sub("", text))
    if "<" in rest or ">" in rest or "&" in rest:
        raise RefusalError("unescaped", text[:200])


def texts(blocks: Any) -> Iterator[str]:
    """Every text in blocks, however deep."""
    if isinstance(blocks, dict):
        if isinstance(blocks.get("text"), str):
            yield blocks["text"]
        for value in blocks.values():
            yield from texts(value)
    elif isinstance(blocks, list):
        for entry in blocks:
            yield from texts(entry)


def pings(text: str) -> list[str]:
    """Whom a text would notify."""
    return re.findall(r"<(!(?:here|channel|everyone)|!subteam\^S[A-Z0-9]+|@[UW][A-Z0-9]+)", text)


def _block(block: Any) -> int:
    if not isinstance(block, dict) or block.get("type") not in _BLOCK_KEYS:
        raise RefusalError("invalid_blocks", f"no block: {block!r:.100}")
    kind = block["type"]
    if block.keys() - _BLOCK_KEYS[kind] - {"type", "block_id"}:
        raise RefusalError("invalid_blocks", f"keys of {kind}")
    if kind == "section":
        return _section(block)
    if kind == "header":
        return _text(block.get("text"), 150, {"plain_text"})
    if kind == "context":
        return _elements(block, 10, _context_element)
    if kind == "actions":
        return _elements(block, 25, _button)
    if kind == "image":
        return _image(block)
    return 0


def _section(block: dict[str, Any]) -> int:
    fields = block.get("fields")
    if "text" not in block and not fields:
        raise RefusalError("invalid_blocks", "section without text and fields")
    total = _text(block["text"], 3000) if "text" in block else 0
    if fields is not None:
        if not isinstance(fields, list) or not 1 <= len(fields) <= 10:
            raise RefusalError("invalid_blocks", "fields: 1 to 10")
        total += sum(_text(field, 2000) for field in fields)
    if "accessory" in block:
        total += _button(block["accessory"])
    return total


def _elements(block: dict[str, Any], most: int, check: Any) -> int:
    elements = block.get("elements")
    if not isinstance(elements, list) or not 1 <= len(elements) <= most:
        raise RefusalError("invalid_blocks", f"elements: 1 to {most}")
    total = 0
    for element in elements:
        total += check(element)
    return total


def _context_element(element: Any) -> int:
    if isinstance(element, dict) and element.get("type") == "image":
        return _image(element)
    return _text(element, 3000)


def _button(element: Any) -> int:
    if not isinstance(element, dict) or element.get("type") != "button":
        raise RefusalError("invalid_blocks", "only buttons are played here")
    if element.keys() - {"type", "text", "action_id", "value", "url", "style", "confirm"}:
        raise RefusalError("invalid_blocks", "keys of button")
    for key, most in (("action_id", 255), ("value", 2000), ("url", 3000)):
        if len(str(element.get(key, ""))) > most:
            raise RefusalError("invalid_blocks", key)
    return _text(element.get("text"), 75, {"plain_text"})


def _image(block: dict[str, Any]) -> int:
    alt = block.get("alt_text")
    if not isinstance(alt, str) or not 0 < len(alt) <= 2000:
        raise RefusalError("invalid_blocks", "alt_text")
    if ("image_url" in block) == ("slack_file" in block):
        raise RefusalError("invalid_blocks", "image: one of image_url and slack_file")
    return len(alt)


def _text(text: Any, most: int, kinds: set[str] | None = None) -> int:
    if not isinstance(text, dict) or text.get("type") not in (kinds or set(_TEXT_KEYS)):
        raise RefusalError("invalid_blocks", f"no text object: {text!r:.100}")
    if text.keys() - _TEXT_KEYS[text["type"]]:
        raise RefusalError("invalid_blocks", "keys of text object")
    content = text.get("text")
    if not isinstance(content, str) or not 0 < len(content) <= most:
        raise RefusalError("invalid_blocks", f"text: 1 to {most} characters")
    check_escaping(content)
    return len(content)
