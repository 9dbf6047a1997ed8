"""The pure parts between Slack and a command: requests, repeats, grants, confirmations, words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collector.chatops.confirm import VALID, Asked, Confirm, question
from agent.collector.chatops.desk import _sentence
from agent.collector.chatops.fanout import HostState, command_id
from agent.collector.chatops.grants import FRESH, USABLE, Grants, Groups, Rights
from agent.collector.chatops.orders import outcome_of
from agent.collector.chatops.plan import Plan, Planner, usage_of
from agent.collector.chatops.repeats import Repeats
from agent.collector.chatops.request import Request, of_event, of_press, of_slash
from agent.collector.chatops.words import graph_lines, help_lines, labelled, spark, state_lines, why
from agent.collector.store import SeriesRow
from agent.commands.payload import ID
from agent.commands.verbs import VERBS
from agent.config.schema import CommandGrant
from agent.errors import CommandError, RetryError
from agent.slack.answers import answer
from tests.fakes import slack_payloads as payloads
from tests.fakes.clock import ManualClock
from tests.fakes.collector import FakeFleet, FakeReader, host_entry, incident_row
from tests.fakes.slack_rules import check_message

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def slash(text: str, user: str = "U1") -> Request:
    found = of_slash(payloads.slash(text, user=user, channel="C1", response_url="http://x"))
    assert found is not None
    return found


def pressed(action: str, value: str) -> Request:
    press = payloads.press(action, value, user="U1", channel="C1", message={"ts": "1.1"}, response_url="")
    found = of_press(press)
    assert found is not None
    return found


# -- requests


@pytest.mark.parametrize(
    ("text", "verb", "words"),
    [
        ("", "help", ()),
        ("  STATUS   Web-1 ", "status", ("Web-1",)),
        ('silence "host=web 1" 2h it\'s \u201cbusy\u201d', "silence", ('"host=web', '1"', "2h", "it's", '"busy"')),
        ('silence "host=web 1" 2h busy', "silence", ("host=web 1", "2h", "busy")),
        ("top <http://web-1.example.org|web-1.example.org>", "top", ("web-1.example.org",)),
        ("graph web-1 a &gt; &amp;amp;", "graph", ("web-1", "a", ">", "&amp;")),
        ("who <@U0123|ada>", "who", ("ada",)),
        ("who <@U0123>", "who", ("@U0123",)),
    ],
)
def test_words_are_what_was_typed(text: str, verb: str, words: tuple[str, ...]) -> None:
    request = slash(text)
    assert (request.verb, request.words) == (verb, words)


@pytest.mark.parametrize(("name", "actor"), [("ada.b", "slack:U1 (ada.b)"), ("x) (y", "slack:U1"), (7, "slack:U1")])
def test_a_person_has_a_name_for_readers(name: Any, actor: str) -> None:
    """One that could be taken for more than a name is left out."""
    asked = of_slash({**payloads.slash("help", user="U1", channel="C1", response_url="http://x"), "user_name": name})
    assert asked is not None
    assert asked.actor == actor


def test_a_mention_is_answered_in_its_thread() -> None:
    """That of the message it stands in, or the one it begins; a bot's is no request."""
    event = payloads.mention("status web-1", user="U1", channel="C1", thread_ts="17.1")
    request = of_event(event)
    assert request is not None
    assert (request.verb, request.words, request.thread, request.source) == ("status", ("web-1",), "17.1", "mention")
    del event["event"]["thread_ts"]
    alone = of_event(event)
    assert alone is not None
    assert alone.thread == event["event"]["ts"]
    event["event"]["bot_id"] = "B1"
    assert of_event(event) is None


@pytest.mark.parametrize(
    ("action", "value", "verb", "words"),
    [
        ("tocsin_ack", "web-1 inc_1", "ack", ("inc_1",)),
        ("tocsin_silence_1d", "web-1 inc_1", "silence", ("inc_1", "1d", "pressed", "in", "Slack")),
        ("tocsin_probe", "web-1 inc_1", "probe", ()),
        ("tocsin_ack", "web-1", None, ()),
        ("tocsin_ack", "WEB inc_1", None, ()),
        ("tocsin_ack", "web-1 inc_1\n", None, ()),
        ("tocsin_rm", "web-1 inc_1", None, ()),
    ],
)
def test_a_button_is_a_request_or_nothing(action: str, value: str, verb: str | None, words: tuple[str, ...]) -> None:
    pressed = payloads.press(action, value, user="U1", channel="C1", message={"ts": "1.1"}, response_url="")
    request = of_press(pressed)
    assert (request and request.verb) == verb
    assert request is None or (request.words, request.host) == (words, "web-1")


@given(JSON)
def test_whatever_slack_sends_nothing_is_raised(value: Any) -> None:
    for reader in (of_slash, of_event, of_press):
        for payload in (value, {"event": value, "actions": [value], "container": value, "user": value}):
            if isinstance(payload, dict):
                reader(payload)


def test_a_copy_and_the_same_words_within_seconds_are_one() -> None:
    repeats, first = Repeats(), slash("top web-1")
    assert repeats.first(first, 0.0)
    assert not repeats.first(first, 60.0)
    assert not repeats.first(slash("top web-1"), 4.9)
    assert repeats.first(slash("top web-2"), 4.9)
    assert repeats.first(slash("top web-1", "U2"), 4.9)
    assert repeats.first(slash("top web-1"), 5.1)


def test_the_same_button_of_two_incidents_is_pressed_twice() -> None:
    """Also within seconds, and on one host."""
    repeats = Repeats()
    for action in ("tocsin_ack", "tocsin_probe", "tocsin_silence_1h"):
        assert repeats.first(pressed(action, "web-1 inc_1"), 0.0)
        assert repeats.first(pressed(action, "web-1 inc_2"), 1.0)
        assert not repeats.first(pressed(action, "web-1 inc_2"), 2.0)


# -- grants


def test_rights_are_by_verb_and_host_and_none_by_default() -> None:
    rights = Rights(
        [CommandGrant(verbs=("top", "s*"), hosts=("web-*",)), CommandGrant(verbs=("ack",), hosts=("db-1",))]
    )
    assert rights.allows("top", "web-1")
    assert rights.allows("silence", "web-1")
    assert not rights.allows("top", "db-1")
    assert not rights.allows("ack", "web-1")
    assert rights.hosts("top", ["db-1", "web-1", "web-2"]) == ["web-1", "web-2"]
    assert (rights.uses("ack"), rights.uses("job"), rights.uses("help")) == (True, False, True)
    assert not Rights([])
    assert not Rights([]).allows("top", "web-1")


async def test_members_of_groups_are_remembered_for_a_while() -> None:
    """Asked for only where no grant names the user; believed for an hour while Slack is silent, then no longer."""
    clock, asked, down = ManualClock(), [], False

    async def ask(group: str) -> frozenset[str]:
        asked.append(group)
        if down:
            raise RetryError("unreachable")
        return frozenset({"U2"})

    grants = Grants(
        [CommandGrant(users=("U1",), verbs=("top",)), CommandGrant(usergroups=("S1",), verbs=("ack",))],
        Groups(ask, clock),
    )
    assert not (await grants.of("U3"))
    assert (await grants.of("U2")).uses("ack")
    assert asked == ["S1"]
    down = True
    clock.tick(FRESH + 1)
    assert (await grants.of("U2")).uses("ack")
    assert len(asked) == 2
    clock.tick(USABLE)
    assert not (await grants.of("U2"))
    assert (await grants.of("U1")).uses("top")


# -- confirmations


def test_only_the_asker_confirms_in_time_and_nothing_altered() -> None:
    confirm, now = Confirm("xoxb-1"), 1000.0

    def read(token: str, user: str, at: float) -> Asked:
        asked = confirm.read(token)
        confirm.check(asked, user, at)
        return asked

    token = confirm.token("U1", "job", ("web-1", "backup"), "job web-1 backup", now)
    assert read(token, "U1", now + VALID).words == ("web-1", "backup")
    for wrong, user, at in (
        (token, "U2", now),
        (token, "U1", now + VALID + 1),
        (Confirm("xoxb-2").token("U1", "job", (), "", now), "U1", now),
        ("", "U1", now),
        ("é" * 40, "U1", now),
        *(
            (token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :], "U1", now)
            for index in range(60)
        ),
    ):
        with pytest.raises(CommandError):
            read(wrong, user, at)
    with pytest.raises(CommandError):
        confirm.token("U1", "job", ("x" * 1500,), "", now)


def test_a_second_person_is_not_the_first() -> None:
    """Who asked may take it back; where two collectors have two rules the stricter one holds."""
    strict, lax, now = Confirm("xoxb-1", second=True), Confirm("xoxb-1"), 1000.0
    token = strict.token("U1", "job", ("web-1", "x"), "job web-1 x", now)
    for reader in (strict, lax):
        asked = reader.read(token)
        reader.check(asked, "U2", now)
        reader.check(asked, "U1", now, cancel=True)
        for user, at in (("U1", now), ("U2", now + VALID + 1)):
            with pytest.raises(CommandError):
                reader.check(asked, user, at)
    with pytest.raises(CommandError):
        strict.check(strict.read(lax.token("U1", "job", (), "", now)), "U1", now)


def test_the_question_hides_no_host() -> None:
    """Twenty are named, and the others counted: nobody says yes to what is not said."""
    asked = question("U1", "job * x", [f"h{n}" for n in range(300)], "t", second=False)
    assert "h19 and 280 more" in str(asked.blocks)
    asked = question("U1", "job * x", [f"{n:03}.{'x' * 40}.example.org" for n in range(300)], "t", second=True)
    assert " more" in str(asked.blocks)
    assert "…" not in str(asked.blocks)


@pytest.mark.parametrize("padding", ["x" * 480, "&" * 120])
def test_the_question_hides_no_argument(padding: str) -> None:
    """What would be cut cannot be asked for."""
    with pytest.raises(CommandError):
        question("U1", f"job web-1 deploy note={padding} force=yes", ["web-1"], "t", second=True)
    asked = question("U1", f"job web-1 deploy note={padding[:90]} force=yes", ["web-1"], "t", second=True)
    assert "force=yes" in str(asked.blocks)


# -- plans


def planner() -> Planner:
    fleet, reader = FakeFleet(ManualClock()), FakeReader()
    fleet.entries = [host_entry("db-1"), host_entry("web-1"), host_entry("web-2", state="offline")]
    reader.rows = [incident_row(1, id="inc_1", host="web-1", metric="disk.used_percent")]
    return Planner(fleet, reader)


ALL = Rights([CommandGrant(verbs=("*",), hosts=("*",))])
SOME = Rights([CommandGrant(verbs=("top", "silence", "ack"), hosts=("web-*",))])


async def test_who_is_asked_what() -> None:
    """Globs, silences by host, incidents by their owner; who is offline is not asked; who may not be is counted."""
    plan = await planner().plan("top", ("*",), SOME)
    assert (dict(plan.args), plan.left_out) == ({"web-1": {}}, ("db-1",))
    assert plan.states["web-2"].state == "offline"
    plan = await planner().plan("silence", ("host=db*,metric=x", "1h", "why"), ALL)
    assert list(plan.args) == ["db-1"]
    assert list((await planner().plan("silence", ("cpu", "1h", "why"), ALL)).args) == ["db-1", "web-1"]
    assert dict((await planner().plan("ack", ("inc_1",), SOME)).args) == {"web-1": {"id": "inc_1"}}
    assert dict((await planner().plan("probe", (), ALL, host="web-1", incident="inc_1")).args) == {
        "web-1": {"name": "inc_1"}
    }
    assert list((await planner().plan("silence", ("inc_1", "1h", "x"), SOME)).args) == ["web-1"]


@pytest.mark.parametrize(
    ("verb", "words", "rights", "code"),
    [
        ("top", ("db-1",), SOME, "no_grant"),
        ("job", ("web-1", "x"), SOME, "no_grant"),
        ("silence", ("host=db-1", "1h", "x"), SOME, "no_grant"),
        ("top", ("nowhere",), ALL, "unknown_host"),
        ("top", (), ALL, "bad_arguments"),
        ("ack", ("inc_9",), ALL, "unknown_incident"),
        ("ack", ("../x",), ALL, "bad_arguments"),
    ],
)
async def test_what_cannot_be_or_may_not(verb: str, words: tuple[str, ...], rights: Rights, code: str) -> None:
    with pytest.raises(CommandError) as error:
        await planner().plan(verb, words, rights)
    assert error.value.code == code


def test_copies_of_a_request_make_the_same_command() -> None:
    assert command_id("k", "web-1") == command_id("k", "web-1")
    assert len({command_id("k", "web-1"), command_id("k", "web-2"), command_id("k2", "web-1")}) == 3
    assert ID.fullmatch(command_id("\ud800", "web-1"))


@pytest.mark.parametrize(
    ("states", "outcome"),
    [
        (["done", "done"], "done"),
        (["refused"], "refused"),
        (["done", "silent"], "unanswered"),
        (["done", "offline"], "unanswered"),
        (["done", "refused"], "failed"),
        (["unsent"], "failed"),
    ],
)
def test_how_it_came_out_in_one_word(states: list[Any], outcome: str) -> None:
    assert outcome_of({str(index): HostState(state) for index, state in enumerate(states)}) == outcome


def test_done_is_not_always_well() -> None:
    assert outcome_of({"a": HostState("done", data={"ok": False})}) == "failed"


# -- words


def test_every_verb_has_a_usage_and_help_shows_what_may_be() -> None:
    assert all(usage_of(verb).startswith(verb) for verb in VERBS)
    assert len(help_lines(ALL)) == len(VERBS)
    assert len(help_lines(Rights([]))) == 2
    assert usage_of("probe") == "probe HOST NAME"


def test_a_line_of_bars() -> None:
    assert spark([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert spark([5, 5, 5]) == "▁▁▁"
    assert spark([-1.7e308, 0.0, 1.7e308]) == "▁▅█"
    assert spark([1.7e308] * 200) == "▁" * 60
    assert len(spark([float(n) for n in range(1000)], 60)) == 60
    row = SeriesRow("cpu.used_percent", "percent", "gauge", {"core": "0"}, [(0.0, 1.0), (1.0, 9.0)])
    assert graph_lines([row], {}) == ["cpu.used_percent core=0", "▁█", "newest 9 %, between 1 % and 9 %"]
    measured = {labelled("cpu.used_percent", {"core": "0"}): 95.0, labelled("cpu.used_percent", {"core": "1"}): 2.0}
    assert graph_lines([row], measured)[-1] == "newest 95 %, between 1 % and 95 %", "points are means"


def test_of_many_hosts_each_says_a_little() -> None:
    long = HostState("done", "\n".join(f"line {n}" for n in range(200)))
    one = state_lines(Plan("top", {"a": {}}, {}), {"a": long})
    assert 50 < len(one) < 70
    plan = Plan("top", {f"h{n}": {} for n in range(100)}, {}, ("x", "y"))
    many = state_lines(plan, {f"h{n}": long for n in range(99)})
    assert len(many) == 99 * 3 + 2
    assert many[-2:] == ["· h99  asked", "not asked, for there is no grant: 2 hosts"]
    just = HostState("done", "\n".join(f"line {n}" for n in range(len(one))))
    assert state_lines(Plan("top", {"a": {}}, {}, ("x",)), {"a": just})[-2:] == [
        "    … 1 more line",
        "not asked, for there is no grant: 1 host",
    ]
    silent = HostState("silent", "no answer within 5 s")
    assert state_lines(Plan("top", {"a": {}}, {}), {"a": silent}) == ["… a  no answer within 5 s"]
    assert why(silent) == "no answer within 5 s"
    assert why(HostState("refused", "revoked_key")) == "refused: revoked_key"


@given(st.text(max_size=60), st.lists(st.text(max_size=700), max_size=60), st.booleans())
def test_an_answer_is_always_one_that_slack_takes(title: str, lines: list[str], code: bool) -> None:
    """Whatever a host said: within all limits, and nobody is woken by it."""
    message = answer(f"t{title}", lines, code=code)
    check_message(message.text, message.blocks, [], editing=True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no verb 'x'; did you mean y?", "No verb 'x'; did you mean y?"),
        ("web-1 is away", "web-1 is away."),
        (
            "id is missing; usage: silence MATCH DURATION REASON…",
            "Id is missing; usage: silence MATCH DURATION REASON…",
        ),
    ],
)
def test_a_refusal_is_a_sentence(text: str, told: str) -> None:
    """A host's name stays as it is, and what is ended already is not ended twice."""
    assert _sentence(text) == told
