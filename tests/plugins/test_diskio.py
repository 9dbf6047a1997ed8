import pytest

from plugins.diskio import DiskIoOptions
from tests.plugins.recorded import values


async def collected(recorded, *moments, options=None):
    probe = recorded.probe(options)
    for moment in moments:
        recorded.at(moment, after=10)
        metrics = await probe.collect()
    return metrics


async def test_rates_of_whole_disks(machine):
    """Ten seconds of traffic, per second; a disk at rest reports zeros; loops and partitions are left out."""
    recorded = machine("diskio")
    assert await collected(recorded, "first") == []
    metrics = await collected(recorded, "first", "second")
    assert values(metrics, device="sda") == pytest.approx({
        "diskio.read_bytes_per_second": 1_048_576.0,
        "diskio.write_bytes_per_second": 21760 * 51.2,
        "diskio.read_operations_per_second": 10.0,
        "diskio.write_operations_per_second": 30.0,
        "diskio.busy_percent": 25.0,
        "diskio.wait_seconds": 0.005,
    })  # fmt: skip
    assert set(values(metrics, device="sdb").values()) == {0.0}
    assert {metric.labels["device"] for metric in metrics} == {"sda", "sdb", "cciss/c0d0"}


async def test_partitions_and_exclusions_on_demand(machine):
    """Options add the partitions and leave out what a pattern matches."""
    options = DiskIoOptions(partitions=True, exclude=("loop*", "sdb", "cciss*"))
    metrics = await collected(machine("diskio"), "first", "second", options=options)
    assert {metric.labels["device"] for metric in metrics} == {"sda", "sda1"}


async def test_a_disk_that_vanishes_and_another_that_takes_its_name(machine):
    """A disk that has gone is silent; one whose totals begin anew has no rate in this run; the others go on."""
    metrics = await collected(machine("diskio"), "first", "second", "replaced")
    assert {metric.labels["device"] for metric in metrics} == {"sda"}


async def test_milliseconds_that_wrap_after_fifty_days(machine):
    """The kernel's 32-bit milliseconds begin anew without a dent in busy and wait."""
    found = values(await collected(machine("diskio"), "wrapping", "wrapped"), device="sda")
    assert found["diskio.busy_percent"] == pytest.approx(50.0)
    assert found["diskio.wait_seconds"] == pytest.approx((0.5 + 0.5) / 100)


async def test_no_time_has_passed(machine):
    """Two runs at one instant bring no rates, and no division by zero."""
    recorded = machine("diskio")
    recorded.at("first")
    probe = recorded.probe()
    await probe.collect()
    recorded.at("second", after=0)
    assert await probe.collect() == []
