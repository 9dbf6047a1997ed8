"""Why a threshold judges as it does, in words that a person can follow."""

from __future__ import annotations

import math

import pytest

from agent.alerting.explain import explain
from agent.config.schema import ThresholdConfig
from agent.config.units import Duration, Quantity
from agent.model import Metric
from tests.unit.test_engine import disk, engine, observe, rule


def text(made, name="Disk"):
    return "\n".join(made.explain(name))


def test_at_rest_there_is_nothing_to_tell_but_the_rule(clock):
    made = engine(clock, rule(warning="80%", critical="90%", clear="75%", hold=60))
    observe(made, clock, disk(10))
    said = text(made)
    assert "warning > 80 % (ends at 75 %), critical > 90 % (ends at 85 %), for 1 min" in said
    assert "every series is at rest" in said


def test_a_breach_that_has_not_lasted_yet(clock):
    made = engine(clock, rule(warning="80%", hold=60))
    observe(made, clock, disk(85))
    observe(made, clock, disk(86))
    said = text(made)
    assert "mount=/: OK" in said
    assert "last judged 86 %" in said
    assert "warning: off; beyond its bound, for 10 s, has to last 1 min" in said


def test_held_by_its_end(clock):
    made = engine(clock, rule(warning="80%", clear="70%"))
    observe(made, clock, disk(85))
    observe(made, clock, disk(75))
    assert "warning: on; held until it is back past its end" in text(made)


def test_n_of_m(clock):
    made = engine(clock, rule(warning="80%", of="2 of 3"))
    observe(made, clock, disk(85))
    assert "off; beyond its bound, in 1 of the last 1 results, 2 of 3 are needed" in text(made)


def test_absence_acknowledgement_and_silence(clock):
    made = engine(clock, rule(warning="80%", absent_for=60))
    [(incident, _)] = observe(made, clock, disk(85))
    made.acknowledge(incident.id, "ada")
    made.silence("Disk", 3600, "bob", "moving")
    clock.tick(30)
    said = text(made)
    assert "silent for 30 s of 1 min" in said
    assert f"incident {incident.id}, version 3: warning" in said
    assert "acknowledged by ada" in said
    assert "not told: silenced by bob" in said


def test_a_series_that_never_came(clock):
    made = engine(clock, rule(warning="80%", absent_for=60, match={"mount": "/srv"}))
    clock.tick(70)
    [(incident, _)] = made.tick()
    said = text(made)
    assert "mount=/srv: no result since the start of the daemon\n  silent for 1 min 10 s of 1 min" in said
    assert f"incident {incident.id}, version 1: warning\n    told" in said
    observe(made, clock, disk(10, "/srv"))
    assert "no result" not in text(made)


def test_a_result_that_is_no_number_is_not_the_last_that_was_judged(clock):
    made = engine(clock, rule(warning="80%"))
    observe(made, clock, disk(85))
    clock.tick(20)
    observe(made, clock, disk(math.nan))
    assert "last judged 85 % at " in text(made)
    assert ", 30 s ago" in text(made)


def test_the_bounds_of_a_rate_say_per_what(clock):
    bound = Quantity.parse("1GiB/h")
    made = engine(clock, ThresholdConfig(name="Disk", metric="log.used_bytes", warning=bound, rate=Duration(300)))
    for index in range(60):
        observe(made, clock, Metric("log.used_bytes", 1e7 * index, "bytes"))
    assert "warning > 1 GiB/h" in text(made)
    assert "last judged 3.35 GiB/h" in text(made)


def test_what_flaps_says_how_much(clock):
    made = engine(clock, rule(warning="80%"))
    for index in range(12):
        observe(made, clock, disk(85 if index % 2 else 10))
    assert "flapping:" in text(made)
    assert "% of changes" in text(made)


def test_a_rule_that_is_not_there(clock):
    with pytest.raises(KeyError):
        engine(clock).explain("Disk")


def test_it_changes_nothing(clock):
    made = engine(clock, rule(warning="80%"))
    observe(made, clock, disk(85))
    watch = made._watches["Disk"]
    before = repr(watch._tracks)
    explain(watch.rule, watch._tracks, clock.now(), clock.monotonic())
    assert repr(watch._tracks) == before
