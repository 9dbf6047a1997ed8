"""A few cycles of what `make chaos` does for long."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.services import program

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_nothing_is_lost_or_doubled_in_a_few_kills() -> None:
    """Agents, broker and collector killed -9; every committed envelope is in the store once, some were sent again."""
    program("mosquitto", "mosquitto")
    command = [sys.executable, "-m", "tests.chaos", "--cycles", "4", "--store", "sqlite", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost 0, duplicated 0, quarantined 0, samples missing 0" in done.stdout
