"""What is said once over a connection, and what is heard on it, beside the envelopes and their acknowledgements."""

from __future__ import annotations

from agent.errors import DeniedError, TransportError
from agent.transport.inbox import Message
from agent.transport.wire import Topic
from tests.fakes.clock import settle
from tests.unit.spools import HOST

REPLIES = Topic(HOST, "replies", "cmd_1")
COMMANDS = Topic(HOST, "commands")


def letters(rig) -> list[bytes]:
    return [payload for topic, payload, _ in rig.session.published if topic == str(REPLIES)]


async def test_said_in_order_and_not_retained(make) -> None:
    rig, done = await make(), []
    for number in range(3):
        rig.shipper.publish(REPLIES, b"%d" % number, lambda number=number: done.append(number))
    await settle()
    assert letters(rig) == [b"0", b"1", b"2"]
    assert done == [0, 1, 2]
    assert not any(retain for topic, _, retain in rig.session.published if topic == str(REPLIES))


async def test_a_lost_connection_says_it_again_and_only_what_did_not_arrive(make) -> None:
    rig, done = await make(), []
    rig.shipper.publish(REPLIES, b"arrives", lambda: done.append(1))
    await settle()
    rig.session.puback = False
    rig.shipper.publish(REPLIES, b"first", lambda: done.append(2))
    rig.shipper.publish(REPLIES, b"second", lambda: done.append(3))
    await settle()
    for future in rig.session.futures:
        if not future.done():
            future.set_exception(TransportError("lost"))
    rig.link.down()
    await settle()
    rig.shipper.publish(REPLIES, b"third", lambda: done.append(4))
    assert done == [1]
    rig.link.up()
    await settle()
    assert letters(rig) == [b"first", b"second", b"third"]
    assert done == [1, 2, 3, 4]


async def test_a_refusal_of_the_broker_is_for_good(make) -> None:
    rig, done = await make(), []
    rig.session.puback = False
    rig.shipper.publish(REPLIES, b"x", lambda: done.append(1))
    await settle()
    rig.session.futures[-1].set_exception(DeniedError("no"))
    rig.link.down()
    rig.link.up()
    await settle()
    assert letters(rig) == []
    assert done == []


async def test_heard_from_the_next_connection_on_and_never_what_was_retained(make) -> None:
    rig, heard = await make(), []
    rig.shipper.hear(str(COMMANDS), heard.append)
    rig.shipper.hear(f"tocsin/v1/{HOST}/+/any", heard.append)
    rig.link.down()
    rig.link.up()
    await settle()
    assert rig.session.listened == [str(COMMANDS), f"tocsin/v1/{HOST}/+/any"]
    rig.session.incoming.put_nowait(Message(str(COMMANDS), b"kept", True))
    rig.session.incoming.put_nowait(Message(str(COMMANDS), b"new", False))
    rig.session.incoming.put_nowait(Message(f"tocsin/v1/{HOST}/other", b"x", False))
    rig.session.incoming.put_nowait(Message(f"tocsin/v1/{HOST}/c-1/any", b"each", False))
    await settle()
    assert [message.payload for message in heard] == [b"new", b"each"]


async def test_open_incidents_are_said_again_to_a_broker_that_forgot_them(make) -> None:
    """Retained while open: acknowledged, gone from the spool, and yet there after the broker lost its state."""
    rig = await make()
    seq = rig.incident("i1")
    await rig.spool.flush()
    await rig.quiet()
    rig.session.ack(seq)
    await rig.quiet()
    rig.link.down()
    rig.link.up()
    await rig.quiet()
    said = [topic for topic, payload, retain in rig.session.published if retain and payload]
    assert f"tocsin/v1/{HOST}/incidents/i1" in said
    seq = rig.incident("i1", version=2, resolved=True)
    await rig.spool.flush()
    await rig.quiet()
    rig.session.ack(seq)
    await rig.quiet()
    rig.link.down()
    rig.link.up()
    await rig.quiet()
    said = [topic for topic, payload, retain in rig.session.published if retain and payload]
    assert f"tocsin/v1/{HOST}/incidents/i1" not in said
