"""What people read, held to golden files; and what no host can make of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alerting.incident import Breach, Reading, advance, open_incident
from agent.model import Incident, Severity, Transition
from agent.slack.blocks import Message, message, plain, reply
from agent.slack.terminal import block
from tests.fakes.slack_rules import check_message, pings, texts

GOLDEN = Path(__file__).parents[1] / "golden" / "slack"
NOW = 1_790_000_000.0
URL = "http://127.0.0.1:8420"


def life(**changes: Any) -> dict[str, tuple[Incident, Transition]]:
    """One disk, from opened over escalated to resolved."""
    runbook = "https://wiki.example.org/disk?a=1&b=2"
    breach = Breach("web-1", "Disk space", "disk.used_percent", ">", NOW - 60, {"mount": "/srv"}, "percent", runbook)
    at = Reading(Severity.WARNING, NOW, 85.23, 80.0, 85.23, summary="/srv fills up")
    opened = open_incident("inc_0d0v2rj9g0abcdef", breach, at)
    escalated = advance(opened[0], Reading(Severity.CRITICAL, NOW + 600, 91.0, 90.0, 91.0))
    assert escalated is not None
    resolved = advance(escalated[0], Reading(Severity.OK, NOW + 7500, 40.0, 80.0, 97.5))
    assert resolved is not None
    steps = {"opened": opened, "escalated": escalated, "resolved": resolved}
    return {name: (msgspec.structs.replace(i, **changes), t) for name, (i, t) in steps.items()}


def absent() -> Incident:
    breach = Breach("web-1", "Backup", "backup.age", "absent", NOW - 3600, {}, "seconds")
    reading = Reading(Severity.CRITICAL, NOW, 3600.0, 3600.0, 3600.0, summary="no data for 1 h")
    return open_incident("inc_0d0v2rj9g0abcdeg", breach, reading)[0]


def response_time() -> Incident:
    breach = Breach("web-1", "API", "http.response_time", ">", NOW, {"url": "https://shop/?a=<b>&c"}, "seconds")
    return open_incident("inc_0d0v2rj9g0abcdeh", breach, Reading(Severity.WARNING, NOW, 0.21, 0.2, 0.21, grade="A"))[0]


def golden(name: str, text: str) -> None:
    """Compare with the file; `UPDATE_GOLDEN=1` writes it."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def pretty(made: Message) -> str:
    shown = {"text": made.text, "blocks": made.blocks, "attachments": made.attachments}
    return json.dumps(shown, indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("step", ["opened", "escalated", "resolved"])
def test_the_message_at_each_step(step: str) -> None:
    """Severity's word, what and where, value against limit, since when, links; green with duration and peak."""
    incident, transition = life()[step]
    golden(f"{step}.json", pretty(message(incident, dashboard_url=URL, mention="@here")))
    golden(f"{step}.txt", block(incident, URL))
    if step != "opened":
        golden(f"{step}_reply.json", pretty(reply(incident, transition, mention="@here")))


def test_absence_and_grade_have_words() -> None:
    """No data says so; a letter never stands alone."""
    golden("absent.json", pretty(message(absent(), dashboard_url=URL)))
    golden("response_time.json", pretty(message(response_time())))
    assert "A (good)" in "".join(texts(message(response_time()).attachments))


def test_small_is_one_line() -> None:
    """What is left when Slack refuses the rest."""
    made = message(life()["opened"][0], small=True)
    assert (made.blocks, made.attachments) == ([], [])
    assert made.text == "WARNING: Disk space on web-1 (mount=/srv)"


evil = st.lists(
    st.sampled_from(
        ["<!channel>", "<@U012345>", "<http://evil|ok>", "&lt;", "\x1b[2J", "\n", "\u202e", "`", "<", "a" * 99]
    ),
    max_size=60,
).map("".join)


@given(st.dictionaries(evil, evil, max_size=12), evil, evil, evil, st.sampled_from(["opened", "escalated", "resolved"]))
def test_no_host_can_ping_link_or_break_the_limits(
    labels: dict[str, str], threshold: str, summary: str, unit: str, step: str
) -> None:
    """Whatever it sends, Slack takes the message, nobody is notified and no link is made up."""
    changes = {"labels": labels, "threshold": threshold, "summary": summary, "unit": unit, "host": threshold}
    incident, transition = life(**changes)[step]
    for made in (message(incident, dashboard_url=URL), message(incident, small=True), reply(incident, transition)):
        check_message(made.text, made.blocks, made.attachments, editing=True)
        everything = [made.text, *texts(made.blocks), *texts(made.attachments)]
        assert [ping for text in everything for ping in pings(text)] == []
        assert "|ok>" not in "".join(everything)


@given(evil, evil)
def test_no_control_character_reaches_the_terminal(label: str, summary: str) -> None:
    """Neither an escape sequence nor a line that a host has invented."""
    calm = block(life(labels={"x": "y"}, summary="z")["opened"][0], URL)
    shown = block(life(labels={"x": label}, summary=f"z{summary}")["opened"][0], URL)
    assert not [c for c in shown if (ord(c) < 32 and c != "\n") or ord(c) == 0x7F or "\u202a" <= c <= "\u202e"]
    assert shown.count("\n") == calm.count("\n")


def test_a_runbook_that_is_no_address_is_no_link() -> None:
    """Nothing but http and https is ever linked."""
    incident = life(runbook="javascript:alert(1)")["opened"][0]
    assert "javascript" not in "".join(texts(message(incident, dashboard_url=URL).attachments))


@pytest.mark.parametrize(
    ("mention", "shown"),
    [
        ("@here", ["!here"]),
        ("U012ABCDEF", ["@U012ABCDEF"]),
        ("S012ABCDEF", ["!subteam^S012ABCDEF"]),
        ("<!subteam^S012ABCDEF>", ["!subteam^S012ABCDEF"]),
        ("", []),
        ("bob & <co>", []),
    ],
)
def test_a_mention_is_ours_to_make(mention: str, shown: list[str]) -> None:
    """From the configuration, in any of the ways people write it; on a rise, not on a recovery."""
    steps = life()
    made = message(steps["opened"][0], mention=mention)
    check_message(made.text, made.blocks, made.attachments)
    assert [ping for text in texts(made.blocks) for ping in pings(text)] == shown
    risen = reply(*steps["escalated"], mention=mention)
    assert [ping for text in texts(risen.blocks) for ping in pings(text)] == shown
    over = reply(*steps["resolved"], mention=mention)
    assert [ping for text in texts(over.blocks) for ping in pings(text)] == []


def test_plain_keeps_to_its_limit() -> None:
    """With an ellipsis where it cut."""
    assert plain("a" * 10, 10) == "a" * 10
    assert plain("a" * 11, 10) == "a" * 9 + "…"
    assert plain(" a\r\n\tb ", 10) == "a b"
