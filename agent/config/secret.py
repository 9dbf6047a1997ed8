"""Secrets: named in agent.toml, never written there, and never printed."""

from __future__ import annotations

import os
from pathlib import Path

MOST = 64 * 1024
"""Bytes of a secret: far more than any has, and little enough to be read from a file that never ends."""


class Secret:
    """A value from the environment, a file or a systemd credential, read when it is needed.

    Written `{ env = "X" }`, `{ file = "/run/x" }` or `{ credential = "slack-bot-token" }`.
    """

    expected = '{ env = "NAME" }, { file = "/path" } or { credential = "name" }'

    def __init__(self, source: str, name: str) -> None:
        self.source = source
        self.name = name

    @classmethod
    def parse(cls, table: object) -> Secret:
        """Checks that the secret is there; raises ValueError that says what is missing."""
        if not isinstance(table, dict) or len(table) != 1:
            raise ValueError(f"expected {cls.expected}")
        [(source, name)] = table.items()
        if source not in ("env", "file", "credential") or not isinstance(name, str) or not name:
            raise ValueError(f"expected {cls.expected}")
        secret = cls(source, name)
        secret.reveal()
        return secret

    def reveal(self) -> str:
        """The value, without surrounding white space; ValueError if it is missing or empty."""
        if self.source == "env":
            value = os.environ.get(self.name, "")
            where = f"environment variable {self.name}"
        else:
            path = self._path()
            where = str(path)
            try:
                with path.open("rb") as file:
                    raw = file.read(MOST + 1)
                value = raw.decode()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"missing secret: {where}: {getattr(error, 'strerror', None) or error}") from error
            if len(raw) > MOST:
                raise ValueError(f"missing secret: {where} holds more than {MOST // 1024} KiB: that is no secret")
        if not value.strip():
            raise ValueError(f"missing secret: {where} is not set or empty")
        return value.strip()

    def _path(self) -> Path:
        if self.source == "file":
            return Path(self.name)
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise ValueError(
                f"missing secret: credential {self.name}: $CREDENTIALS_DIRECTORY is not set "
                '(systemd sets it with LoadCredential=; without systemd: { file = "/path" })'
            )
        if "/" in self.name or self.name in (".", ".."):
            raise ValueError(f"credential {self.name!r}: expected a plain name")
        return Path(directory) / self.name

    def __repr__(self) -> str:
        return f"Secret({self.source}={self.name})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self.source, self.name) == (other.source, other.name)

    def __hash__(self) -> int:
        return hash((self.source, self.name))
