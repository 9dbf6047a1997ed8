"""What has arrived from the broker and waits to be taken."""

from __future__ import annotations

import logging
from collections import deque
from typing import NamedTuple

log = logging.getLogger(__name__)
MESSAGE = 500
"""Bytes that a message takes beside its payload, so that a flood of tiny ones is bounded as well."""


class Message(NamedTuple):
    """What arrived. `retain` marks what the broker had kept from before we subscribed."""

    topic: str
    payload: bytes
    retain: bool


class Inbox:
    """A queue bounded by bytes: beyond `max_bytes` new messages are dropped and counted.

    Dropping is harmless for envelopes: nobody has acknowledged them, so they come again.
    """

    def __init__(self, max_bytes: int) -> None:
        self.waiting: deque[Message] = deque()
        self.size = 0
        self.max_bytes = max_bytes
        self.dropped = 0

    def put(self, message: Message) -> None:
        if self.size > self.max_bytes:
            if not self.dropped:
                log.warning("inbox is full, messages are dropped", extra={"bytes": self.size})
            self.dropped += 1
            return
        self.size += len(message.payload) + MESSAGE
        self.waiting.append(message)

    def take(self) -> Message:
        message = self.waiting.popleft()
        self.size -= len(message.payload) + MESSAGE
        return message
