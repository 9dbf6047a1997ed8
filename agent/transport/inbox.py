"""What has arrived from the broker and waits to be taken."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

log = logging.getLogger(__name__)
MESSAGE = 500
"""Bytes that a message takes beside its payload, so that a flood of tiny ones is bounded as well."""


PACKET = 4
"""Times the inbox: what is larger is not even received. A packet is in memory before it is a message."""


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


def bounded(receive: Callable[[int], bytes], most: int) -> Callable[[int], bytes]:
    """`receive` as long as no more than `most` bytes are asked for, which is all that is left of a packet; else the
    connection is as good as lost. MQTT lets a broker send 256 MiB at once, and a host has no room for that.
    """

    def checked(size: int) -> bytes:
        if size > most:
            raise ConnectionError(f"a packet of {size} bytes, more than {most}")
        return receive(size)

    return checked
