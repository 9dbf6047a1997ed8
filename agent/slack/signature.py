"""Whether an HTTP request was signed by Slack with our signing secret, recently.

The SDK's verifier raises on a timestamp that is no number, and on a signature or body that is no text. What a
stranger sends must not be able to raise anything, so that the comparison is done here, on bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import re

WINDOW = 300.0
"""Seconds by which the request's time may differ from ours, either way."""
_TIMESTAMP = re.compile(r"[0-9]{1,15}", re.ASCII)


def signed(secret: str, timestamp: str | None, signature: str | None, body: bytes, now: float) -> bool:
    """`timestamp` and `signature` are the headers X-Slack-Request-Timestamp and X-Slack-Signature, None if missing."""
    if timestamp is None or signature is None or not _TIMESTAMP.fullmatch(timestamp):
        return False
    if abs(now - int(timestamp)) > WINDOW:
        return False
    wanted = hmac.new(secret.encode(), b"v0:%b:%b" % (timestamp.encode(), body), hashlib.sha256).hexdigest()
    return hmac.compare_digest(b"v0=" + wanted.encode(), signature.encode("utf-8", "surrogateescape"))
