"""A request that hosts must answer, from whoever it came: planned, audited, sent, and audited again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.collector.chatops.auditor import Auditor
from agent.collector.chatops.custody import HERE, Custody
from agent.collector.chatops.fanout import ANSWER_WITHIN, Fanout, States
from agent.collector.chatops.grants import Rights
from agent.collector.chatops.mine import Mine
from agent.collector.chatops.plan import Plan, Planner
from agent.collector.chatops.silences import Held, holding, listed
from agent.collector.chatops.words import count_words, why
from agent.commands import verbs
from agent.commands.payload import Args
from agent.errors import CommandError

LOOK_WITHIN = 5.0
"""Seconds that hosts have to say which silences they hold."""


@dataclass(frozen=True)
class Order:
    """`key` is equal for every copy of the same request; `actor` is written into command and audit.

    Where it took two persons, `asked_by` or `confirmed_by` is the other one.
    """

    request: str
    key: str
    actor: str
    source: str
    verb: str
    words: Sequence[str]
    text: str
    host: str = ""
    incident: str = ""
    asked_by: str = ""
    confirmed_by: str = ""

    @property
    def names(self) -> str:
        """Of everybody whose will it is."""
        return f"{self.actor}, confirmed by {self.confirmed_by}" if self.confirmed_by else self.actor


Progress = Callable[[Plan, States], None]


class Orders:
    def __init__(self, planner: Planner, fanout: Fanout, auditor: Auditor) -> None:
        self.planner = planner
        self.fanout = fanout
        self.auditor = auditor
        self._mine: Mine | None = None

    def keep(self, custody: Custody) -> None:
        """From now on there are incidents of our own."""
        self._mine = Mine(custody, self.planner)

    def note(self, order: Order, outcome: str, *, hosts: tuple[str, ...] = (), detail: str = "") -> None:
        other = f"asked by {order.asked_by}" if order.asked_by else ""
        if order.confirmed_by:
            other = f"confirmed by {order.confirmed_by}"
        self.auditor.note(
            request=order.request,
            actor=order.actor,
            source=order.source,
            verb=order.verb,
            text=order.text,
            outcome=outcome,
            hosts=hosts,
            detail="; ".join(filter(None, (other, detail))),
        )

    async def plan(self, order: Order, rights: Rights) -> Plan:
        """CommandError where it cannot be, or may not; nothing has been sent then."""
        if order.verb == "unsilence":
            return await self._unsilence(order, rights)
        mine = self._mine
        host = (mine.host_of(order.verb, order.words) if mine else "") or order.host
        plan = await self.planner.plan(order.verb, order.words, rights, host=host, incident=order.incident)
        return plan if mine is None else mine.share(plan, order.words, rights)

    async def carry_out(
        self, order: Order, plan: Plan, progress: Progress | None = None, seconds: float = ANSWER_WITHIN
    ) -> States:
        """The final state of every host of the plan."""
        self.note(order, "accepted", hosts=plan.hosts)
        states: States = dict(plan.states)
        if self._mine is not None:
            states |= await self._mine.do(plan, order.names)
        if progress is not None:
            progress(plan, states)
        await self.fanout.run(
            plan.verb,
            plan.args,
            actor=order.names,
            key=order.key,
            states=states,
            changed=None if progress is None else lambda states: progress(plan, states),
            seconds=seconds,
        )
        self.note(order, outcome_of(states), hosts=plan.hosts, detail=_detail(states))
        return states

    async def silences(self, order: Order, rights: Rights, verb: str = "silences") -> Held:
        """What the hosts hold on which `verb` is granted, as they say it now, and what we hold."""
        plan = self.planner.on(verb, {}, self.planner.names(), rights)
        key = f"{order.key} silences"
        answers = await self.fanout.run("silences", plan.args, actor=order.actor, key=key, seconds=LOOK_WITHIN)
        states = {**plan.states, **answers}
        if self._mine is not None:
            states[HERE] = await self._mine.silences(rights, verb)
        return Held(listed(states), {host: why(state) for host, state in states.items() if state.state != "done"})

    async def _unsilence(self, order: Order, rights: Rights) -> Plan:
        """The silence that was made at once on many hosts ends on all of them, under each host's own id."""
        wanted = str(verbs.parse("unsilence", order.words)["id"])
        silence = holding((await self.silences(order, rights, "unsilence")).silences, wanted)
        if silence is None:
            raise CommandError("unknown_silence", f"no host that answers holds a silence {wanted}")
        args: dict[str, Args] = {host: {"id": number} for host, number in silence.ids.items()}
        own = {HERE: args.pop(HERE)} if HERE in args else {}
        return Plan("unsilence", args, {}, own=own)


def outcome_of(states: States) -> str:
    kinds = {state.state for state in states.values()}
    if all(state.good for state in states.values()):
        return "done"
    if kinds == {"refused"}:
        return "refused"
    return "unanswered" if kinds <= {"done", "silent", "offline"} and kinds != {"done"} else "failed"


def _detail(states: States) -> str:
    bad = [f"{host}: {state.state} {state.text}".strip() for host, state in sorted(states.items()) if not state.good]
    return "; ".join([count_words(states), *bad[:20]])
