from tests.plugins.recorded import values


async def test_uptime_and_when_it_began(machine):
    """The start is the present time less the uptime, to the second."""
    recorded = machine("uptime")
    recorded.at("running")
    found = values(await recorded.probe().collect())
    assert found == {"uptime.seconds": 86400.25, "uptime.boot_time": round(1_790_001_010 - 86400.25)}
