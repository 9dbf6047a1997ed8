"""Where a message of ours is in Slack, if it is there at all."""

from __future__ import annotations

from agent.alerting.delivery import Delivery
from agent.alerting.messenger import Messenger, Posted
from agent.model import Sight


async def find(messenger: Messenger, row: Delivery, channel: str, thread: str) -> Posted | None:
    """The post or reply that may have arrived. `thread` is where the incident's own message is, "" for the channel."""
    found = await messenger.find(channel, row.nonce, row.asked_at, thread or row.ts or None)
    if found is None and row.doing == "post" and thread and not row.thread:
        found = await messenger.find(channel, row.nonce, row.asked_at)  # of one who did not know of the thread
    return found


async def look(messenger: Messenger, row: Delivery, sight: Sight, channel: str, thread: str) -> Posted | None:
    """What Slack has taken, if it is shown there; a reply is in the thread, be it that of the message itself."""
    within = thread or (row.ts if sight.call is not None else "")
    return await messenger.find(channel, sight.nonce, sight.asked_at, within or None, at=sight.ts)
