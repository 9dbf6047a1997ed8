from collections.abc import Callable
from pathlib import Path

import pytest

from tests.plugins.recorded import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], Machine]:
    return lambda plugin: Machine(plugin, tmp_path)
