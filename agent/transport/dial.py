"""From a broker's URL to a connected socket, TCP or TLS, without a thread that could outlive its caller.

Every step can be cancelled: whoever sets a deadline around `dial` gets it, and gets no leftovers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from agent.aside import aside
from agent.config.schema import MqttConfig
from agent.errors import TransportError

if TYPE_CHECKING:
    import ssl

PORTS = {"mqtt": 1883, "mqtts": 8883}


class Broker(NamedTuple):
    """Where a broker is; `secure` asks for TLS."""

    host: str
    port: int
    secure: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_url(url: str) -> Broker:
    """`mqtt://host[:port]` or `mqtts://host[:port]`; TransportError says what is wrong with any other."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise TransportError(f"mqtt url {url!r}: {error}") from error
    if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/") or parts.username:
        raise TransportError(f"mqtt url {url!r}: expected mqtt://host:port or mqtts://host:port")
    return Broker(parts.hostname, port or PORTS[parts.scheme], parts.scheme == "mqtts")


async def dial(broker: Broker, config: MqttConfig, seconds: float) -> socket.socket:
    """A connected, non-blocking socket to the broker, with TLS done where it is asked for.

    Each of the broker's addresses gets its share of `seconds`, so that one dead address does not
    eat the time of the next. Raises TransportError.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    addresses = await _resolve(broker)
    fault = "no address"
    for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        share = (deadline - asyncio.get_running_loop().time()) / left
        try:
            async with asyncio.timeout(share):
                return await _connect(broker, config, address)
        except TimeoutError:
            fault = f"no answer within {seconds:g} s"
        except OSError as error:
            fault = os.strerror(error.errno) if error.errno else str(error)  # asyncio puts the address in its place
    raise TransportError(f"cannot reach {broker}: {fault}")


async def _connect(broker: Broker, config: MqttConfig, address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, _, target = address
    connected = socket.socket(family, kind, protocol)
    try:
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connected, target)
        return await _secure(connected, broker, config) if broker.secure else connected
    except BaseException:
        connected.close()
        raise


async def _resolve(broker: Broker) -> list[tuple[Any, ...]]:
    """The broker's addresses. A name is looked up in a daemon thread: a dead resolver must not hold up our exit."""
    # As bytes where that is the same: a str is looked up through the IDNA codec, which stays in memory.
    host = broker.host.encode() if broker.host.isascii() else broker.host
    with contextlib.suppress(OSError):
        return socket.getaddrinfo(host, broker.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    try:
        return await aside("resolve", lambda: socket.getaddrinfo(host, broker.port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:  # no answer, or nothing that could be asked for
        raise TransportError(f"cannot resolve {broker.host}: {getattr(error, 'strerror', None) or error}") from error


async def _secure(plain: socket.socket, broker: Broker, config: MqttConfig) -> ssl.SSLSocket:
    import ssl  # noqa: PLC0415 - only who asks for TLS pays for it

    try:
        context = ssl.create_default_context(cafile=str(config.ca) if config.ca else None)
        if config.cert:
            context.load_cert_chain(str(config.cert), str(config.key) if config.key else None)
    except OSError as error:  # a missing file, or one that holds no certificate
        files = ", ".join(str(path) for path in (config.ca, config.cert, config.key) if path)
        raise TransportError(f"TLS files {files}: {error.strerror or error}") from error
    secured = context.wrap_socket(plain, server_hostname=broker.host, do_handshake_on_connect=False)
    try:
        await _handshake(secured)
    except ssl.SSLError as error:
        secured.close()
        raise TransportError(f"TLS with {broker}: {getattr(error, 'verify_message', '') or error.reason}") from error
    except BaseException:
        secured.close()
        raise
    return secured


async def _handshake(secured: ssl.SSLSocket) -> None:
    import ssl  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    while True:
        ready: asyncio.Future[None] = loop.create_future()
        try:
            secured.do_handshake()
            return
        except ssl.SSLWantReadError:
            watch, forget = loop.add_reader, loop.remove_reader
        except ssl.SSLWantWriteError:
            watch, forget = loop.add_writer, loop.remove_writer
        watch(secured.fileno(), _set, ready)
        try:
            await ready
        finally:
            forget(secured.fileno())


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
