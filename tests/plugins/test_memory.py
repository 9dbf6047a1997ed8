import pytest

from tests.plugins.recorded import values

KIB = 1024


async def test_memory_and_swap(machine):
    """Used is what is not available; the caches that can be given back are added up; swap has a share."""
    recorded = machine("memory")
    recorded.at("swapping")
    assert values(await recorded.probe().collect()) == pytest.approx({
        "memory.total_bytes": 8_000_000 * KIB,
        "memory.available_bytes": 2_000_000 * KIB,
        "memory.free_bytes": 500_000 * KIB,
        "memory.used_bytes": 6_000_000 * KIB,
        "memory.used_percent": 75.0,
        "memory.cached_bytes": 2_000_000 * KIB,
        "memory.shared_bytes": 250_000 * KIB,
        "memory.dirty_bytes": 1200 * KIB,
        "memory.swap_total_bytes": 4_000_000 * KIB,
        "memory.swap_used_bytes": 3_000_000 * KIB,
        "memory.swap_used_percent": 75.0,
        "memory.pressure_percent": 12.5,
    })  # fmt: skip


async def test_without_swap_and_without_pressure_information(machine):
    """What the machine does not have is left out; the rest is there."""
    recorded = machine("memory")
    recorded.at("plain")
    found = values(await recorded.probe().collect())
    assert found["memory.swap_total_bytes"] == 0.0
    assert "memory.swap_used_percent" not in found
    assert "memory.pressure_percent" not in found


async def test_a_kernel_that_does_not_tell_what_is_available(machine):
    """A line that is missing is an error that names it, not a wrong figure."""
    recorded = machine("memory")
    recorded.at("ancient")
    with pytest.raises(ValueError, match="MemAvailable"):
        await recorded.probe().collect()
