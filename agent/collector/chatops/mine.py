"""What of a request is the collector's own to do: beside hosts where it is a silence, in the place of one that is gone.

A grant on hosts is one on what the collector says of them: on all that are meant, where it is one act.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from agent.collector.chatops.custody import HERE, Custody
from agent.collector.chatops.fanout import HostState, States
from agent.collector.chatops.grants import Rights
from agent.collector.chatops.plan import OF_AN_INCIDENT, Plan, Planner
from agent.commands import verbs
from agent.commands.payload import Args

KEPT = "the collector keeps it for its incident about the host"


class Mine:
    def __init__(self, custody: Custody, planner: Planner) -> None:
        self._custody = custody
        self._planner = planner

    def host_of(self, verb: str, words: Sequence[str]) -> str:
        """Whom the incident of these words is about, if it is one of ours."""
        number = words[0] if words else ""
        return self._custody.host_of(number) if verb in OF_AN_INCIDENT or verb == "silence" else ""

    def share(self, plan: Plan, words: Sequence[str], rights: Rights) -> Plan:
        """`plan` with what we do of it."""
        if plan.verb not in OF_AN_INCIDENT and plan.verb != "silence":
            return plan
        args = verbs.parse(plan.verb, words)
        if self.host_of(plan.verb, words):
            return Plan(plan.verb, {}, {}, plan.left_out, dict.fromkeys(plan.hosts, args))
        if not self._custody.leading:  # another has what there is about the hosts that are gone
            return dataclasses.replace(plan, own={HERE: args}) if plan.states else plan
        return self._beside(plan, args, rights) if plan.verb == "silence" else plan

    async def do(self, plan: Plan, actor: str) -> States:
        return {name: await self._custody.do(plan.verb, args, actor) for name, args in plan.own.items()}

    async def silences(self, rights: Rights, verb: str) -> HostState:
        """Ours that may be seen, or ended, by who has these rights."""
        state = await self._custody.do("silences", {}, "")
        enough = all if verb == "unsilence" else any
        may = [
            one
            for one in state.data["silences"]
            if enough(rights.allows(verb, host) for host in self._meant(one["match"]) or self._planner.names())
        ]
        return HostState("done", state.text, {"silences": may})

    def _beside(self, plan: Plan, args: Args, rights: Rights) -> Plan:
        match = str(args["match"])
        meant = self._meant(match)
        if not meant:
            return plan
        if len(rights.hosts(plan.verb, meant)) < len(meant):
            return dataclasses.replace(plan, left_out=(*plan.left_out, HERE))
        kept = {host: HostState(state.state, KEPT) for host, state in plan.states.items() if host in meant}
        return dataclasses.replace(plan, states={**plan.states, **kept}, own={HERE: args})

    def _meant(self, match: str) -> list[str]:
        return self._custody.concerned(match, self._planner.matching(match))
