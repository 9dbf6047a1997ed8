"""Silences, maintenance windows and dependencies hold back the telling, and nothing else."""

from datetime import UTC, datetime

import pytest

from agent.alerting.engine import Engine
from agent.alerting.state import State
from agent.config.load import load
from agent.config.match import Match
from agent.config.schema import MaintenanceConfig
from agent.errors import ConfigError
from agent.model import Evidence
from agent.plugin import gauge
from tests.unit.test_engine import disk, engine, kinds, observe, rule


def muted(made):
    return [incident.muted for incident in made.incidents()]


def test_a_silence_mutes_what_is_open_and_what_opens(clock):
    made = engine(clock, rule(warning="80%", critical="90%"))
    observe(made, clock, disk(85, "/"))
    silence, pairs = made.silence("threshold=Disk,mount=/*", 3600, "ada", "moving house")
    assert kinds(pairs) == ["muted"]
    assert "ada" in muted(made)[0]
    assert "moving house" in muted(made)[0]
    pairs = observe(made, clock, disk(95, "/"), disk(85, "/var"))
    assert kinds(pairs) == ["escalated", "opened"]
    assert all(muted(made))
    assert made.silences() == [silence]


def test_it_is_told_when_the_silence_ends(clock):
    made = engine(clock, rule(warning="80%"))
    made.silence("Disk", 60, "ada", "why not")
    observe(made, clock, disk(85))
    clock.tick(51)
    [(incident, transition)] = made.tick()
    assert (transition.kind, incident.muted) == ("unmuted", "")
    assert made.silences() == []


def test_a_clock_set_back_does_not_prolong_a_silence(clock):
    """By more than its own length: by weeks nothing would be told for weeks."""
    made = engine(clock, rule(warning="80%"))
    made.silence("Disk", 3600, "ada", "why not")
    observe(made, clock, disk(85))
    clock.set_back(21 * 86400)
    made.tick()
    clock.tick(3590)
    made.tick()
    assert len(made.silences()) == 1
    clock.tick(20)
    [(incident, transition)] = made.tick()
    assert (transition.kind, incident.muted) == ("unmuted", "")
    assert made.silences() == []


def test_what_resolves_meanwhile_is_over(clock):
    made = engine(clock, rule(warning="80%"))
    made.silence("*", 60, "ada", "why not")
    observe(made, clock, disk(85))
    assert kinds(observe(made, clock, disk(10))) == ["resolved"]
    clock.tick(100)
    assert made.tick() == []


def test_unsilence(clock):
    made = engine(clock, rule(warning="80%"))
    silence, _ = made.silence("host=web-*", 3600, "ada", "why not")
    observe(made, clock, disk(85))
    assert kinds(made.unsilence(silence.id, "bob")) == ["unmuted"]
    with pytest.raises(KeyError):
        made.unsilence(silence.id, "bob")


def test_one_incident_alone(clock):
    made = engine(clock, rule(warning="80%"))
    [(first, _), _] = observe(made, clock, disk(85, "/"), disk(85, "/var"))
    made.silence(first.id, 3600, "ada", "known")
    assert sorted(bool(words) for words in muted(made)) == [False, True]


@pytest.mark.parametrize(
    ("match", "seconds", "author", "reason"),
    [
        ("", 60, "a", "b"),
        ("host=", 60, "a", "b"),
        ("host=a,host=b", 60, "a", "b"),
        ("a b=c", 60, "a", "b"),
        ("*", 0, "a", "b"),
        ("*", 31 * 86400, "a", "b"),
        ("*", float("nan"), "a", "b"),
        ("*", 60, " ", "b"),
        ("*", 60, "a", ""),
    ],
)
def test_what_is_no_silence_is_refused(clock, match, seconds, author, reason):
    made = engine(clock, rule(warning="80%"))
    with pytest.raises(ValueError, match=r"\w"):
        made.silence(match, seconds, author, reason)
    assert made.silences() == []


async def test_silences_and_acknowledgements_survive_a_restart(clock, tmp_path):
    rules = [rule(warning="80%", critical="90%")]
    made = await Engine.open(tmp_path / "alerts.db", rules, "web-1", clock)
    [(incident, _)] = observe(made, clock, disk(85))
    made.silence("Disk", 3600, "ada", "why not")
    made.acknowledge(incident.id, "bob")
    await made.aclose()
    again = await Engine.open(tmp_path / "alerts.db", rules, "web-1", clock)
    assert again.tick() == []
    [restored] = again.incidents()
    assert (restored.acknowledged_by, bool(restored.muted), restored.version) == ("bob", True, 3)
    clock.tick(3600)
    assert kinds(again.tick()) == ["unmuted"]
    await again.aclose()


def test_acknowledged_once_and_carried_on(clock):
    made = engine(clock, rule(warning="80%", critical="90%"))
    [(incident, _)] = observe(made, clock, disk(85))
    [(incident, transition)] = made.acknowledge(incident.id, "bob")
    assert (transition.kind, incident.acknowledged_by, incident.acknowledged_at) == ("acknowledged", "bob", clock.now())
    assert made.acknowledge(incident.id, "eve") == []
    [(incident, _)] = observe(made, clock, disk(95))
    assert incident.acknowledged_by == "bob"
    with pytest.raises(KeyError):
        made.acknowledge("inc_nothing", "bob")


def test_evidence_comes_later(clock):
    made = engine(clock, rule(warning="80%"))
    [(incident, _)] = observe(made, clock, disk(85))
    [(incident, transition)] = made.add_evidence(incident.id, (Evidence("Largest", ("/var 3 GiB",)),))
    assert (transition.kind, incident.version) == ("evidence", 2)
    [(incident, _)] = made.add_evidence(incident.id, (Evidence("Largest", ("/var 4 GiB",)), Evidence("More", ("x",))))
    assert [found.lines[0] for found in incident.evidence] == ["/var 4 GiB", "x"]


def test_a_cause_explains_what_follows_from_it(clock):
    """With equal values of the labels that both have; and it is told when the cause is gone and it is not."""
    made = engine(
        clock,
        rule("Full", metric="disk.full", warning=0),
        rule(warning="80%", depends_on=("Full",)),
    )
    observe(made, clock, gauge("disk.full", 1, mount="/"), disk(85, "/"), disk(85, "/var"))
    words = {incident.labels["mount"]: incident.muted for incident in made.incidents() if incident.threshold == "Disk"}
    assert "Full" in words["/"]
    assert words["/var"] == ""
    observe(made, clock, gauge("disk.full", 0, mount="/"), disk(85, "/"))
    assert kinds(made.tick()) == ["unmuted"]


def test_maintenance_once_and_every_week(clock):
    now = datetime.fromtimestamp(clock.now(), UTC)
    hour = f"{now:%H}:00-{(now.hour + 1):02}:00"
    end = datetime.fromtimestamp(clock.now() + 30, UTC)
    once = MaintenanceConfig(name="move", match="host=web-1", start=now, end=end)
    for window in (once, MaintenanceConfig(name="night", hours=hour)):
        made = Engine(State(None), "web-1", clock)
        made.start([rule(warning="80%")], [window])
        observe(made, clock, disk(85))
        assert muted(made) == [f"maintenance: {window.name}"]
    clock.tick(3600)
    assert kinds(made.tick()) == ["unmuted"]


def test_faults_of_the_configuration(tmp_path):
    """Each with its place and what was expected."""
    text = """
[[maintenance]]
name = "a"
[[maintenance]]
name = "b"
start = 2026-12-24T22:00:00
end = 2026-12-25T06:00:00Z
[[maintenance]]
name = "c"
hours = "25:00-26:00"
[[thresholds]]
name = "x"
metric = "a.b"
warning = 1
depends_on = ["y", "z"]
[[thresholds]]
name = "y"
metric = "a.b"
warning = 1
depends_on = ["x"]
"""
    (tmp_path / "agent.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "agent.toml")
    faults = "\n".join(caught.value.faults)
    for expected in (
        "maintenance[0]: expected start and end, or days and hours",
        "maintenance[1]: start and end: expected a moment with its zone",
        'maintenance[2]: expected hours such as "09:00-18:00"',
        "no threshold is named 'z'",
        "depends on itself",
    ):
        assert expected in faults


def test_a_match_says_all_that_it_takes(clock):
    made = engine(clock, rule(warning="80%"))
    [(incident, _)] = observe(made, clock, disk(85, "/data"))
    for text in ("Disk", "D*", "*", "host=web-1", "mount=/d*,metric=disk.*", incident.id):
        assert Match.parse(text).covers(incident), text
    for text in ("disk", "host=web-2", "mount=/data,host=x", "rack=*", "inc_0"):
        assert not Match.parse(text).covers(incident), text
