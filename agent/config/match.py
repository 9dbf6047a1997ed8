"""Which incidents are meant: patterns over what is known of them, as people write them in one word. Pure."""

from __future__ import annotations

import re

import msgspec

from agent.model import Incident

_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def glob(pattern: str) -> re.Pattern[str]:
    """`*` stands for any run of characters, all else for itself."""
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


class Match(msgspec.Struct, frozen=True):
    """Which incidents are meant. All patterns must match; "*" stands for anything, but not for a missing label."""

    patterns: tuple[tuple[str, re.Pattern[str]], ...]

    @classmethod
    def parse(cls, text: str) -> Match:
        """`key=glob,key=glob` over host, threshold, metric, id and labels; one bare word is a threshold's name, or an
        incident's id. ValueError tells what was expected.
        """
        found: dict[str, re.Pattern[str]] = {}
        for part in (part.strip() for part in text.split(",")):
            key, equals, pattern = part.partition("=")
            if not equals:
                key, pattern = ("id", part) if part.startswith("inc_") else ("threshold", part)
            if not pattern or not _KEY.fullmatch(key):
                raise ValueError(f"expected key=pattern, a threshold's name or an incident's id, not {part[:60]!r}")
            if key in found:
                raise ValueError(f"{key} is there twice")
            found[key] = glob(pattern)
        return cls(tuple(found.items()))

    def covers(self, incident: Incident) -> bool:
        facts = {
            **incident.labels,
            "host": incident.host,
            "threshold": incident.threshold,
            "metric": incident.metric,
            "id": incident.id,
        }
        return all(key in facts and pattern.fullmatch(facts[key]) for key, pattern in self.patterns)
