import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alerting.turn import JITTER, NOBODY, SELF, Turn

SILENCE = 10.0
LATEST = SILENCE * (1 + JITTER)


@pytest.fixture
def turn():
    return Turn(0.0, random.Random(1))


def held(turn, now, name="c1", session="s1"):
    """A collector that delivers was heard, and has been taken as the writer."""
    turn.heard(name, session, now, delivers=True)
    turn.take(turn.wanted(now), now)
    assert turn.current == f"{name}/{session}"


def test_without_a_collector_the_host_writes(turn):
    assert turn.wanted(0) == SELF
    turn.heard("c1", "s1", 1, delivers=False)
    assert turn.wanted(1) == SELF


def test_a_collector_that_delivers_writes(turn):
    turn.heard("c1", "s1", 1, delivers=True)
    assert turn.wanted(1) == "c1/s1"


def test_silence_gives_the_turn_back_but_not_too_early(turn):
    held(turn, 100)
    assert turn.wanted(100 + SILENCE) == "c1/s1"
    assert turn.wanted(100 + LATEST + 0.1) == SELF


def test_hosts_do_not_take_over_at_the_same_moment():
    moments = set()
    for seed in range(20):
        turn = Turn(0.0, random.Random(seed))
        held(turn, 0)
        moments.add(next(n for n in range(1000) if turn.wanted(n / 50) == SELF))
    assert len(moments) > 10
    assert min(moments) >= SILENCE * 50
    assert max(moments) <= LATEST * 50 + 1


def test_a_last_will_alone_takes_nothing_away(turn):
    """The connection is lost; the collector may be in the middle of a call to Slack."""
    held(turn, 100)
    turn.gone("c1")
    assert turn.wanted(101) == "c1/s1"
    assert turn.wanted(100 + LATEST + 0.1) == SELF


def test_a_collector_may_give_its_turn_back(turn):
    """It says so only when nothing of its is under way, so there is nothing to wait for."""
    held(turn, 100)
    turn.heard("c1", "s1", 101, delivers=False)
    assert turn.wanted(101) == SELF


def test_a_clean_end_gives_it_back_too(turn):
    """The last will follows so soon that nobody has looked in between."""
    held(turn, 100)
    turn.heard("c1", "s1", 101, delivers=False)
    turn.gone("c1")
    assert turn.wanted(101) == SELF


def test_another_session_is_another_writer(turn):
    held(turn, 100)
    turn.heard("c1", "s2", 101, delivers=True)
    assert turn.wanted(101) == "c1/s2"


def test_the_present_writer_stays_while_it_lives(turn):
    held(turn, 100, name="c2")
    turn.heard("c1", "s9", 101, delivers=True)
    assert turn.wanted(101) == "c2/s1"
    assert turn.wanted(110.5) == "c1/s9"


def test_after_a_restart_the_last_writer_has_time_to_be_heard():
    turn = Turn(50.0, random.Random(1), current="c1/s1")
    assert turn.wanted(50 + SILENCE) == "c1/s1"
    assert turn.wanted(50 + LATEST + 0.1) == SELF


def test_modes(turn):
    bound = Turn(0.0, random.Random(1), mode="collector", current="c1/s1")
    assert bound.wanted(1e6) == "c1/s1"
    assert Turn(0.0, random.Random(1), mode="collector").wanted(1e6) == NOBODY
    direct = Turn(0.0, random.Random(1), mode="direct")
    direct.heard("c1", "s1", 1, delivers=True)
    assert direct.wanted(1) == SELF


def ends_alone(turn, now):
    """Nobody writes until what the collector has under way is over, however alive it is; then the host."""
    assert turn.wanted(now) == NOBODY
    turn.take(NOBODY, now)
    turn.heard("c1", "s1", now + SILENCE, delivers=True)
    assert turn.wanted(now + SILENCE) == NOBODY
    assert turn.wanted(now + LATEST + 0.1) == SELF


def test_a_host_that_is_to_write_itself_first_lets_the_collector_end(turn):
    ends_alone(Turn(50.0, random.Random(1), mode="direct", current="c1/s1"), 51)
    held(turn, 100)
    turn.reload("direct", SILENCE)
    ends_alone(turn, 101)


def test_a_reload_may_give_the_turn_away(turn):
    turn.reload("collector", SILENCE)
    assert turn.wanted(1) == NOBODY
    direct = Turn(0.0, random.Random(1), mode="direct")
    direct.heard("c1", "s1", 1, delivers=True)
    direct.reload("auto", SILENCE)
    assert direct.wanted(2) == "c1/s1"


def test_patience_only_grows(turn):
    """A collector whose lease is as long as it was must not be taken for silent sooner."""
    turn.reload("auto", SILENCE / 2)
    held(turn, 100)
    assert turn.wanted(100 + SILENCE) == "c1/s1"
    turn.reload("auto", SILENCE * 2)
    turn.heard("c1", "s1", 110, delivers=True)
    assert turn.wanted(110 + 2 * SILENCE) == "c1/s1"
    assert turn.wanted(110 + 2 * LATEST + 0.1) == SELF


SAYINGS = st.tuples(
    st.sampled_from(["c1", "c2"]), st.sampled_from(["on", "off", "gone", "direct", "collector", "auto"])
)


@given(st.lists(st.tuples(st.floats(0, 25), SAYINGS, st.booleans()), max_size=12), st.floats(0, 40))
def test_time_alone_changes_nothing_before_it_is_said(words, later):
    """Who looks again after `until` only has missed nothing."""
    turn, now = Turn(0.0, random.Random(1)), 0.0
    for pause, (name, word), takes in words:
        now += pause
        if word in ("on", "off"):
            turn.heard(name, "s1", now, delivers=word == "on")
        elif word == "gone":
            turn.gone(name)
        else:
            turn.reload(word, SILENCE)
        if takes:
            turn.take(turn.wanted(now), now)
    until = turn.until(now - 0.05)
    if until is None or now + later < until:
        assert turn.wanted(now + later) == turn.wanted(now)
