from tests.plugins.recorded import values


async def test_load_in_all_and_for_each_core(machine):
    """Two cores: each bears half of the load."""
    recorded = machine("load")
    recorded.at("busy")
    assert values(await recorded.probe().collect()) == {
        "load.1m": 6.0,
        "load.5m": 3.0,
        "load.15m": 1.5,
        "load.per_core_1m": 3.0,
        "load.per_core_5m": 1.5,
        "load.per_core_15m": 0.75,
    }
