"""One run of one probe: whatever it does, a result comes out."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import Metric
from agent.plugin import Options, Probe, gauge
from agent.probing.plan import PlannedProbe
from agent.probing.runner import Runner, told
from agent.probing.screen import MOST, screen


def planned(create: Callable[[], Probe], timeout: float = 5.0) -> PlannedProbe:
    return PlannedProbe("it", create, 10.0, "", timeout, 0.0, "it")


class Does(Probe):
    """Calls `act` for each part of its life, by name."""

    def __init__(self, **acts: Callable[[], Any]) -> None:
        super().__init__(Options())
        self.acts = acts
        self.calls: list[str] = []

    async def _do(self, name: str) -> Any:
        self.calls.append(name)
        result = self.acts[name]() if name in self.acts else []
        return await result if asyncio.iscoroutine(result) else result

    async def open(self) -> None:
        await self._do("open")

    async def collect(self) -> list[Metric]:
        return await self._do("collect")

    async def aclose(self) -> None:
        await self._do("aclose")


def raising(error: BaseException) -> Callable[[], Any]:
    def act() -> None:
        raise error

    return act


def own(result) -> dict[str, float]:
    return {m.name: m.value for m in result.metrics if m.labels == {"probe": "it"}}


async def test_a_good_run_brings_its_metrics_and_its_own(clock):
    """What was measured, then up, duration and lag, labelled with the probe's name."""

    async def measure() -> list[Metric]:
        clock.tick(0.5)
        return [gauge("it.value", 7)]

    result = await Runner(planned(lambda: Does(collect=measure)), clock).run(lag=0.25)
    assert (result.probe, result.status, result.error, result.duration) == ("it", "ok", "", 0.5)
    assert result.time == 1_790_000_000.0
    assert result.metrics[0] == gauge("it.value", 7)
    assert own(result) == {"probe.up": 1, "probe.duration": 0.5, "probe.lag": 0.25}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError("no\n  disk"), "FileNotFoundError: no disk"),
        (SystemExit(3), "SystemExit: 3"),
        (GeneratorExit("odd"), "GeneratorExit: odd"),
        (BaseException("panic"), "BaseException: panic"),
        (asyncio.CancelledError(), "CancelledError: the run was cancelled from within"),
        (ValueError(), "ValueError"),
    ],
)
async def test_an_error_is_a_result(clock, error, text):
    """An exception, sys.exit or a stray cancellation in a plugin ends neither the run nor the agent."""
    runner = Runner(planned(lambda: Does(collect=raising(error))), clock)
    result = await runner.run()
    assert (result.status, result.error) == ("error", text)
    assert own(result)["probe.up"] == 0
    assert len(result.metrics) == 3


def test_an_error_text_is_short_and_can_be_sent():
    """However long it is, whatever is in it, and even where it cannot be made."""

    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert told(OddError()) == "OddError"
    assert len(told(ValueError("x" * 10_000_000))) < 600
    told(ValueError("\udcff")).encode()


async def test_the_deadline_ends_a_run(clock):
    """A run that sleeps for ever is cancelled, and the next one runs."""
    waits = [asyncio.sleep(3600), []]
    probe = Does(collect=lambda: waits.pop(0))
    runner = Runner(planned(lambda: probe, timeout=0.05), clock)
    first = await runner.run()
    assert (first.status, first.error) == ("timeout", "no result within 0.05 s")
    assert (await runner.run()).status == "ok"


async def test_a_run_that_ignores_its_cancellation_is_never_doubled(clock):
    """It is left alone, the next runs fail at once, and when it ends at last all is well again."""
    free = asyncio.Event()

    async def stubborn() -> list[Metric]:
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                continue
        return []

    probe = Does(collect=stubborn)
    runner = Runner(planned(lambda: probe, timeout=0.02), clock)
    assert (await runner.run()).status == "timeout"
    again = await runner.run()
    assert (again.status, "has not ended" in again.error) == ("timeout", True)
    assert probe.calls == ["open", "collect"]
    free.set()
    await asyncio.sleep(0.01)
    assert (await runner.run()).status == "ok"


async def test_open_is_tried_again_until_it_works(clock):
    """A failed open is a failed run; a good one is not repeated."""
    errors = [OSError("not yet"), OSError("not yet")]
    probe = Does(open=lambda: raising(errors.pop())() if errors else None)
    runner = Runner(planned(lambda: probe), clock)
    statuses = [(await runner.run()).status for _ in range(4)]
    assert statuses == ["error", "error", "ok", "ok"]
    assert probe.calls == ["open", "open", "open", "collect", "collect"]


async def test_a_constructor_that_raises_is_a_failed_run(clock):
    """Nothing of a plugin runs outside of the border."""
    runner = Runner(planned(raising(KeyError("x"))), clock)
    assert (await runner.run()).error == "KeyError: 'x'"
    await runner.aclose()


async def test_closing_is_once_and_only_of_what_was_opened(clock):
    """A probe that never opened has nothing to give back; an error in aclose is nobody's trouble."""
    probe = Does(aclose=raising(RuntimeError("again")))
    runner = Runner(planned(lambda: probe), clock)
    await runner.run()
    await runner.aclose()
    await runner.aclose()
    assert probe.calls.count("aclose") == 1
    assert (await runner.run()).error == "the probe is closed"
    unopened = Does(open=raising(OSError()))
    runner = Runner(planned(lambda: unopened), clock)
    await runner.run()
    await runner.aclose()
    assert "aclose" not in unopened.calls


async def test_closing_is_bounded(clock, monkeypatch):
    """Neither a run nor an aclose that hangs can hold it up."""
    monkeypatch.setattr("agent.probing.runner.CLOSE", 0.05)
    probe = Does(collect=lambda: asyncio.sleep(3600), aclose=lambda: asyncio.sleep(3600))
    runner = Runner(planned(lambda: probe, timeout=3600), clock)
    run = asyncio.create_task(runner.run())
    while "collect" not in probe.calls:  # noqa: ASYNC110 - the loop has only to turn
        await asyncio.sleep(0)
    await asyncio.wait_for(runner.aclose(), 30)
    assert (await run).status == "error"
    assert probe.calls[-1] == "aclose"


async def test_cancelling_a_run_cancels_the_probe(clock):
    """CancelledError is the one thing that comes out, and the probe's own run ends with it."""
    ended = asyncio.Event()

    async def wait() -> list[Metric]:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()
        return []

    task = asyncio.create_task(Runner(planned(lambda: Does(collect=wait)), clock).run())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(ended.wait(), 30)


async def test_a_hung_thread_costs_one_and_works_again_when_it_returns(clock):
    """Deadline, then BusyError without a second thread, then results again once the call has come back."""
    hang = threading.Event()

    class Hung(Probe):
        async def collect(self) -> list[Metric]:
            await self.in_thread(hang.wait)
            return []

    runner = Runner(planned(lambda: Hung(Options()), timeout=0.1), clock)
    before = threading.active_count()
    assert (await runner.run()).status == "timeout"
    for _ in range(5):
        result = await runner.run()
        assert (result.status, result.error.split(":")[0]) == ("error", "BusyError")
    assert threading.active_count() == before + 1
    hang.set()
    async with asyncio.timeout(30):
        while (await runner.run()).status != "ok":  # noqa: ASYNC110 - a thread's end tells nobody
            await asyncio.sleep(0.01)
    await runner.aclose()
    async with asyncio.timeout(30):
        while threading.active_count() > before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("error", [StopIteration("end"), SystemExit(2), ValueError("no")])
async def test_a_thread_hands_over_every_error(clock, error):
    """Also the two that a future cannot carry or that would end the loop: told at once, not at the deadline."""

    class Fails(Probe):
        async def collect(self) -> list[Metric]:
            return await self.in_thread(raising(error))

    result = await Runner(planned(lambda: Fails(Options()), timeout=30), clock).run()
    assert result.status == "error"
    assert type(error).__name__ in result.error


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (None, "returned NoneType, expected a list"),
        ((gauge("a", 1) for _ in ()), "returned generator"),
        ([1], "a list with int in it"),
        ([gauge("Bad-name", 1)], "'Bad-name' does not match"),
        ([gauge("a\n", 1)], "does not match"),
        ([gauge("", 1)], "does not match"),
        ([gauge("probe.up", 1)], "the agent's own"),
        ([gauge("a", math.nan, "", mount="/")], r"a\{mount=/\} is nan"),
        ([gauge("a", -math.inf)], "a is -inf"),
        ([Metric("a", "1")], "a has a value of type str"),  # type: ignore[arg-type]
        ([Metric("a", True)], "a has a value of type bool"),
        ([Metric("a", 10**400)], "too large"),
        ([Metric("a", 1.0, "", "sum")], "kind 'sum'"),  # type: ignore[arg-type]
        ([Metric("a", 1.0, labels={"b": 1})], "1 as unit or label"),  # type: ignore[dict-item]
        ([Metric("a", 1.0, labels=[])], "labels of type list"),  # type: ignore[arg-type]
        ([gauge("a", 1, "", path="\udcff")], "no UTF-8"),
        ([gauge("a", 1), gauge("a", 2)], "metric a comes twice"),
        ([gauge("a", 1, "", x="1", y="2"), gauge("a", 2, "", y="2", x="1")], r"a\{x=1,y=2\} comes twice"),
        ([gauge("a", 1, "", i=str(i)) for i in range(MOST + 1)], "5001 metrics, expected at most 5000"),
    ],
)
async def test_what_cannot_be_taken_is_named(clock, returned, reason):
    """A result that would break a later stage is an error of that run, with the metric's name in it."""
    result = await Runner(planned(lambda: Does(collect=lambda: returned)), clock).run()
    assert result.status == "error"
    with pytest.raises((ValueError, TypeError), match=reason):
        screen(returned)
    assert len(result.metrics) == 3


def test_whole_numbers_become_floats():
    """So that one series is of one type."""
    [metric] = screen([Metric("a", 3)])
    assert type(metric.value) is float


@given(
    st.lists(
        st.builds(
            Metric,
            st.sampled_from(["a", "b.c", "d_1"]),
            st.floats(allow_nan=False, allow_infinity=False),
            labels=st.dictionaries(st.text(max_size=3), st.text(st.characters(codec="utf-8"), max_size=3), max_size=2),
        ),
        unique_by=lambda metric: metric.series,
        max_size=20,
    )
)
def test_everything_valid_passes_as_it_is(metrics):
    """The screen changes nothing and refuses nothing that is in order."""
    try:
        for metric in metrics:
            for text in metric.labels:
                text.encode()
    except UnicodeEncodeError:
        return
    assert list(screen(metrics)) == metrics
