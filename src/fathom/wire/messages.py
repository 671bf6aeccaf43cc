"""The link's two kinds of message: parsed with checks, built with one function for each kind.

A message that comes in has exactly one kind that this version knows, and every text and number in it is within
bounds; batches, questions and answers stay bytes until ``fathom.wire.batches`` or ``fathom.wire.questions`` looks.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from google.protobuf.message import DecodeError, Message

from fathom.errors import WireError
from fathom.events.batches import Clock
from fathom.v1 import link_pb2
from fathom.wire.batches import MAX_NAME, check_name, clock_from, clock_into

#: Most features that an agent names, and most characters of a sentence for a person.
MAX_FEATURES = 64
MAX_SENTENCE = 4096
#: Reasons of a refusal that agents treat in a way of their own: facts of an edge that the store was never told, and a
#: server that fails on a batch for a reason that nobody expected.
EDGE_MISSING = "edge_missing"
SERVER_FAILED = "server_failed"

M = TypeVar("M", bound=Message)


class SpoolState(msgspec.Struct, frozen=True):
    """What waits on a node: batches not acknowledged, their bytes on disk, and what was lost since its start."""

    batches: int = 0
    bytes: int = 0
    facts_dropped: int = 0
    files_damaged: int = 0
    writable: bool = True


class AgentHello(msgspec.Struct, frozen=True):
    """How an agent presents itself: node, boot (made once per agent process), version, and names of its probes."""

    node: str
    boot: str
    version: str
    features: tuple[str, ...] = ()


class Welcome(msgspec.Struct, frozen=True):
    """How the server answers a hello; see ``api/fathom/v1/link.proto``."""

    store_id: str
    session: str
    version: str
    window: int
    max_batch_bytes: int
    interval_s: int


def parse_agent(data: bytes) -> link_pb2.AgentMessage:
    """A message from an agent. Raises WireError if it is not one, or holds what is out of bounds."""
    message = _parse(link_pb2.AgentMessage, data)
    kind = message.WhichOneof("kind")
    if kind == "hello":
        _check_hello(message.hello)
    elif kind == "delivery":
        check_name("boot", message.delivery.boot)
    elif kind == "heartbeat":
        clock_from(message.heartbeat.clock)
    elif kind == "answer":
        _check_sentence(message.answer.error)
    elif kind == "events":
        _check_sentence(message.events.error)
    else:
        raise WireError("a message from an agent of a kind that this version does not know")
    return message


def parse_server(data: bytes) -> link_pb2.ServerMessage:
    """A message from the server. Raises WireError if it is not one, or holds what is out of bounds."""
    message = _parse(link_pb2.ServerMessage, data)
    kind = message.WhichOneof("kind")
    if kind is None:
        raise WireError("a message from the server of a kind that this version does not know")
    if kind == "welcome" and (message.welcome.window < 1 or len(message.welcome.store_id) > MAX_NAME):
        raise WireError("a welcome without a window, or with a store id that is too long")
    if kind == "nack":
        _check_sentence(message.nack.detail)
        _check_sentence(message.nack.reason)
    return message


def hello(agent: AgentHello, clock: Clock, spool: SpoolState) -> bytes:
    """The agent's first message."""
    message = link_pb2.AgentMessage()
    part = message.hello
    part.node, part.boot, part.version = agent.node, agent.boot, agent.version
    part.features.extend(agent.features)
    clock_into(clock, part.clock)
    _spool_into(spool, part.spool)
    return message.SerializeToString()


def heartbeat(clock: Clock, spool: SpoolState) -> bytes:
    """The agent lives."""
    message = link_pb2.AgentMessage()
    clock_into(clock, message.heartbeat.clock)
    _spool_into(spool, message.heartbeat.spool)
    return message.SerializeToString()


def delivery(boot: str, sequence: int, turn: int, batch: bytes) -> bytes:
    """A batch, sent in round ``turn``."""
    part = link_pb2.Delivery(boot=boot, sequence=sequence, round=turn, batch=batch)
    return link_pb2.AgentMessage(delivery=part).SerializeToString()


def answer(number: int, body: bytes, error: str = "") -> bytes:
    """The agent's answer to question ``number``: JSON, or why there is none."""
    part = link_pb2.Answer(id=number, answer=body, error=error[:MAX_SENTENCE])
    return link_pb2.AgentMessage(answer=part).SerializeToString()


def events(number: int, body: bytes, count: int, dropped: int) -> bytes:
    """``count`` live events (JSON array) of subscription ``number``, and how many were left out before them."""
    part = link_pb2.EventChunk(subscription=number, events=body, count=count, dropped=dropped)
    return link_pb2.AgentMessage(events=part).SerializeToString()


def events_end(number: int, error: str = "") -> bytes:
    """Subscription ``number`` is over on this node."""
    part = link_pb2.EventChunk(subscription=number, events=b"[]", end=True, error=error[:MAX_SENTENCE])
    return link_pb2.AgentMessage(events=part).SerializeToString()


def welcome(words: Welcome) -> bytes:
    """The server's first message."""
    part = link_pb2.Welcome(**msgspec.structs.asdict(words))
    return link_pb2.ServerMessage(welcome=part).SerializeToString()


def ack(boot: str, sequence: int, store_id: str) -> bytes:
    """The store ``store_id`` has the batch."""
    part = link_pb2.Ack(boot=boot, sequence=sequence, store_id=store_id)
    return link_pb2.ServerMessage(ack=part).SerializeToString()


def nack(boot: str, sequence: int, reason: str, detail: str, *, permanent: bool, retry_after_s: float = 0.0) -> bytes:
    """The batch was not taken: for good, or for now."""
    part = link_pb2.Nack(boot=boot, sequence=sequence, reason=reason, detail=detail[:MAX_SENTENCE])
    part.permanent, part.retry_after_ms = permanent, round(retry_after_s * 1000)
    return link_pb2.ServerMessage(nack=part).SerializeToString()


def question(number: int, body: bytes, timeout_s: float) -> bytes:
    """A question (JSON) that the agent has ``timeout_s`` to answer."""
    part = link_pb2.Question(id=number, question=body, timeout_ms=round(timeout_s * 1000))
    return link_pb2.ServerMessage(question=part).SerializeToString()


def subscribe(number: int, body: bytes) -> bytes:
    """Ask for live events that pass a filter (JSON)."""
    return link_pb2.ServerMessage(subscribe=link_pb2.Subscribe(id=number, filter=body)).SerializeToString()


def cancel(number: int) -> bytes:
    """End a question or a subscription."""
    return link_pb2.ServerMessage(cancel=link_pb2.Cancel(id=number)).SerializeToString()


def agent_from(message: link_pb2.Hello) -> AgentHello:
    """The agent in a checked hello."""
    return AgentHello(message.node, message.boot, message.version, tuple(message.features))


def spool_from(message: link_pb2.SpoolState) -> SpoolState:
    """The spool's state in a message."""
    return SpoolState(message.batches, message.bytes, message.facts_dropped, message.files_damaged, message.writable)


def welcome_from(message: link_pb2.Welcome) -> Welcome:
    """The welcome in a checked message."""
    return Welcome(
        message.store_id,
        message.session,
        message.version,
        message.window,
        message.max_batch_bytes,
        message.interval_s,
    )


def _parse(kind: type[M], data: bytes) -> M:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise WireError(f"not a message of the link: {error}") from error


def _check_hello(message: link_pb2.Hello) -> None:
    check_name("node", message.node)
    check_name("boot", message.boot)
    check_name("version", message.version)
    if not message.boot.isalnum() or len(message.boot) > 64:
        raise WireError(f"boot {message.boot!r} is not a short hexadecimal string")
    if len(message.features) > MAX_FEATURES or any(len(name) > MAX_NAME for name in message.features):
        raise WireError("a hello with too many or too long features")
    clock_from(message.clock)


def _check_sentence(text: str) -> None:
    if len(text) > MAX_SENTENCE:
        raise WireError(f"a sentence of {len(text)} characters")


def _spool_into(state: SpoolState, message: link_pb2.SpoolState) -> None:
    message.batches, message.bytes, message.writable = state.batches, state.bytes, state.writable
    message.facts_dropped, message.files_damaged = state.facts_dropped, state.files_damaged
