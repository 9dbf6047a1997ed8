"""Where a secret comes from, and what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.load import load
from agent.config.secret import MOST, Secret
from agent.errors import ConfigError


def test_a_file_without_end_is_no_secret(tmp_path: Path) -> None:
    """Told as a fault of the file, and never read whole."""
    path = tmp_path / "agent.toml"
    path.write_text('[slack]\nbot_token = { file = "/dev/zero" }\n')
    with pytest.raises(ConfigError, match="bot_token: missing secret: /dev/zero holds more than 64 KiB"):
        load(path)


def test_a_long_one_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("x" * (MOST - 1) + "\n")
    assert Secret("file", str(path)).reveal() == "x" * (MOST - 1)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="missing secret"):
        Secret("file", str(path)).reveal()
