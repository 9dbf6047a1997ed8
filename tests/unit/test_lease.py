from agent.collector.lease import PEERS, Lease
from agent.transport.wire import Heartbeat

ALIVE = Heartbeat("online", session="s", delivers=True)


def test_a_call_may_begin_only_for_a_while_after_a_confirmed_heartbeat():
    lease = Lease("c1", 10.0)
    lease.begin()
    assert not lease.holds(100)
    lease.confirmed(100)
    assert lease.holds(104)
    assert not lease.holds(104.1)


def test_each_connection_is_another_writer():
    lease = Lease("c1", 10.0)
    lease.begin()
    before = lease.writer
    lease.confirmed(100)
    lease.begin()
    assert lease.writer != before
    assert not lease.holds(100)


def test_one_of_several_leads():
    first, second = Lease("c1", 10.0), Lease("c2", 10.0)
    for lease in (first, second):
        lease.begin()
        lease.heard("c1", ALIVE, 100)
        lease.heard("c2", ALIVE, 100)
        lease.confirmed(100)
    assert first.leads(101)
    assert not second.leads(101)


def test_the_next_leads_when_the_first_is_gone_or_does_not_deliver():
    lease = Lease("c2", 10.0)
    lease.begin()
    lease.heard("c1", ALIVE, 100)
    lease.confirmed(110)
    assert not lease.leads(110)
    assert lease.leads(110.5)
    lease.heard("c1", ALIVE, 111)
    assert not lease.leads(111)
    lease.heard("c1", Heartbeat("online", session="s"), 112)
    assert lease.leads(112)


def test_without_their_database_there_is_still_one_that_leads():
    first, second = Lease("c1", 10.0), Lease("c2", 10.0)
    for lease in (first, second):
        lease.begin()
        for name in ("c1", "c2"):
            lease.heard(name, Heartbeat("online", session="s", routes="r"), 100)
        lease.confirmed(100)
    assert first.leads(101)
    assert not second.leads(101)
    second.heard("c1", Heartbeat("offline"), 101)
    assert second.leads(101)


def test_who_holds_no_lease_does_not_lead():
    lease = Lease("c1", 10.0)
    lease.begin()
    assert not lease.leads(100)


def test_of_very_many_others_the_first_are_known():
    """Anybody at the broker can make up names; whoever leads is the same, and those that fell silent make room."""
    lease = Lease("m1", 10.0)
    lease.begin()
    for number in range(10_000):
        lease.heard(f"x{number}", ALIVE, 100)
    assert len(lease._peers) <= PEERS
    assert lease.leader(100) == "m1"
    lease.heard("a1", ALIVE, 100)
    assert lease.leader(100) == "a1"
    lease.heard("a1", Heartbeat("offline"), 100)
    assert lease.leader(100) == "m1"
    for number in range(PEERS):
        lease.heard(f"b{number:02}", ALIVE, 120)
    assert lease.leader(120) == "b00"
    assert len(lease._peers) == PEERS
