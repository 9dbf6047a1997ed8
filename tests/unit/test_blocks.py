"""What people read, held to golden files; and what no host can make of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.model import Evidence, Incident, Severity, Transition, TransitionKind
from agent.slack.blocks import Message, message, reply
from agent.slack.samples import Sample, rendered, samples
from agent.slack.terminal import block
from tests.fakes.slack_rules import check_message, pings, texts

GOLDEN = Path(__file__).parents[1] / "golden" / "slack"
NOW = 1_790_000_000.0
URL = "http://127.0.0.1:8420"
SAMPLES = {sample.name: sample for sample in samples(NOW)}


def made(sample: Sample) -> Message:
    return rendered(sample, URL)


def golden(name: str, text: str) -> None:
    """Compare with the file; `UPDATE_GOLDEN=1` writes it."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def pretty(made: Message) -> str:
    shown = {"text": made.text, "blocks": made.blocks, "attachments": made.attachments}
    return json.dumps(shown, indent=2, ensure_ascii=False) + "\n"


def said(made: Message) -> str:
    return "\n".join([made.text, *texts(made.blocks), *texts(made.attachments)])


def action_ids(made: Message) -> list[str]:
    blocks = [one for attachment in made.attachments for one in attachment["blocks"]]
    return [button["action_id"] for one in blocks if one["type"] == "actions" for button in one["elements"]]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_message_is_as_it_was(name: str) -> None:
    """Severity's word, what and where, value against limit, since when, trend, evidence, buttons, links."""
    golden(f"{name}.json", pretty(made(SAMPLES[name])))


@pytest.mark.parametrize("name", [name for name in SAMPLES if SAMPLES[name].transition is None])
def test_the_terminal_says_the_same(name: str) -> None:
    """Without Slack nothing is hidden."""
    if not SAMPLES[name].small:
        golden(f"{name}.txt", block(SAMPLES[name].incident, URL))


def test_there_is_no_golden_file_of_nothing() -> None:
    """A message that is gone leaves no file behind."""
    assert {path.stem for path in GOLDEN.iterdir()} == set(SAMPLES)


def test_small_is_one_line() -> None:
    """What is left when Slack refuses the rest."""
    small = message(SAMPLES["warning"].incident, small=True)
    assert (small.blocks, small.attachments) == ([], [])
    assert small.text == "WARNING: disk-space on web-1 (mount=/srv, type=ext4)"


def test_a_letter_never_stands_alone() -> None:
    assert "A (good)" in said(made(SAMPLES["response_time"]))


def test_buttons_are_there_while_they_mean_something() -> None:
    """Acknowledge until somebody has; none of them once it is over, or where nobody would hear."""
    silences = ["tocsin_silence_1h", "tocsin_silence_4h", "tocsin_silence_1d"]
    opened = SAMPLES["warning"].incident
    assert action_ids(message(opened, actions=True)) == ["tocsin_ack", *silences, "tocsin_probe"]
    assert action_ids(made(SAMPLES["acknowledged"])) == [*silences, "tocsin_probe"]
    assert action_ids(made(SAMPLES["resolved"])) == []
    assert action_ids(message(opened)) == []


def test_a_button_says_whom_it_is_about() -> None:
    """Host and incident, so that whoever hears it needs no look-up."""
    pressed = message(SAMPLES["warning"].incident, actions=True).attachments[0]["blocks"][-2]
    assert pressed["block_id"] == "tocsin_actions"
    assert {button["value"] for button in pressed["elements"]} == {"web-1 inc_0d0v2rj9g0abcdef"}


def test_one_line_of_evidence_needs_no_block() -> None:
    told = said(message(replace(SAMPLES["warning"].incident, evidence=(Evidence("Deployment", ("shop v2",)),))))
    assert "*Deployment* shop v2" in told
    assert "```" not in told


def test_an_acknowledgement_says_who_and_when() -> None:
    told = said(made(SAMPLES["acknowledged"]))
    assert ":eyes: *Acknowledged* by ada, <!date^" in told


def test_what_holds_an_incident_back_is_gone_once_it_is_over() -> None:
    over = replace(SAMPLES["resolved"].incident, muted="silenced", flapping=True, forecast="full in 9 h")
    assert said(message(over)) == said(message(SAMPLES["resolved"].incident))


evil = st.lists(
    st.sampled_from(
        [
            *("<!channel>", "<@U012345>", "<http://evil|ok>", "&lt;", "&" * 300, "\x1b[2J", "\n", "\u202e"),
            *("`", "```", "<", ">", "a" * 99, "é", "\ud800", "*", "_", "~", "|"),
        ]
    ),
    max_size=8,
).map("".join)
number = st.floats() | st.sampled_from([0.0, -1.0, 1e308, 1.7e9])
incidents = st.builds(
    Incident,
    **dict.fromkeys(("id", "host", "threshold", "metric", "unit", "op", "grade", "summary", "forecast"), evil),
    **dict.fromkeys(("muted", "acknowledged_by"), evil),
    **{name: st.sampled_from(Severity) for name in ("severity", "peak")},
    **dict.fromkeys(("started_at", "fired_at", "updated_at"), number),
    **{name: st.none() | number for name in ("value", "limit", "peak_value", "resolved_at", "acknowledged_at")},
    version=st.integers(),
    state=st.sampled_from(["open", "resolved"]),
    labels=st.dictionaries(evil, evil, max_size=5),
    runbook=evil | st.just("https://x/?" + "&" * 990) | st.just("https://x/?" + "a" * 980),
    flapping=st.booleans(),
    history=st.lists(st.none() | number, max_size=70).map(tuple),
    evidence=st.lists(st.builds(Evidence, evil, st.lists(evil, max_size=12).map(tuple)), max_size=5).map(tuple),
)
WORST = Incident(
    **dict.fromkeys(("host", "threshold", "metric", "unit", "op", "grade", "summary", "forecast"), "&" * 5000),
    **dict.fromkeys(("id", "muted", "acknowledged_by"), "&" * 5000),
    **dict.fromkeys(("started_at", "fired_at", "updated_at", "acknowledged_at", "value", "limit"), 1700000000.0),
    severity=Severity.CRITICAL,
    peak=Severity.CRITICAL,
    version=1,
    labels={"&" * 5000 + str(index): "&" * 5000 for index in range(50)},
    runbook="https://x/?" + "a" * 980,
    flapping=True,
    history=tuple(float(value) * 1e300 for value in range(60)),
    evidence=(Evidence("&" * 5000, tuple("&" * 5000 for _ in range(50))),) * 20,
)


@settings(deadline=None)
@given(incidents, st.sampled_from(TransitionKind), st.sampled_from(Severity))
@example(WORST, TransitionKind.ESCALATED, Severity.CRITICAL)
@example(replace(WORST, state="resolved", resolved_at=1.8e9, peak_value=1.0), TransitionKind.RESOLVED, Severity.OK)
def test_no_host_can_ping_link_or_break_the_limits(
    incident: Incident, kind: TransitionKind, severity: Severity
) -> None:
    """Whatever it sends, Slack takes the message, nobody is notified and no link is made up."""
    transition = Transition(incident.id, incident.version, kind, severity, incident.updated_at)
    every: list[Message] = [
        message(incident, dashboard_url="https://tocsin.example.org", mention="", actions=True),
        message(incident, small=True),
        reply(incident, transition),
        reply(incident, transition, small=True),
    ]
    for one in every:
        check_message(one.text, one.blocks, one.attachments, editing=True)
        json.dumps(pretty(one)).encode()
        everything = [one.text, *texts(one.blocks), *texts(one.attachments)]
        assert [ping for text in everything for ping in pings(text)] == []
        assert "|ok>" not in "".join(everything)
        assert all(text.count("```") in (0, 2) for text in everything)


@given(incidents)
def test_no_control_character_reaches_the_terminal(incident: Incident) -> None:
    """Neither an escape sequence nor a direction mark."""
    shown = block(incident, URL)
    assert not [c for c in shown if (ord(c) < 32 and c != "\n") or ord(c) == 0x7F or "\u202a" <= c <= "\u202e"]


@given(evil, evil)
def test_no_host_can_make_up_a_line(label: str, summary: str) -> None:
    """A line break of its own is none on the terminal."""
    calm = SAMPLES["warning"].incident
    hostile = replace(calm, labels={"x": label}, summary=f"z{summary}", forecast=f"x{summary}")
    assert block(hostile, URL).count("\n") == block(replace(calm, forecast="x"), URL).count("\n")


def test_a_runbook_that_is_no_address_is_no_link() -> None:
    """Nothing but http and https is ever linked."""
    incident = replace(SAMPLES["warning"].incident, runbook="javascript:alert(1)")
    assert "javascript" not in said(message(incident, dashboard_url=URL))


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
    opened = message(SAMPLES["warning"].incident, mention=mention)
    check_message(opened.text, opened.blocks, opened.attachments)
    assert [ping for text in texts(opened.blocks) for ping in pings(text)] == shown
    for name, expected in (("escalated_reply", shown), ("resolved_reply", [])):
        step: Any = SAMPLES[name]
        told = reply(step.incident, step.transition, mention=mention)
        assert [ping for text in texts(told.blocks) for ping in pings(text)] == expected


STANDS = "memory.used_percent is 93.7 % (limit > 90 %)"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("opened", "Now CRITICAL: memory.used_percent is 93.7 % (limit > 90 %)."),
        ("escalated", "Now CRITICAL: memory.used_percent is 93.7 % (limit > 90 %)."),
        ("deescalated", "Eased to CRITICAL: memory.used_percent is 93.7 % (limit > 90 %)."),
        (
            "reminded",
            f"Still CRITICAL after 2 h 6 min: {STANDS}. Nobody has it yet.",
        ),
        ("acknowledged", "Acknowledged by ada."),
        ("muted", "Muted: silenced by ada."),
        ("unmuted", "No longer muted, and CRITICAL: memory.used_percent is 93.7 % (limit > 90 %)."),
        ("flapping", "It comes and goes; from now on not each time is told."),
        ("steady", "It comes and goes no more: memory.used_percent is 93.7 % (limit > 90 %)."),
        ("evidence", "What is likely behind it stands in the message above."),
    ],
)
def test_every_step_has_its_sentence(kind: str, expected: str) -> None:
    """And a note stands behind it."""
    incident = replace(SAMPLES["critical"].incident, muted="silenced by ada")
    incident = replace(incident, acknowledged_by="slack:U1 (ada)") if kind == "acknowledged" else incident
    step = Transition(incident.id, 2, TransitionKind(kind), Severity.CRITICAL, NOW)
    told = reply(incident, step)
    assert told.text == f"memory on web-1: {expected}".replace(">", "&gt;")
    assert "*memory on web-1*" in str(told.blocks), "a storm's thread tells of many hosts"
    assert reply(incident, replace(step, note="because")).text.endswith(" because")
