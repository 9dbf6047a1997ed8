"""Log lines, and the stream that stands in for stdout."""

from __future__ import annotations

import io
import logging
import tracemalloc
from collections.abc import Iterator

import pytest

from agent import log
from agent.log import ALLOWED, WINDOW, BoundedStream, LineFormatter


def line(journal: bool = False, level: int = logging.WARNING, message: str = "probe failed", **fields: object) -> str:
    record = logging.LogRecord("agent.x", level, __file__, 1, message, None, None)
    vars(record).update(fields)
    return LineFormatter(journal=journal).format(record)


def test_a_line_is_level_message_and_fields() -> None:
    """Values that hold spaces, quotes or line breaks are quoted and stay on the line."""
    assert line(probe="disk", seconds=0.25) == "WARNING probe failed probe=disk seconds=0.25"
    assert line(error='no "x"\nhere') == 'WARNING probe failed error="no \\"x\\"\\nhere"'


def test_what_others_tell_of_their_steps_is_not_ours() -> None:
    """Alembic tells of each start that nothing had to be done."""
    root, stream = logging.getLogger(), io.StringIO()
    before, level, complain = root.handlers[:], root.level, logging.raiseExceptions
    try:
        log.setup(stream=stream)
        logging.getLogger("alembic.runtime.migration").info("Will assume non-transactional DDL.")
        logging.getLogger("alembic.runtime.migration").warning("odd")
        logging.getLogger("agent.x").info("ours")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        logging.raiseExceptions = complain
    assert stream.getvalue() == "WARNING odd\nINFO ours\n"


def test_a_field_cannot_touch_the_terminal() -> None:
    """Escape sequences, carriage returns and direction overrides out of a label are spelled."""
    text = line(error="\x1b[31mred\rover \u202eback")
    assert text == 'WARNING probe failed error="\\u001b[31mred\\u000dover \\u202eback"'


def test_nor_can_what_an_error_says() -> None:
    """A traceback ends in the error's own words, which may be those of a stranger."""
    with pytest.raises(ValueError) as caught:
        raise ValueError("\x1b]0;owned\x07\rINFO all is well \u202eback\x85<2>forged")
    text = line(exc_info=caught._excinfo)
    assert "\\u001b]0;owned\\u0007\\u000dINFO all is well \\u202eback\\u0085<2>forged" in text
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_the_journal_gets_its_priority_on_every_line() -> None:
    """Also on those of a traceback, which would be of the default priority otherwise."""
    with pytest.raises(ValueError) as caught:
        int("broken")
    text = line(journal=True, level=logging.ERROR, exc_info=caught._excinfo)
    lines = text.splitlines()
    assert lines[0] == "<3>probe failed"
    assert len(lines) > 3
    assert all(part.startswith("<3>") for part in lines)


def test_a_slack_token_is_never_logged() -> None:
    """Neither in a field nor in the message."""
    text = line(message="refused xapp-1-A0123456789", error="token xoxb-123456-abcdef was refused")
    assert "123456" not in text


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    log.setup(stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    logging.raiseExceptions = True


def test_a_flood_costs_neither_memory_nor_log(logged: io.StringIO) -> None:
    """100 MB printed: 8 KiB pass, one line tells it, the rest is counted, memory stays flat."""
    stream = BoundedStream("stdout", monotonic=lambda: 0.0)
    chunk = "x" * 99 + "\n"
    tracemalloc.start()
    for _ in range(1000):
        stream.write(chunk * 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    text = logged.getvalue()
    assert text.count("prints too much") == 1
    assert len(text) < 3 * ALLOWED
    assert stream.suppressed == 100_000_000 - ALLOWED
    assert peak < 2_000_000


def test_a_new_minute_lets_lines_through_again(logged: io.StringIO) -> None:
    """What was too much a minute ago does not silence a plugin for ever."""
    now = [0.0]
    stream = BoundedStream("stdout", monotonic=lambda: now[0])
    print("y" * (2 * ALLOWED), file=stream)
    print("unseen", file=stream)
    now[0] = WINDOW
    print("\nseen", file=stream)
    assert "text=unseen" not in logged.getvalue()
    assert "text=seen" in logged.getvalue()


def test_bytes_written_beside_are_bounded_too(logged: io.StringIO) -> None:
    """`sys.stdout.buffer.write` is the same stream."""
    stream = BoundedStream("stdout", monotonic=lambda: 0.0)
    assert stream.buffer.write(b"hello\n" + b"z" * 1_000_000) == 1_000_006
    assert "text=hello" in logged.getvalue()
    assert stream.suppressed == 1_000_006 - ALLOWED
