"""What becomes of a delivery when a call failed: pure but for the log."""

from __future__ import annotations

import logging
import random

import msgspec

from agent.alerting.delivery import Delivery, Operation
from agent.errors import (
    AmbiguousError,
    AnewError,
    ChannelError,
    DeliveryError,
    RetryError,
    ShrinkError,
    TokenError,
)

log = logging.getLogger(__name__)

BACKOFF, BACKOFF_CAP = 1.0, 300.0
"""Seconds: the first pause after a failure, doubled each time up to the cap."""
PARK = 300.0
"""Seconds between tries while our credentials, or every channel we know, are refused."""
LOOKS = 20
"""Looks that may fail, within an hour or so; then what Slack has answered must do."""


class Verdict(msgspec.Struct, frozen=True):
    """Seconds: `pause` of this delivery, `method` of every call like it, `park` of everything."""

    pause: float = 0.0
    method: float = 0.0
    park: float = 0.0


def judge(row: Delivery, operation: Operation, error: DeliveryError, default: str, rng: random.Random) -> Verdict:
    """Move `row` to where it goes on from, and say how long to wait. `default` is the default channel."""
    row.error = str(error)
    tries = row.overlooked() if operation == "look" else row.attempts
    backoff = min(BACKOFF_CAP, BACKOFF * 2.0 ** min(tries - 1, 20)) * rng.uniform(0.8, 1.0)
    if (operation in ("find", "look") and _blind(error)) or (operation == "look" and tries >= LOOKS):
        _trust(row, operation)
        return Verdict()
    if operation not in ("find", "look"):
        row.state = "pending"
    verdict = Verdict(backoff)
    match error:
        case RetryError(after=float() | int() as after):
            pause = max(after, 1.0) + rng.uniform(0.05, 0.5)
            verdict = Verdict(pause, method=pause)
        case TokenError():
            verdict = Verdict(PARK, park=PARK)
        case ChannelError():
            verdict = Verdict(_divert(row, operation, default, error.code))
        case AnewError() if operation != "post":
            row.anew()
            verdict = Verdict()
        case AnewError() if row.gathered:  # the storm's message is gone: a message of its own
            row.bulletin = row.thread = ""
            verdict = Verdict()
        case ShrinkError() if operation not in ("find", "look"):
            row.state, row.small = ("dead", True) if row.small else ("pending", True)
            verdict = Verdict()
        case AmbiguousError() if operation in ("post", "reply"):
            row.state = "ambiguous"
    return verdict


def _trust(row: Delivery, operation: Operation) -> None:
    """Nobody lets us look: what Slack has taken will be there, and what may not have arrived is sent again."""
    if operation == "look":
        row.looked(seen=True)
        return
    # An alert told twice is better than one that is never told.
    log.error("cannot look for a message that may have arrived, sending again", extra={"incident": row.id})
    row.state = "pending"


def _blind(error: DeliveryError) -> bool:
    return isinstance(error, ChannelError | AnewError) or error.code == "missing_scope"


def _divert(row: Delivery, operation: Operation, default: str, code: str) -> float:
    """Leave a channel that cannot be written to for the default one. Seconds until the next try."""
    fields = {"channel": row.channel, "default": default, "error": row.error}
    if row.channel == default:
        log.error("the default channel cannot be written to", extra=fields)
        if operation != "post" and code == "channel_not_found":  # else the message is where it was
            row.anew()
        return PARK
    log.error("channel cannot be written to, using the default one", extra=fields)
    row.channel, row.bulletin, row.thread = default, "", ""
    row.anew()
    return 0.0
