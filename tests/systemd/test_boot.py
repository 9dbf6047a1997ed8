"""The units in a really booted systemd: one boot, of which every test reads one finding."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.systemd import container

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(900)]
EXAMINATION = Path(__file__).parent / "inside" / "examine.py"
CHECKS = re.findall(r"^    (\w+),$", EXAMINATION.read_text().split("CHECKS:")[1], re.MULTILINE)


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    if request.config.option.markexpr != "systemd":
        pytest.skip("a boot is asked for by name: make test-systemd")
    if os.geteuid() != 0:
        pytest.skip("a container is booted by root only")
    wheel = container.build(tmp_path_factory.mktemp("own"))
    out = tmp_path_factory.mktemp("out")
    console = container.boot(wheel.parent, out, 420)
    path = out / "report.json"
    log = out / "journal.log"
    if log.exists():
        print(log.read_text()[-20_000:])
    assert path.exists(), f"the machine wrote no report:\n{console[-4000:]}"
    found: dict[str, dict[str, object]] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("check", CHECKS)
def test_in_a_booted_systemd(report: dict[str, dict[str, object]], check: str) -> None:
    """What the function of this name in inside/examine.py says."""
    assert check in report, f"the machine did not get as far; it did {list(report)}"
    assert report[check]["passed"], report[check]["said"]
    print(f"{report[check]['said']} ({report[check]['seconds']} s)")
