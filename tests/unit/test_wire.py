"""Topics and payloads: what we write we can read, and what strangers write cannot hurt."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.errors import WireError
from agent.model import DeliveryState, Gap, Incident, Metric, Severity, Transition, TransitionKind
from agent.transport.wire import (
    MAX_PAYLOAD,
    Ack,
    DeliveriesMessage,
    GapEnvelope,
    IncidentEnvelope,
    MetricsEnvelope,
    Status,
    Topic,
    decode,
    decode_envelope,
    encode,
    fingerprint,
    is_envelope,
    parse_topic,
)

hosts = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,62}", fullmatch=True)
epochs = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)
seqs = st.integers(1, 2**63 - 1)
times = st.floats(0, 4e9)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
numbers = st.floats(allow_nan=False, allow_infinity=False)
metrics = st.builds(
    Metric, texts, numbers, texts, st.sampled_from(["gauge", "counter"]), st.dictionaries(texts, texts, max_size=3)
)
identity = {"schema": st.just(1), "host": hosts, "epoch": epochs, "seq": seqs, "time": times}
severities = st.sampled_from(Severity)
incidents = st.builds(
    Incident,
    *[texts] * 4,
    severities,
    severities,
    times,
    times,
    times,
    st.integers(1, 10**6),
    state=st.sampled_from(["open", "resolved"]),
    labels=st.dictionaries(texts, texts, max_size=3),
    value=st.none() | numbers,
    resolved_at=st.none() | times,
    summary=texts,
)
transitions = st.builds(Transition, texts, st.integers(1, 10**6), st.sampled_from(TransitionKind), severities, times)
ranges = st.lists(st.tuples(seqs, seqs), max_size=5).map(tuple)
gaps = st.builds(
    Gap, epochs, ranges, st.integers(0), st.sampled_from(["bytes", "age", "disk", "corrupt"]), times, times
)


def about_its_host(envelope: IncidentEnvelope) -> IncidentEnvelope:
    return replace(envelope, incident=replace(envelope.incident, host=envelope.host))


envelopes = st.one_of(
    st.builds(
        MetricsEnvelope,
        **identity,
        probe=texts,
        status=st.sampled_from(["ok", "error", "timeout"]),
        duration=numbers,
        metrics=st.lists(metrics, max_size=4).map(tuple),
        error=texts,
    ),
    st.builds(IncidentEnvelope, **identity, incident=incidents, transition=transitions).map(about_its_host),
    st.builds(GapEnvelope, **identity, gap=gaps),
)
CHANNELS = {MetricsEnvelope: "metrics", IncidentEnvelope: "incidents", GapEnvelope: "gaps"}
GOOD = {
    "schema": 1,
    "host": "web-1",
    "epoch": "0" * 32,
    "seq": 1,
    "time": 1.5,
    "probe": "disk",
    "status": "ok",
    "duration": 0.1,
    "metrics": [],
}
TOPIC = Topic("web-1", "metrics", "disk")


@given(envelopes)
def test_envelopes_survive_the_wire(envelope):
    """Whatever an agent can say, the collector reads as it was said; encoding again gives the same bytes."""
    topic = Topic(envelope.host, CHANNELS[type(envelope)], "x")
    payload = encode(envelope)
    assert decode_envelope(topic, payload) == envelope
    assert encode(decode_envelope(topic, payload)) == payload
    json.loads(payload)


@given(hosts, st.sampled_from(["metrics", "status", "ack"]), st.from_regex(r"[a-z0-9_-]{0,20}", fullmatch=True))
def test_topics_survive(host, channel, item):
    """A topic taken apart and put together is the same."""
    topic = Topic(host, channel, item)
    assert parse_topic(str(topic)) == topic


@given(st.builds(Ack, epochs, st.integers(0, 2**63), st.lists(seqs).map(tuple), st.floats(0, 100)))
def test_acks_survive(ack):
    """So do acknowledgements."""
    assert decode(encode(ack), Ack) == ack


@given(st.builds(Status, st.sampled_from(["online", "offline"]), epochs, st.integers(0, 2**62), texts, texts, times))
def test_status_survives(status):
    """So do birth and will."""
    assert decode(encode(status), Status) == status


def test_deliveries_survive():
    """So does the state of what is on its way to Slack."""
    state = DeliveryState("i1", 3, "ambiguous", "C1", "1.2", 4, "timeout", 5.0)
    message = DeliveriesMessage(1, "web-1", 9.0, (state, DeliveryState("i2", 1, "pending")))
    assert decode(encode(message), DeliveriesMessage) == message


@given(st.binary(max_size=200))
def test_noise_is_a_wire_error(payload):
    """Random bytes raise WireError and nothing else."""
    with pytest.raises(WireError):
        decode_envelope(TOPIC, payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(GOOD)), json_values)
def test_one_hostile_field_is_refused_or_of_its_type(field, value):
    """Replace any one field by anything: either WireError, or an envelope whose identity still holds."""
    payload = json.dumps(GOOD | {field: value}).encode("utf-8", "surrogatepass")
    try:
        envelope = decode_envelope(TOPIC, payload)
    except WireError:
        return
    assert (envelope.schema, envelope.host) == (1, "web-1")
    assert isinstance(envelope.seq, int)
    assert 0 < envelope.seq < 2**63
    assert len(envelope.epoch) == 32
    assert isinstance(envelope.time, float)


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 0},
        {"seq": -1},
        {"seq": 2**63},
        {"seq": 1.5},
        {"seq": "1"},
        {"seq": True},
        {"epoch": "A" * 32},
        {"epoch": "0" * 31},
        {"epoch": "0" * 32 + "\n"},
        {"schema": 2},
        {"host": "web-2"},
        {"host": "web-1\n"},
        {"metrics": [{"name": "x", "value": "1"}]},
        {"metrics": [{"name": "x", "value": None}]},
        {"metrics": [{"name": "x", "value": 1, "labels": {"a": 1}}]},
        {"metrics": {}},
        {"status": "fine"},
    ],
)
def test_wrong_envelopes(change):
    """Identities and types that do not hold are refused one by one."""
    decode_envelope(TOPIC, json.dumps(GOOD).encode())
    with pytest.raises(WireError):
        decode_envelope(TOPIC, json.dumps(GOOD | change).encode())


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 500_000,
        b'{"a":' * 100_000,
        b'"' + b"\\u0000" * 10 + b'"',
        b"\xff\xfe",
        b'{"schema":1,"host":"\xed\xa0\x80"}',
        b"NaN",
        b"1e999",
        b" " * (MAX_PAYLOAD + 1),
    ],
)
def test_hostile_payloads(payload):
    """Deep, long, or broken: WireError, never a crash."""
    with pytest.raises(WireError):
        decode_envelope(TOPIC, payload)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "tocsin/v1/web-1",
        "tocsin/v2/web-1/status",
        "tocsin/v1/Web/status",
        "tocsin/v1/-web/status",
        "tocsin/v1//status",
        "tocsin/v1/web-1\n/status",
        "tocsin/v1/" + "a" * 64 + "/status",
        "tocsin/v1/web-1/metrics/a/b",
        "x/tocsin/v1/web-1/status",
        "tocsin/v1/ẃeb/status",
    ],
)
def test_foreign_topics(topic):
    """What is not ours in full is refused."""
    with pytest.raises(WireError):
        parse_topic(topic)


def test_a_newer_agent_may_say_more():
    """Unknown fields are no error; unknown channels have no envelopes."""
    assert decode_envelope(TOPIC, json.dumps(GOOD | {"colour": "green"}).encode()).seq == 1
    with pytest.raises(WireError):
        decode_envelope(Topic("web-1", "status"), json.dumps(GOOD).encode())
    assert is_envelope("metrics")
    assert not is_envelope("status")


def test_the_documented_example_is_what_we_write():
    """The bytes of the contract: defaults left out, fields in their order."""
    envelope = MetricsEnvelope(
        schema=1,
        host="web-1",
        epoch="0" * 32,
        seq=42,
        time=1790000000.123,
        probe="disk",
        status="ok",
        duration=0.0031,
        metrics=(Metric("disk.used_percent", 71.2, "percent", labels={"mount": "/"}),),
    )
    assert encode(envelope) == (
        b'{"schema":1,"host":"web-1","epoch":"00000000000000000000000000000000","seq":42,"time":1790000000.123,'
        b'"probe":"disk","status":"ok","duration":0.0031,'
        b'"metrics":[{"name":"disk.used_percent","value":71.2,"unit":"percent","labels":{"mount":"/"}}]}'
    )


@given(st.binary(), st.binary())
def test_fingerprints_tell_payloads_apart(one, other):
    """16 bytes; equal exactly for equal payloads."""
    assert len(fingerprint(one)) == 16
    assert (fingerprint(one) == fingerprint(other)) == (one == other)


def test_a_host_brings_incidents_of_its_own_alone():
    incident = Incident("i", "web-1", "t", "cpu.x", Severity.WARNING, Severity.WARNING, 1, 1, 1, 1)
    transition = Transition("i", 1, TransitionKind.OPENED, Severity.WARNING, 1)
    envelope = IncidentEnvelope(
        schema=1, host="web-1", epoch="0" * 32, seq=1, time=1, incident=incident, transition=transition
    )
    topic = Topic("web-1", "incidents", "i")
    assert decode_envelope(topic, encode(envelope)) == envelope
    with pytest.raises(WireError):
        decode_envelope(topic, encode(replace(envelope, incident=replace(incident, host="web-2"))))
