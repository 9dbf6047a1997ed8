"""The desk: takes what Slack brings, at once, and sees to it that it is answered, once.

What is taken is acknowledged before anything else is done: neither the database nor a host nor Slack's own API
can hold that up.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
from typing import Any

from agent.clock import Clock
from agent.collector.chatops.answer import Answer, Mouth
from agent.collector.chatops.confirm import Asked, Confirm, question
from agent.collector.chatops.easel import Easel, Illustrated, Place
from agent.collector.chatops.fanout import States
from agent.collector.chatops.grants import FREE, Grants, Rights
from agent.collector.chatops.inquiries import Inquiries
from agent.collector.chatops.orders import Order, Orders
from agent.collector.chatops.plan import Plan
from agent.collector.chatops.repeats import SAME_WITHIN, Repeats, same
from agent.collector.chatops.request import Request, of_event, of_press, of_slash
from agent.collector.chatops.words import count_words, state_lines
from agent.collector.store import AuditLog
from agent.commands import verbs
from agent.errors import CommandError, StoreError
from agent.slack.answers import answer
from agent.slack.blocks import Message
from agent.slack.person import actor

log = logging.getLogger(__name__)

MOST_AT_ONCE = 100
CLAIM_WITHIN = 5.0
"""Seconds after which we do not wait for the database to say whether another collector has the request."""
UNASKED = 30.0
"""Seconds for which a database that let us wait so long is not asked again."""
DAY = 86400.0
_READERS = {"slash_commands": of_slash, "events_api": of_event, "interactive": of_press}


class Desk:
    def __init__(
        self,
        *,
        mouth: Mouth,
        easel: Easel,
        grants: Grants,
        orders: Orders,
        inquiries: Inquiries,
        confirm: Confirm,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._mouth = mouth
        self._easel = easel
        self._grants = grants
        self._orders = orders
        self._inquiries = inquiries
        self._confirm = confirm
        self._audit = audit
        self._clock = clock
        self._repeats = Repeats()
        self._unasked_until = float("-inf")
        self._tasks: set[asyncio.Task[None]] = set()
        self.taken = 0
        self.repeated = 0

    def take(self, kind: str, payload: dict[str, Any]) -> dict[str, Any] | None:
        """Starts the work on a payload of Slack's; what its acknowledgement says, if anything. Waits for nothing."""
        reader = _READERS.get(kind)
        request = reader(payload) if reader is not None else None
        if request is None:
            return None
        if not self._repeats.first(request, self._clock.monotonic()):
            self.repeated += 1
            return None
        if len(self._tasks) >= MOST_AT_ONCE:
            self._orders.note(_order(request), "refused", detail="too much at once")
            return _only_you("Too much is being asked for at once; try again in a moment.")
        self.taken += 1
        task = asyncio.create_task(self._serve(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return _only_you("Working on it …") if request.source == "slash" else None

    async def aclose(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, request: Request) -> None:
        """One of the borders: whatever happens in here, the asker is told and the audit knows."""
        if not await self._mine(request):
            self.repeated += 1
            return
        order = _order(request)
        try:
            rights = await self._grants.of(request.user)
            if request.verb in ("confirm", "cancel"):
                await self._decided(request, rights)
            else:
                await self._answer(request, order, rights)
        except CommandError as error:
            await self._refuse(request, order, error)
        except Exception as error:
            log.exception("request failed", extra={"request": request.id, "verb": request.verb[:32]})
            self._orders.note(order, "failed", detail=type(error).__name__)
            await self._mouth.whisper(request, "This should not have happened; the collector's log says more.")

    async def _refuse(self, request: Request, order: Order, error: CommandError) -> None:
        self._orders.note(order, "refused", detail=f"{error.code}: {error.detail}")
        await self._mouth.whisper(request, _sentence(error.detail))

    async def _mine(self, request: Request) -> bool:
        """Whether no other collector has it already."""
        said = hashlib.sha256(same(request).encode("utf-8", "replace")).hexdigest()
        return await self._claimed(request.id, DAY) and await self._claimed(said, SAME_WITHIN)

    async def _claimed(self, key: str, window: float) -> bool:
        """Ours, too, where the database cannot tell."""
        if self._clock.monotonic() < self._unasked_until:
            return True
        try:
            async with asyncio.timeout(CLAIM_WITHIN):
                return await self._claim(key, window)
        except StoreError:
            return True
        except TimeoutError:
            self._unasked_until = self._clock.monotonic() + UNASKED
            log.warning("database does not say who answers; it is not asked for a while", extra={"seconds": UNASKED})
            return True

    async def _claim(self, key: str, window: float) -> bool:
        """A lock that another collector holds for a moment is no database that is away."""
        for _ in range(3):
            try:
                return await self._audit.claim(key, self._clock.now(), window)
            except StoreError as error:
                log.info("claim tried again", extra={"error": str(error)[:200]})
                await self._clock.sleep(0.1)
        return await self._audit.claim(key, self._clock.now(), window)

    async def _answer(self, request: Request, order: Order, rights: Rights, *, confirmed: bool = False) -> None:
        if not rights and order.verb not in FREE:
            raise CommandError("unknown_user", "you have no grant; whoever keeps agent.toml can give you one")
        verb = verbs.find(order.verb)
        inquiry = self._inquiries.find(order)
        if inquiry is not None:
            message = await inquiry(order, rights)
            self._orders.note(order, "done")
            await self._say(request, message, whisper=order.verb == "help")
            return
        plan = await self._orders.plan(order, rights)
        if verb.danger and not confirmed:
            await self._ask(request, order, plan)
            return
        await self._carry_out(request, order, plan)

    async def _say(self, request: Request, message: Message, *, whisper: bool) -> None:
        if whisper:
            await self._mouth.whisper(request, message.text, message.blocks)
            return
        said = Answer(self._mouth, request)
        await said.finish(message)
        if isinstance(message, Illustrated) and message.graph is not None and said.ts:
            place = Place(said.channel, request.thread or said.ts)
            await self._easel.put(message.graph, request.id, place)

    async def _carry_out(self, request: Request, order: Order, plan: Plan, ts: str = "") -> None:
        """In one message that is edited as hosts answer; to a pressed button in words, as its own message changes."""
        if request.source == "button" and order.verb != "job" and not ts:
            states = await self._orders.carry_out(order, plan)
            await self._mouth.whisper(request, "\n".join(state_lines(plan, states)), _shown(order, plan, states).blocks)
            return
        shown = Answer(self._mouth, request, ts)
        try:
            states = await self._orders.carry_out(
                order, plan, lambda plan, states: shown.show(_shown(order, plan, states))
            )
            await shown.finish(_shown(order, plan, states))
        finally:
            shown.stop()

    async def _ask(self, request: Request, order: Order, plan: Plan) -> None:
        """Are you sure? For the asker alone; where it takes a second person, for everybody to see."""
        token = self._confirm.token(
            request.user, order.verb, tuple(order.words), order.text, self._clock.now(), name=request.name
        )
        message = question(request.user, order.text, sorted(plan.hosts), token, second=self._confirm.second)
        self._orders.note(order, "confirm", hosts=plan.hosts)
        if self._confirm.second:
            await Answer(self._mouth, request).finish(message)
        else:
            await self._mouth.whisper(request, message.text, message.blocks)

    async def _decided(self, request: Request, rights: Rights) -> None:
        """A confirm button: who pressed it is asked for their rights again, and it works once."""
        asked = self._confirm.read(request.token)
        key, asker = f"confirm {asked.nonce}", actor(asked.user, asked.name)
        order = Order(request.id, key, asker, "button", asked.verb, asked.words, asked.text)
        press = order
        if request.user != asked.user:
            press = dataclasses.replace(order, actor=request.actor, asked_by=asker)
        try:
            self._confirm.check(asked, request.user, self._clock.now(), cancel=request.verb == "cancel")
            if asked.second:
                await self._decided_together(request, rights, asked, order, press)
            else:
                await self._decided_alone(request, rights, asked, order)
        except CommandError as error:
            await self._refuse(request, press, error)

    async def _decided_alone(self, request: Request, rights: Rights, asked: Asked, order: Order) -> None:
        await self._mouth.take_back(request)
        await self._use(asked)
        if request.verb == "cancel":
            self._orders.note(order, "cancelled")
            return
        await self._answer(request, order, rights, confirmed=True)

    async def _decided_together(
        self, request: Request, rights: Rights, asked: Asked, order: Order, press: Order
    ) -> None:
        """Whoever may not leaves the question as it stands; else the message that asked becomes the answer."""
        if press is order:  # who asked takes it back
            plan = None
        else:
            plan = await self._plan_of_both(asked, order, rights)
        await self._use(asked)
        if request.verb == "cancel" or plan is None:
            self._orders.note(press, "cancelled")
            await Answer(self._mouth, request, request.message).finish(answer(f"{order.text}: left alone"))
            return
        self._orders.note(press, "confirmed", hosts=plan.hosts)
        await self._carry_out(request, dataclasses.replace(order, confirmed_by=press.actor), plan, request.message)

    async def _plan_of_both(self, asked: Asked, order: Order, rights: Rights) -> Plan:
        """On the hosts of who asked, who must still have the grant; who confirms must have it on all of them."""
        try:
            plan = await self._orders.plan(order, await self._grants.of(asked.user))
        except CommandError as error:
            if error.code == "no_grant":
                raise CommandError("no_grant", "who asked for it has no grant for it any more") from None
            raise
        missing = [host for host in plan.hosts if not rights.allows(asked.verb, host)]
        if missing:
            raise CommandError("no_grant", f"you have no grant for {asked.verb} on {missing[0]}")
        return plan

    async def _use(self, asked: Asked) -> None:
        if not await self._first(asked.nonce):
            raise CommandError("used", "this was decided already")

    async def _first(self, nonce: str) -> bool:
        """Here, and in every collector that shares our database; the host itself runs its command's id once."""
        used = Request(verb="used", user="U", channel="C", source="button", key=f"nonce {nonce}", token=nonce)
        return self._repeats.first(used, self._clock.monotonic()) and await self._claimed(f"nonce {nonce}", DAY)


def _order(request: Request) -> Order:
    return Order(
        request.id,
        request.key,
        request.actor,
        request.source,
        request.verb,
        request.words,
        request.text or request.verb,
        request.host,
        request.incident,
    )


def _shown(order: Order, plan: Plan, states: States) -> Message:
    """Hosts that were not heard of yet count as asked."""
    title = order.text if states else f"{order.text}: asking"
    counts = count_words(states)
    return answer(f"{title}: {counts}" if counts else title, state_lines(plan, states), code=True)


def _only_you(text: str) -> dict[str, Any]:
    return {"response_type": "ephemeral", "text": text}


def _sentence(text: str) -> str:
    """Its first word, unless that is a name; ended, unless it is."""
    first = text.partition(" ")[0].rstrip(",:;")
    text = text[:1].upper() + text[1:] if first.isalpha() else text
    return text if text.endswith(("?", ".", "…")) else f"{text}."
