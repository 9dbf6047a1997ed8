"""Answers to people in Slack as messages, pure: a title, lines, and at times buttons; cut to length and escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.alerting.figure import counted
from agent.slack.blocks import Message
from agent.slack.text import escape

MOST_LINES = 400
LINE = 500
"""Characters of a line, once escaped."""
_PER_SECTION = 2800
_ALL = 10_000
"""Characters of all sections together; a message takes about 13 000."""


def answer(title: str, lines: Sequence[str] = (), *, code: bool = False, buttons: Sequence[Any] = ()) -> Message:
    """`lines` are plain text, and set in columns with `code`. What does not fit is left out, and that is said."""
    heading = f"*{escape(title, 300)}*"
    blocks: list[dict[str, Any]] = [_section(heading)]
    escaped = [_line(line, code=code) for line in lines[:MOST_LINES]]
    texts, left = _portions(escaped)
    blocks += [_section(f"```{text}```" if code else text) for text in texts]
    left += max(0, len(lines) - MOST_LINES)
    if left:
        cut = {"type": "mrkdwn", "text": f"{counted(left, 'line')} left out"}
        blocks.append({"type": "context", "elements": [cut]})
    if buttons:
        blocks.append({"type": "actions", "elements": list(buttons)})
    first = f": {escaped[0]}" if len(escaped) == 1 else ""
    return Message((escape(title, 300) + first)[:1500] if len(first) < 1000 else escape(title, 300), blocks)


def fits(line: str) -> bool:
    """Whether `answer` shows all of it."""
    return len(escape(line, 5 * len(line) + 1)) <= LINE


def button(text: str, action_id: str, value: str, style: str = "") -> dict[str, Any]:
    label = {"type": "plain_text", "text": text[:75]}
    made: dict[str, Any] = {"type": "button", "text": label, "action_id": action_id, "value": value}
    return made | {"style": style} if style else made


def _portions(lines: Sequence[str]) -> tuple[list[str], int]:
    """Lines joined into texts that fit a section each, and how many lines found no room."""
    texts: list[str] = []
    total = 0
    for index, line in enumerate(lines):
        if total + len(line) + 1 > _ALL:
            return texts, len(lines) - index
        total += len(line) + 1
        if texts and len(texts[-1]) + len(line) + 1 <= _PER_SECTION:
            texts[-1] += "\n" + line
        else:
            texts.append(line)
    return texts, 0


def _line(line: str, *, code: bool) -> str:
    """Never empty, as Slack takes no empty text; three backticks would end the columns."""
    indent = len(line) - len(line.lstrip(" "))
    text = " " * min(indent, 20) + escape(line, LINE)
    return (text.replace("```", "'''") if code else text) or " "


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}
