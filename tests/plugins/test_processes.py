import os

import pytest

import plugins.processes
from agent.plugin import read_file
from plugins.processes import ProcessesOptions
from tests.plugins.recorded import values

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def by_name(metrics, metric):
    return {found.labels["name"]: found.value for found in metrics if found.name == metric}


async def test_counts_by_state(machine):
    """Every process is in one state, whatever its name says; idle kernel threads sleep."""
    recorded = machine("processes")
    recorded.at("first")
    assert values(await recorded.probe().collect()) == {
        "processes.running": 1.0,
        "processes.sleeping": 7.0,
        "processes.blocked": 1.0,
        "processes.stopped": 0.0,
        "processes.zombie": 0.0,
        "processes.total": 9.0,
        "processes.threads": 13.0,
    }
    recorded.at("second")
    counts = values(await recorded.probe().collect())
    assert (counts["processes.stopped"], counts["processes.zombie"]) == (2.0, 1.0)


async def test_cpu_by_program(machine):
    """Processes of one name are added up; a pid that was given anew counts from zero; those at rest are not named."""
    recorded = machine("processes")
    recorded.at("first")
    probe = recorded.probe()
    assert by_name(await probe.collect(), "processes.cpu_percent") == {}
    recorded.at("second", after=10)
    spent = {"nginx": 300, "postgres": 40, "backup": 20, "systemd": 10, "kworker": 10}
    expected = {name: 100 * ticks / TICKS / 10 / 2 for name, ticks in spent.items()}
    assert by_name(await probe.collect(), "processes.cpu_percent") == pytest.approx(expected)


async def test_cpu_over_too_short_a_time(machine):
    """The kernel counts in ticks: over a few of them a share would be noise, so the next run counts from before."""
    recorded = machine("processes")
    recorded.at("first")
    probe = recorded.probe()
    await probe.collect()
    recorded.at("second", after=19 / TICKS)
    assert by_name(await probe.collect(), "processes.cpu_percent") == {}
    recorded.at("second", after=10)
    shares = by_name(await probe.collect(), "processes.cpu_percent")
    assert shares["postgres"] == pytest.approx(100 * 40 / TICKS / (10 + 19 / TICKS) / 2)


async def test_cpu_is_never_more_than_the_machine_has(machine):
    """A tick is booked whole to whoever runs when it ends: the sum of many may be more than the time there was."""
    recorded = machine("processes")
    recorded.at("first")
    probe = recorded.probe()
    await probe.collect()
    recorded.at("second", after=0.5)
    shares = by_name(await probe.collect(), "processes.cpu_percent")
    assert shares["nginx"] == 100.0
    assert max(shares.values()) == 100.0


async def test_the_largest_by_memory(machine):
    """The top N alone, largest first, and never a program without memory."""
    recorded = machine("processes")
    recorded.at("second")
    found = by_name(await recorded.probe(ProcessesOptions(top=2)).collect(), "processes.rss_bytes")
    assert list(found.items()) == [("nginx", 4500.0 * PAGE), ("systemd", 3000.0 * PAGE)]
    assert by_name(await recorded.probe(ProcessesOptions(top=0)).collect(), "processes.rss_bytes") == {}
    everything = by_name(await recorded.probe(ProcessesOptions(top=99)).collect(), "processes.rss_bytes")
    assert "kworker" not in everything


async def test_names_that_are_no_plain_text(machine):
    """Brackets and blanks in a name are part of it; control characters are escaped."""
    recorded = machine("processes")
    recorded.at("second")
    found = by_name(await recorded.probe(ProcessesOptions(top=99)).collect(), "processes.rss_bytes")
    assert "evil) R 1 (" in found
    assert r"odd\\\x1b[31m" in found


async def test_a_process_that_ends_while_we_look(machine, monkeypatch):
    """Gone before its file is opened, or before it is read: not counted, and no error."""
    recorded = machine("processes")
    recorded.at("second")
    probe = recorded.probe()
    assert values(await probe.collect())["processes.total"] == 11.0

    def read(path):
        if path.endswith("/100/stat"):
            raise ProcessLookupError(path)
        return read_file(path)

    monkeypatch.setattr(plugins.processes, "read_file", read)
    assert values(await probe.collect())["processes.total"] == 10.0


async def test_names_that_collide_when_garbled(tmp_path, machine):
    """A process cannot blind the probe with a name that is escaped to the name of another."""
    recorded = machine("processes")
    for pid, name in ((1, b"a\xff"), (2, rb"a\xff")):
        folder = tmp_path / "proc" / str(pid)
        folder.mkdir(parents=True)
        (folder / "stat").write_bytes(b"%d (%s) S 1 1 1 0 -1 0 1 0 0 0 5 5 0 0 20 0 1 0 10 100 50 0 0\n" % (pid, name))
    recorded.parts["proc"] = str(tmp_path / "proc")
    metrics = await recorded.probe().collect()
    assert len({metric.series for metric in metrics}) == len(metrics)
    assert len(by_name(metrics, "processes.rss_bytes")) == 2
