import pytest

from plugins.network import NetworkOptions
from tests.plugins.recorded import values


async def collected(recorded, *moments, options=None):
    probe = recorded.probe(options)
    for moment in moments:
        recorded.at(moment, after=10)
        metrics = await probe.collect()
    return metrics


async def test_rates_of_an_interface(machine):
    """Ten seconds of traffic, per second; errors and drops of both directions are added up."""
    metrics = await collected(machine("network"), "first", "second")
    assert values(metrics, interface="eth0") == pytest.approx({
        "network.link_up": 1.0,
        "network.receive_bytes_per_second": 500_000.0,
        "network.transmit_bytes_per_second": 50_000.0,
        "network.receive_packets_per_second": 500.0,
        "network.transmit_packets_per_second": 100.0,
        "network.errors_per_second": 5.0,
        "network.drops_per_second": 5.0,
    })  # fmt: skip


async def test_links_and_default_exclusions(machine):
    """The first run has the links alone: a tunnel without a carrier is up, loopback and containers are left out."""
    metrics = await collected(machine("network"), "first")
    assert {metric.name for metric in metrics} == {"network.link_up"}
    links = {metric.labels["interface"]: metric.value for metric in metrics}
    assert links == {"eth0": 1.0, "wg0": 1.0, "eth1": 0.0}


async def test_exclusions_on_demand(machine):
    """The option replaces the default patterns; an interface that has no operstate still has its rates."""
    metrics = await collected(machine("network"), "first", "second", options=NetworkOptions(exclude=("eth*", "wg?")))
    assert {metric.labels["interface"] for metric in metrics} == {"lo", "veth12ab"}
    assert values(metrics, interface="veth12ab")["network.receive_bytes_per_second"] == 20.0


async def test_totals_that_go_back_and_an_interface_that_vanishes(machine):
    """After a wrap or a reset there is no rate for one run, never a negative or a huge one; others go on."""
    recorded = machine("network")
    metrics = await collected(recorded, "first", "second", "reset")
    assert values(metrics, interface="eth0") == {"network.link_up": 1.0}
    assert values(metrics, interface="wg0")["network.receive_bytes_per_second"] == 1000.0
    assert not values(metrics, interface="eth1")
