"""Slack does not repeat a slash command, but people do; and it does repeat what we were slow to acknowledge."""

from __future__ import annotations

from collections import OrderedDict

from agent.collector.chatops.request import Request

SAME_WITHIN = 5.0
"""Seconds in which the same person's same words are one request."""
KEPT = 900.0
MOST = 10_000


class Repeats:
    """What this collector has taken up lately. Times are monotonic."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, float] = OrderedDict()

    def first(self, request: Request, now: float) -> bool:
        """Whether this is neither a copy of a payload nor the same words again within seconds."""
        self._forget(now)
        said = same(request)
        again = self._seen.get(said)
        fresh = request.key not in self._seen and (again is None or now - again >= SAME_WITHIN)
        if fresh:
            for key in (request.key, said):
                self._seen[key] = now
                self._seen.move_to_end(key)
        return fresh

    def _forget(self, now: float) -> None:
        while self._seen and (len(self._seen) > MOST or next(iter(self._seen.values())) < now - KEPT):
            self._seen.popitem(last=False)


def same(request: Request) -> str:
    """Equal for what a person means by the same request."""
    about = (request.host, request.incident, request.token)
    return "\0".join(("said", request.user, request.channel, request.verb, *request.words, *about))
