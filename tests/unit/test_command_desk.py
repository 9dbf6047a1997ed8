"""What may run runs once, is written down first, and is told to its end. The refusals: test_command_matrix.py."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

import pytest
from msgspec.structs import replace

from agent.commands import payload
from agent.commands.journal import FILE, Entry, Journal, verify
from agent.commands.lanes import Lane, Outcome
from agent.commands.payload import Args
from agent.commands.signing import Signer
from agent.config.keys import KeySource
from agent.errors import CommandError
from tests.services import eventually
from tests.unit.desks import Office

DAY = 86400


async def test_a_valid_command_is_done_and_told_step_by_step(office: Office) -> None:
    command = office.command()
    await office.desk.consider(office.signer.sign(command))
    await office.settled()
    assert office.executed == [("probe", {"name": "disk"}, "slack:U1 (ada)")]
    assert office.states(command.id) == ["accepted", "running", "done"]
    assert office.replies[-1].data == {"ok": True, "args": {"name": "disk"}}
    assert [(entry.outcome, entry.origin) for entry in office.audit()] == [
        ("accepted", "key ops-1"),
        ("done", "key ops-1"),
    ]


async def test_half_a_character_in_what_a_verb_found_holds_no_answer_back(office: Office) -> None:
    """Names of files bring them, and no JSON can hold one."""

    async def advise(args: Args, actor: str) -> Outcome:
        return Outcome("/var/\udcff.log", {"lines": ["/var/\udcff.log", ("\udcff",)], "\udcff": 1})

    office.desk._works = {**office.desk._works, "probe": advise}
    command = office.command()
    await office.desk.consider(office.signer.sign(command))
    await office.settled()
    assert office.states(command.id) == ["accepted", "running", "done"]
    assert payload.decode_reply(payload.encode_reply(office.replies[-1])).text == "/var/?.log"
    assert [entry.outcome for entry in office.audit()] == ["accepted", "done"]


async def test_delivered_ten_times_it_runs_once(office: Office) -> None:
    command = office.command()
    raw = office.signer.sign(command)
    for _ in range(5):
        await office.desk.consider(raw)
    await office.settled()
    for _ in range(5):
        await office.desk.consider(raw)
    assert len(office.executed) == 1
    assert "refused" not in office.states(command.id)
    assert office.replies[-1].state == "done"
    assert office.reasons() == ["replayed"] * 9


async def test_it_is_on_disk_before_it_runs(office: Office) -> None:
    """Seen by another connection from inside the verb: committed, not only written."""
    seen: list[tuple[str, str]] = []

    async def work(args: payload.Args, actor: str) -> Outcome:
        with sqlite3.connect(office.directory / FILE) as connection:
            seen.extend(connection.execute("SELECT id, state FROM commands"))
            [(level,)] = office.desk._journal._connection.execute("PRAGMA synchronous").fetchall()
            assert level == 2  # FULL: the commit has been through fsync
        return Outcome("looked")

    office.desk._works = {"probe": work}
    command = office.command()
    await office.desk.consider(office.signer.sign(command))
    await office.settled()
    assert office.replies[-1].text == "looked"
    assert seen == [(command.id, "accepted")]


async def test_a_revoked_key_is_refused_at_once(office: Office) -> None:
    keys = office.directory / "keys"
    keys.write_text(f"trusted {office.signer.public}\n")
    keys.chmod(0o644)
    office.settings = replace(office.settings, trusted_keys=KeySource(file=keys))
    await office.desk.consider(office.signed())
    await office.settled()
    keys.write_text(f"trusted {office.signer.public}\nrevoked {office.signer.public}\n")
    await office.desk.consider(office.signed())
    assert len(office.executed) == 1
    assert office.reasons() == ["revoked_key"]


@pytest.mark.parametrize("mode", [0o646, 0o664, None])
async def test_who_may_be_written_by_others_is_not_believed(office: Office, mode: int | None) -> None:
    if mode is None:
        office.settings.jobs.rename(office.directory / "real")
        office.settings.jobs.symlink_to(office.directory / "real")
    else:
        office.settings.jobs.chmod(mode)
    await office.desk.consider(office.signed())
    assert office.executed == []
    assert office.reasons() == ["disabled"]


async def test_two_keys_overlap_while_one_follows_the_other(office: Office) -> None:
    after, _ = Signer.new("ops-2")
    office.believe(office.signer.public, after.public)
    await office.desk.consider(office.signed())
    await office.desk.consider(after.sign(office.command()))
    await office.settled()
    assert len(office.executed) == 2
    office.believe(after.public)
    await office.desk.consider(office.signed())
    assert len(office.executed) == 2
    assert office.reasons() == ["unknown_key"]


async def test_replayed_after_a_restart_and_with_the_clock_set_back_it_is_refused(office: Office) -> None:
    raw = office.signed()
    await office.desk.consider(raw)
    await office.settled()
    await office.restart()
    await office.desk.consider(raw)
    office.clock.tick(86400)
    await office.desk.consider(office.signed())
    await office.settled()
    office.clock.set_back(86400)
    for _ in range(2):
        await office.desk.consider(raw)
        await office.restart()
    assert len(office.executed) == 2
    assert office.reasons() == ["replayed"] * 3


async def test_what_was_never_delivered_is_not_let_in_by_a_clock_set_back(office: Office) -> None:
    """The broker kept it for a day; its id is in no journal."""
    kept = office.signed()
    office.clock.tick(86400)
    await office.desk.consider(office.signed())
    await office.settled()
    office.clock.set_back(86400)
    await office.desk.consider(kept)
    assert len(office.executed) == 1
    assert office.reasons() == ["replayed"]


async def test_forgotten_ids_leave_a_floor(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.commands.journal.KEEP", 3)
    raws = []
    for _ in range(6):
        office.clock.tick(2)
        raws.append(office.signed())
        await office.desk.consider(raws[-1])
        await office.settled()
    with sqlite3.connect(office.directory / FILE) as connection:
        assert connection.execute("SELECT COUNT(*) FROM commands").fetchone() == (3,)
    for raw in raws:
        await office.desk.consider(raw)
    assert len(office.executed) == 6
    assert office.reasons() == ["replayed"] * 6


async def test_a_clock_that_was_ahead_is_told_and_can_be_mended(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a new key commands are taken from now on; neither what ran then nor what is forgotten runs again."""
    monkeypatch.setattr("agent.commands.journal.KEEP", 3)
    office.clock.set_back(-400 * DAY)
    raws = []
    for _ in range(4):
        office.clock.tick(2)
        raws.append(office.signed())
        await office.desk.consider(raws[-1])
        await office.settled()
    office.clock.set_back(400 * DAY)
    await office.desk.consider(office.signed())
    assert "a clock was ahead" in office.audit()[-1].text
    await office.stop()
    with contextlib.closing(Journal.alone(office.directory / FILE)) as journal:
        journal.lower_floor(office.clock.now(), Entry(office.clock.now(), "done", "offline", verb="unblock"))
    old, office.signer = office.signer, Signer.new("ops-2")[0]
    before = office.signed()
    office.believe(office.signer.public)
    office.desk = office._desk()
    await office.start()
    office.clock.tick(1)
    await office.desk.consider(before)
    for _ in range(5):
        office.clock.tick(2)
        await office.desk.consider(office.signed())
        await office.settled()
    assert len(office.executed) == 4 + 5
    office.clock.set_back(-400 * DAY)
    for raw in raws:
        await office.desk.consider(raw)
    await office.desk.consider(old.sign(office.command()))
    assert len(office.executed) == 4 + 5
    assert office.reasons() == ["replayed", "replayed", *["unknown_key"] * 5]
    assert verify(office.directory / FILE)[2] == ""


async def test_a_journal_in_use_is_nobody_elses(office: Office) -> None:
    await office.desk.consider(office.signed())
    await office.settled()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        Journal.alone(office.directory / FILE)
    await office.stop()
    Journal.alone(office.directory / FILE).close()


async def test_a_corrupt_journal_lets_nothing_older_in(office: Office) -> None:
    raw = office.signed()
    await office.desk.consider(raw)
    await office.settled()
    await office.stop()
    (office.directory / FILE).write_bytes(b"not a database at all, for certain" * 100)
    for tail in ("-wal", "-shm"):
        (office.directory / (FILE + tail)).unlink(missing_ok=True)
    office.desk = office._desk()
    await office.start()
    await office.desk.consider(raw)
    assert len(office.executed) == 1
    assert list(office.directory.glob("commands.db.corrupt-*"))
    office.clock.tick(1)
    await office.desk.consider(office.signed())
    await office.settled()
    assert len(office.executed) == 2


async def test_what_was_refused_does_not_run_later(office: Office) -> None:
    """Whoever asked was told so; a broker that delivers it again must not make it true after all."""
    office.believe(office.signer.public, allow=())
    raw = office.signed()
    await office.desk.consider(raw)
    future = office.signed(issued_at=office.clock.now() + 40, not_after=office.clock.now() + 90)
    await office.desk.consider(future)
    office.believe(office.signer.public)
    await office.desk.consider(raw)
    office.clock.tick(41)
    await office.desk.consider(future)
    assert office.executed == []
    assert office.reasons() == ["not_allowed", "future", "replayed", "replayed"]
    assert [reply.data["reason"] for reply in office.replies] == ["not_allowed", "future", "not_allowed", "future"]


async def test_many_at_once_are_held_off(office: Office) -> None:
    for _ in range(30):
        await office.desk.consider(office.signed("status"))
        await office.settled()
    assert len(office.executed) == 20
    assert office.reasons()[-1] == "rate"
    office.clock.tick(5)
    await office.desk.consider(office.signed("status"))
    await office.settled()
    assert len(office.executed) == 21


async def test_one_job_at_a_time_and_few_in_line(office: Office) -> None:
    office.hold = asyncio.Event()
    for _ in range(2):
        await office.desk.consider(office.signed("job", {"name": "hello"}))
    for _ in range(7):
        await office.desk.consider(office.signed())
    await office.desk.consider(office.signed("status"))
    await eventually(lambda: len(office.executed) == 3, "one of each lane")
    assert office.reasons() == ["busy"] * 3
    office.hold.set()
    await office.settled()
    assert [verb for verb, _, _ in office.executed].count("probe") == 5


async def test_a_verb_that_hangs_is_ended_and_one_that_falls_is_told(office: Office) -> None:
    enough = asyncio.Event()

    async def hang(args: payload.Args, actor: str) -> Outcome:
        while not enough.is_set():
            with contextlib.suppress(asyncio.CancelledError):  # it will not be told
                await enough.wait()
        return Outcome("too late")

    async def fall(args: payload.Args, actor: str) -> Outcome:
        raise RuntimeError("disk on fire")

    async def cannot(args: payload.Args, actor: str) -> Outcome:
        raise CommandError("unknown_probe", "no probe of that name")

    office.desk._works = {"probe": hang, "status": fall, "ack": cannot}
    office.desk._lanes["look"] = Lane(0.05, 1, grace=0.05)
    first = office.command()
    await office.desk.consider(office.signer.sign(first))
    await eventually(lambda: office.states(first.id)[-1:] == ["done"], "the end of what hangs")
    assert (office.replies[-1].data["ok"], office.replies[-1].text) == (False, "no result within 0.05 s")
    await office.desk.consider(office.signed("status"))
    await office.settled()
    assert office.replies[-1].text == "RuntimeError: disk on fire"
    await office.desk.consider(office.signed("ack", {"id": "inc_1"}))
    await office.settled()
    assert office.replies[-1].data == {"ok": False, "reason": "unknown_probe"}
    assert [entry.outcome for entry in office.audit()].count("failed") == 3
    enough.set()


async def test_ended_between_accept_and_result_it_is_interrupted_and_never_run_again(office: Office) -> None:
    office.hold = asyncio.Event()
    command = office.command()
    raw = office.signer.sign(command)
    await office.desk.consider(raw)
    await eventually(lambda: office.executed != [], "a begun command")
    office.heard = False
    await office.restart()
    await eventually(lambda: office.states(command.id)[-1] == "interrupted", "its end is told")
    await office.restart()
    office.heard = True
    await eventually(lambda: office.states(command.id).count("interrupted") == 2, "told again, as nobody heard it")
    await office.desk.consider(raw)
    assert len(office.executed) == 1
    assert office.replies[-1].state == "interrupted"
    assert [entry.outcome for entry in office.audit()] == ["accepted", "interrupted", "refused"]


async def test_a_result_outlives_a_lost_connection(office: Office) -> None:
    office.heard = False
    command = office.command()
    await office.desk.consider(office.signer.sign(command))
    await office.settled()
    office.heard, office.replies = True, []
    await office.restart()
    await eventually(lambda: office.states(command.id) == ["done"], "the result, once more")
    await office.settled()
    await office.restart()
    assert office.states(command.id) == ["done"]


async def test_without_a_journal_nothing_is_done(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("agent.commands.journal.Journal.consume", full)
    await office.desk.consider(office.signed())
    assert office.executed == []
    assert office.replies[-1].data == {"reason": "journal"}


async def test_the_command_line_asks_the_same_desk(office: Office) -> None:
    said: list[str] = []
    office.believe(allow=())  # no key, nothing allowed: that is for those who come over the wire
    reply = await office.desk.ask("probe", {"name": "disk"}, "cli:0 root", lambda reply: said.append(reply.state))
    assert (reply.state, said) == ("done", ["accepted", "running", "done"])
    refused = await office.desk.ask("probe", {"name": "--flag"}, "cli:0 root", lambda reply: None)
    assert (refused.state, refused.data) == ("refused", {"reason": "bad_arguments"})
    assert office.replies == []
    assert [(entry.outcome, entry.origin) for entry in office.audit()] == [
        ("accepted", "socket"),
        ("done", "socket"),
        ("refused", "socket"),
    ]


async def test_the_audit_can_only_grow_and_a_change_shows(office: Office) -> None:
    for verb in ("status", "top"):
        await office.desk.consider(office.signed(verb))
        await office.settled()
    path = office.directory / FILE
    count, head, fault = verify(path)
    assert (count, fault) == (3, "")
    assert len(head) == 32
    with sqlite3.connect(path) as connection:
        for statement in ("DELETE FROM audit", "UPDATE audit SET entry = x'00'"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
        connection.execute("DROP TRIGGER audit_holds")
        raw = connection.execute("SELECT entry FROM audit WHERE seq = 2").fetchone()[0]
        connection.execute("UPDATE audit SET entry = ? WHERE seq = 2", (raw.replace(b"done", b"fine"),))
    assert verify(path)[2] == "line 2 is not what was written"
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER audit_stays")
        connection.execute("DELETE FROM audit WHERE seq = 2")
    assert verify(path)[2] == "line 2 is missing"
