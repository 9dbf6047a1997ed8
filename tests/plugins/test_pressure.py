import errno

import pytest

import plugins.pressure
from tests.plugins.recorded import values


async def test_averages_and_exact_shares(machine):
    """The kernel's averages come at once, the shares of the time between two runs with the second."""
    recorded = machine("pressure")
    recorded.at("first")
    probe = recorded.probe()
    first = await probe.collect()
    assert values(first, resource="io") == {"pressure.some_percent": 20.0, "pressure.full_percent": 15.0}
    recorded.at("second", after=10)
    second = await probe.collect()
    assert values(second, resource="io") == pytest.approx({
        "pressure.some_percent": 40.0,
        "pressure.full_percent": 30.0,
        "pressure.some_stalled_percent": 50.0,
        "pressure.full_stalled_percent": 25.0,
    })  # fmt: skip
    assert values(second, resource="memory")["pressure.some_stalled_percent"] == 0.0


@pytest.mark.parametrize("moment", ["first", "old"])
async def test_cpu_has_no_full(machine, moment):
    """That line is all zeros, or missing in older kernels: it is no metric in either case."""
    recorded = machine("pressure")
    recorded.at(moment)
    assert set(values(await recorded.probe().collect(), resource="cpu")) == {"pressure.some_percent"}


async def test_a_kernel_without_it(machine):
    """No information is no metric, and no error either."""
    recorded = machine("pressure")
    recorded.at("absent")
    assert await recorded.probe().collect() == []


async def test_a_kernel_that_has_it_switched_off(machine, monkeypatch):
    """The files are there and refuse to be read: the same as if they were not."""

    def refuse(path):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported", path)

    recorded = machine("pressure")
    recorded.at("first")
    probe = recorded.probe()
    monkeypatch.setattr(plugins.pressure, "read_file", refuse)
    assert await probe.collect() == []


async def test_totals_that_begin_anew(machine):
    """A total that went back gives no share, rather than one below zero."""
    recorded = machine("pressure")
    recorded.at("second")
    probe = recorded.probe()
    await probe.collect()
    recorded.at("first")
    assert "pressure.some_stalled_percent" not in values(await probe.collect(), resource="io")
