"""Who is never told anything does not carry what obeys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.commands import JOURNAL
from agent.commands.payload import Reply
from agent.config.keys import KeySource
from agent.config.schema import AgentConfig, CommandsConfig, Config
from agent.daemon.intake import Intake
from agent.daemon.parts import Identity
from tests.fakes.clock import ManualClock


class Host:
    """An intake and the topics that it has asked to hear."""

    def __init__(self, directory: Path, clock: ManualClock) -> None:
        directory.chmod(0o700)
        self.heard: list[str] = []
        self.config = Config(agent=AgentConfig(host="web-1", state_dir=directory))
        shipper = SimpleNamespace(hear=lambda topic, _: self.heard.append(topic))
        self.intake = Intake(
            cast("Any", SimpleNamespace(shipper=shipper, engine=None, outbox=None)),
            Identity("web-1", "e1"),
            lambda: cast("Any", self),
            clock,
            line=lambda: "",
            tell=lambda _: None,
        )

    @property
    def seated(self) -> bool:
        return self.intake._desk is not None


@pytest.fixture
async def host(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Host]:
    host = Host(tmp_path, clock)
    yield host
    await host.intake.aclose()


async def ask(host: Host, verb: str) -> Reply:
    return await host.intake._ask(verb, {}, "cli:0 root", lambda _: None)


async def test_nobody_is_obeyed_and_nothing_is_loaded(host: Host) -> None:
    await host.intake.open()
    assert not host.seated
    assert host.heard == []
    assert [value for _, value, _, _ in host.intake.figures()] == [0, 0]


async def test_the_first_question_finds_a_desk(host: Host, tmp_path: Path) -> None:
    await host.intake.open()
    running = asyncio.create_task(host.intake.run())
    reply = await ask(host, "nonsense")
    assert (reply.state, reply.data["reason"]) == ("refused", "unknown_verb")
    assert host.seated
    assert (tmp_path / JOURNAL).exists()
    running.cancel()


async def test_what_the_last_process_left_is_looked_at(host: Host, tmp_path: Path) -> None:
    (tmp_path / JOURNAL).touch()
    await host.intake.open()
    assert host.seated


async def test_a_reload_may_bring_a_key(host: Host, tmp_path: Path) -> None:
    await host.intake.open()
    assert not host.intake.listen()
    commands = CommandsConfig(trusted_keys=KeySource(file=tmp_path / "keys"))
    host.config = Config(agent=host.config.agent, commands=commands)
    assert host.intake.listen()
    assert host.heard == ["tocsin/v1/web-1/commands"]
    assert not host.intake.listen()


async def test_at_the_end_nothing_is_begun(host: Host) -> None:
    await host.intake.open()
    await host.intake.aclose()
    with pytest.raises(ConnectionError):
        await ask(host, "status")
    assert not host.seated
