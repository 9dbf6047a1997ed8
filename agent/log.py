"""Logging: one plain line `LEVEL message key=value …` per event on stderr, for people and the journal."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_PLAIN = re.compile(r"[\w./:@%+,<>*#~-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_TOKEN = re.compile(r"\bx(?:ox[a-z]|app)-[\w-]{6,}")

WINDOW = 60.0
"""Seconds over which `BoundedStream` lets `ALLOWED` bytes through."""
ALLOWED = 8 * 1024


class LineFormatter(logging.Formatter):
    """`WARNING probe failed probe=disk error="no such file"`; a traceback follows, indented.

    `journal`: every line starts with the level as systemd reads it (`<4>`), and the level's name is
    left out. Anything that looks like a Slack token is masked, wherever it came from.
    """

    def __init__(self, *, journal: bool = False) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        parts = [record.getMessage()]
        parts += [f"{key}={_quoted(value)}" for key, value in vars(record).items() if key not in _KNOWN]
        lines = [" ".join(parts).replace("\n", "\\n")]
        if record.exc_info:
            told = self.formatException(record.exc_info).split("\n")  # an error may say what a stranger has sent
            lines += [f"  {_CONTROL.sub(_spelled, line)}" for line in told]
        lines = [_TOKEN.sub("xox…", line) for line in lines]
        if self._journal:
            prefix = next((f"<{number}>" for level, number in _PRIORITIES if record.levelno >= level), "<7>")
            return "\n".join(prefix + line for line in lines)
        return f"{record.levelname} " + "\n".join(lines)


def _quoted(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    if _PLAIN.fullmatch(text):
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + _CONTROL.sub(_spelled, text) + '"'


def _spelled(found: re.Match[str]) -> str:
    """What would move a terminal's cursor, or turn a line around, as its code."""
    return f"\\u{ord(found[0]):04x}"


def setup(level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send all logging to `stream` (stderr), replacing what was set up before."""
    target = stream if stream is not None else sys.stderr
    handler = logging.StreamHandler(target)
    handler.setFormatter(LineFormatter(journal=_is_journal(target)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.raiseExceptions = False  # a log that cannot be written must not be complained about in the log
    # Their own news about every firing or frame is not ours.
    for chatty in ("alembic", "apscheduler", "aiomqtt", "asyncio", "slack_sdk", "urllib3", "amqtt", "transitions"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _is_journal(stream: TextIO) -> bool:
    """Whether `stream` goes to the journal: systemd tells device and inode of the one it has given."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


@contextlib.contextmanager
def contained() -> Iterator[TextIO]:
    """Meanwhile stdout and stderr are bounded, for plugins that print; gives the real stdout, for those who may."""
    output, errors = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = BoundedStream("stdout"), BoundedStream("stderr")
    try:
        yield output
    finally:
        sys.stdout, sys.stderr = output, errors


class BoundedStream(io.TextIOBase):
    """Stands in for stdout and stderr in the daemon, where only plugins write to them.

    What is written becomes log lines, 8 KiB a minute at most; the rest is counted in `suppressed`
    (characters) and told once, so that a plugin that prints 100 MB costs neither memory nor the journal.
    """

    encoding = "utf-8"

    def __init__(self, name: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.suppressed = 0
        self.buffer = _Bytes(self)
        self._log = logging.getLogger(f"{__name__}.{name}")
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._began = monotonic()
        self._left = ALLOWED
        self._line = ""
        self._told = False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            self._roll()
            taken = text[: self._left]
            self._left -= len(taken)
            self._take(taken)
            if len(taken) < len(text):
                if not self._told:
                    self._told = True
                    self._log.warning(
                        "a plugin prints too much; the rest is dropped", extra={"bytes_a_minute": ALLOWED}
                    )
                self.suppressed += len(text) - len(taken)
        return len(text)

    def _roll(self) -> None:
        now = self._monotonic()
        if now - self._began >= WINDOW:
            self._began, self._left = now, ALLOWED

    def _take(self, text: str) -> None:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if line.strip():
                self._log.info("printed by a plugin", extra={"text": line})


class _Bytes(io.RawIOBase):
    """The `buffer` of a `BoundedStream`, for plugins that write bytes."""

    def __init__(self, stream: BoundedStream) -> None:
        super().__init__()
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raw = memoryview(data)  # type: ignore[arg-type] # whatever the caller has; a TypeError is the caller's
        self._stream.write(raw[: ALLOWED + 1].tobytes().decode(errors="replace"))
        self._stream.suppressed += max(0, raw.nbytes - ALLOWED - 1)
        return raw.nbytes
