"""Commands that need more than the base install say what to install."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from agent.errors import UnavailableError


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around the imports: UnavailableError where a package of that extra is missing, not one of our own."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "agent").partition(".")[0] in ("agent", "plugins"):
            raise
        raise UnavailableError(f"{error.name} is not installed; install tocsin[{extra}]") from error
