import pytest

from plugins.cpu import CpuOptions
from tests.plugins.recorded import values


async def test_shares_of_the_time_between_two_runs(machine):
    """The first run brings nothing; the second says where the ticks in between went."""
    recorded = machine("cpu")
    recorded.at("first")
    probe = recorded.probe()
    assert await probe.collect() == []
    recorded.at("second")
    assert values(await probe.collect()) == pytest.approx({
        "cpu.used_percent": 35.0,
        "cpu.user_percent": 20.0,
        "cpu.nice_percent": 1.0,
        "cpu.system_percent": 10.0,
        "cpu.iowait_percent": 5.0,
        "cpu.irq_percent": 2.0,
        "cpu.steal_percent": 2.0,
        "cpu.idle_percent": 60.0,
    })  # fmt: skip


async def test_every_core_on_demand(machine):
    """With per_core each core is a series of its own beside the whole."""
    recorded = machine("cpu")
    recorded.at("first")
    probe = recorded.probe(CpuOptions(per_core=True))
    await probe.collect()
    recorded.at("second")
    metrics = await probe.collect()
    assert values(metrics)["cpu.used_percent"] == pytest.approx(35.0)
    assert values(metrics, core="0")["cpu.user_percent"] == pytest.approx(100 * 200 / 450)
    assert values(metrics, core="1")["cpu.user_percent"] == 0.0


async def test_a_core_that_is_taken_away_and_iowait_that_goes_back(machine):
    """A core that vanished is no longer reported; a total that went back counts as no time, never as less than none."""
    recorded = machine("cpu")
    recorded.at("second")
    probe = recorded.probe(CpuOptions(per_core=True))
    await probe.collect()
    recorded.at("unplugged")
    metrics = await probe.collect()
    assert {metric.labels.get("core") for metric in metrics} == {None, "0"}
    whole = values(metrics)
    assert whole["cpu.iowait_percent"] == 0.0
    assert whole["cpu.used_percent"] == pytest.approx(50.0)


async def test_no_time_has_passed(machine):
    """Two runs within one tick bring no shares, and no division by zero."""
    recorded = machine("cpu")
    recorded.at("first")
    probe = recorded.probe()
    await probe.collect()
    assert await probe.collect() == []
