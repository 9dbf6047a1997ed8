"""WIRING of what people ask for: audit and commands always, Slack where its tokens are there."""

from __future__ import annotations

import asyncio
from typing import Any

from agent.clock import Clock
from agent.collector.chatops.answer import Mouth, member_list
from agent.collector.chatops.auditor import Auditor
from agent.collector.chatops.confirm import Confirm
from agent.collector.chatops.desk import Desk
from agent.collector.chatops.easel import Easel
from agent.collector.chatops.fanout import Fanout
from agent.collector.chatops.grants import Grants, Groups
from agent.collector.chatops.inquiries import Inquiries
from agent.collector.chatops.orders import Orders
from agent.collector.chatops.plan import Planner
from agent.collector.fleet import Fleet
from agent.collector.store import AuditLog, Store
from agent.commands.signing import Signer
from agent.config.schema import Config
from agent.config.secret import Secret
from agent.errors import ConfigError
from agent.slack import picture
from agent.slack.socket import Arrival, Socket
from agent.slack.web import Web


class Office:
    """`desk` None: Slack cannot speak to us; `socket` None: it does so by HTTP, or not at all.

    `signing_secret` is what requests by HTTP are signed with, "" where they are not taken.
    """

    def __init__(self, config: Config, name: str, fleet: Fleet, store: Store, clock: Clock) -> None:
        self.log: AuditLog = store.audit
        self.auditor = Auditor(store.audit, name, clock)
        self.fanout = Fanout(_signer(config), clock)
        self.orders = Orders(Planner(fleet, store.reader), self.fanout, self.auditor)
        self.desk: Desk | None = None
        self.socket: Socket | None = None
        self.signing_secret = ""
        self._webs: list[Web] = []
        slack = config.slack
        asked = slack.signing_secret if slack.mode == "http" else slack.app_token
        if slack.bot_token is None or asked is None:
            return
        bot = self._web(config, slack.bot_token)
        groups = Groups(lambda group: _members(bot, group), clock)
        mouth = Mouth(bot, clock, slack.base_url)
        self.desk = Desk(
            mouth=mouth,
            easel=Easel(mouth, on=picture.wanted(slack)),
            grants=Grants(config.commands.grants, groups),
            orders=self.orders,
            inquiries=Inquiries(fleet, store.reader, store.audit, self.orders, clock),
            confirm=Confirm(_revealed("slack.bot_token", slack.bot_token), second=config.commands.second_person),
            audit=store.audit,
            clock=clock,
        )
        if slack.mode == "http":
            self.signing_secret = _revealed("slack.signing_secret", asked)
        else:
            desk = self.desk

            def take(arrival: Arrival) -> dict[str, Any] | None:
                return desk.take(arrival.kind, arrival.payload)

            self.socket = Socket(self._web(config, asked), take, clock)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.auditor.run())
            if self.socket is not None:
                group.create_task(self.socket.run())

    async def aclose(self) -> None:
        if self.desk is not None:
            await self.desk.aclose()
        for web in self._webs:
            await web.aclose()

    def _web(self, config: Config, secret: Secret) -> Web:
        self._webs.append(Web(secret, config.slack.base_url, float(config.slack.timeout)))
        return self._webs[-1]


async def _members(web: Web, group: str) -> frozenset[str]:
    return member_list(await web.call("usergroups.users.list", {"usergroup": group}, json=False))


def _signer(config: Config) -> Signer | None:
    key = config.commands.signing_key
    if key is None:
        return None
    try:
        return Signer.parse(_revealed("commands.signing_key", key))
    except ValueError as error:
        raise ConfigError([f"commands.signing_key: {error}"]) from error


def _revealed(where: str, secret: Secret) -> str:
    try:
        return secret.reveal()
    except ValueError as error:
        raise ConfigError([f"{where}: {error}"]) from error
