"""The link's messages: both kinds come back as they were built, and nothing else gets through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fathom.agent.questions import EventFilter, EventsAnswer, EventsQuestion, SeriesQuestion, StatusQuestion
from fathom.errors import WireError
from fathom.events.batches import Clock
from fathom.v1 import link_pb2
from fathom.wire import messages, questions
from fathom.wire.batches import clock_from
from fathom.wire.messages import AgentHello, SpoolState, Welcome

CLOCK = Clock(1, 2, 3)
SPOOL = SpoolState(4, 5, 6, 7, False)
HELLO = AgentHello("node-1", "ab12", "0.1.0", ("tcp", "flow"))


def test_hello_and_heartbeat_bring_identity_clock_and_spool() -> None:
    hello = messages.parse_agent(messages.hello(HELLO, CLOCK, SPOOL)).hello
    assert messages.agent_from(hello) == HELLO
    assert clock_from(hello.clock) == CLOCK
    beat = messages.parse_agent(messages.heartbeat(CLOCK, SPOOL)).heartbeat
    assert (clock_from(beat.clock), messages.spool_from(beat.spool)) == (CLOCK, SPOOL)


def test_welcome_comes_back() -> None:
    words = Welcome("store", "session", "0.1.0", 8, 1000, 60)
    assert messages.welcome_from(messages.parse_server(messages.welcome(words)).welcome) == words


def test_deliveries_and_their_answers() -> None:
    delivery = messages.parse_agent(messages.delivery("ab", 7, 2, b"xyz")).delivery
    assert (delivery.boot, delivery.sequence, delivery.round, delivery.batch) == ("ab", 7, 2, b"xyz")
    ack = messages.parse_server(messages.ack("ab", 7, "s")).ack
    assert (ack.boot, ack.sequence, ack.store_id) == ("ab", 7, "s")
    nack = messages.parse_server(messages.nack("ab", 7, "busy", "why", permanent=False, retry_after_s=1.5)).nack
    assert (nack.reason, nack.detail, nack.permanent, nack.retry_after_ms) == ("busy", "why", False, 1500)


def test_sentences_are_cut_when_they_are_built() -> None:
    long = "x" * 10_000
    assert len(messages.parse_server(messages.nack("ab", 7, "busy", long, permanent=True)).nack.detail) == 4096
    assert len(messages.parse_agent(messages.answer(1, b"", long)).answer.error) == 4096
    assert len(messages.parse_agent(messages.events_end(1, long)).events.error) == 4096


@pytest.mark.parametrize(
    "message",
    [
        link_pb2.AgentMessage(),
        link_pb2.AgentMessage(hello=link_pb2.Hello(node="n", boot="", version="1")),
        link_pb2.AgentMessage(hello=link_pb2.Hello(node="n", boot="../x", version="1")),
        link_pb2.AgentMessage(hello=link_pb2.Hello(node="n", boot="a" * 65, version="1")),
        link_pb2.AgentMessage(hello=link_pb2.Hello(node="", boot="ab", version="1")),
        link_pb2.AgentMessage(hello=link_pb2.Hello(node="n\x1b[2J", boot="ab", version="1")),
        link_pb2.AgentMessage(hello=link_pb2.Hello(node="n", boot="ab", version="1", features=["x"] * 65)),
        link_pb2.AgentMessage(hello=link_pb2.Hello(node="n", boot="ab", version="1", features=["x" * 300])),
        link_pb2.AgentMessage(delivery=link_pb2.Delivery(boot="", sequence=1)),
        link_pb2.AgentMessage(heartbeat=link_pb2.Heartbeat(clock={"wall_ns": 1 << 63})),
        link_pb2.AgentMessage(answer=link_pb2.Answer(error="x" * 5000)),
        link_pb2.AgentMessage(events=link_pb2.EventChunk(error="x" * 5000)),
    ],
)
def test_an_agent_that_makes_no_sense_is_refused(message: link_pb2.AgentMessage) -> None:
    with pytest.raises(WireError):
        messages.parse_agent(message.SerializeToString())


@pytest.mark.parametrize(
    "message",
    [
        link_pb2.ServerMessage(),
        link_pb2.ServerMessage(welcome=link_pb2.Welcome(window=0)),
        link_pb2.ServerMessage(welcome=link_pb2.Welcome(window=1, store_id="x" * 300)),
        link_pb2.ServerMessage(nack=link_pb2.Nack(detail="x" * 5000)),
        link_pb2.ServerMessage(nack=link_pb2.Nack(reason="x" * 5000)),
    ],
)
def test_a_server_that_makes_no_sense_is_refused(message: link_pb2.ServerMessage) -> None:
    with pytest.raises(WireError):
        messages.parse_server(message.SerializeToString())


@settings(max_examples=300)
@given(st.binary(max_size=200))
@example(b"\x0a\xff\xff\xff\xff\x0f")
def test_random_bytes_are_a_wire_error_or_a_message(data: bytes) -> None:
    for parse in (messages.parse_agent, messages.parse_server):
        try:
            message = parse(data)
        except WireError:
            continue
        assert message.WhichOneof("kind")


# -- JSON inside


@pytest.mark.parametrize(
    "question", [EventsQuestion(EventFilter(kind="tcp", port=443), 1, 2, 3), SeriesQuestion(5), StatusQuestion()]
)
def test_questions_come_back(question: Any) -> None:
    assert questions.decode_question(questions.encode(question)) == question


def test_answers_filters_and_events_come_back() -> None:
    answer = EventsAnswer([{"kind": "tcp", "port": 1}], truncated=True, oldest_ns=5, overwritten=6)
    assert questions.decode_answer(questions.encode(answer)) == answer
    assert questions.decode_filter(questions.encode(EventFilter(comm="curl"))) == EventFilter(comm="curl")
    assert questions.decode_events(questions.encode_events([{"a": 1}])) == [{"a": 1}]


@pytest.mark.parametrize(
    ("decode", "data"),
    [
        (questions.decode_question, b""),
        (questions.decode_question, b'{"type":"launch"}'),
        (questions.decode_question, b'{"type":"series","top":"many"}'),
        (questions.decode_question, b'{"type":"status","more":1}'),
        (questions.decode_answer, b'{"type":"events"}'),
        (questions.decode_answer, b"\xff"),
        (questions.decode_filter, b'{"port":[]}'),
        (questions.decode_events, b'{"a":1}'),
        (questions.decode_events, b"[1]"),
        (questions.decode_events, b"[" * 100_000),
    ],
)
def test_json_that_is_something_else_is_a_wire_error(decode: Callable[[bytes], Any], data: bytes) -> None:
    with pytest.raises(WireError, match="not a valid"):
        decode(data)


@given(st.binary(max_size=200))
def test_random_json_is_a_wire_error_or_a_value(data: bytes) -> None:
    for decode in (
        questions.decode_question,
        questions.decode_answer,
        questions.decode_filter,
        questions.decode_events,
    ):
        try:
            value = decode(data)
        except WireError:
            continue
        assert value is not None
