"""Questions, answers and live events as JSON inside the link's messages; the types are the agent's own.

JSON, because the same typed structs already serve the agent's local API: ``msgspec`` encodes and checks them without
a second definition in protobuf that could differ from the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from fathom.agent.questions import Answer, EventFilter, Question
from fathom.errors import WireError

T = TypeVar("T")
_ENCODER = msgspec.json.Encoder()
_QUESTION: msgspec.json.Decoder[Question] = msgspec.json.Decoder(Question)
_ANSWER: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)
_FILTER = msgspec.json.Decoder(EventFilter)
_EVENTS = msgspec.json.Decoder(list[dict[str, Any]])


def encode(value: Question | Answer | EventFilter) -> bytes:
    """A question, an answer or a filter as JSON."""
    return _ENCODER.encode(value)


def encode_events(events: Sequence[dict[str, Any]]) -> bytes:
    """Events (JSON-ready) as one JSON array."""
    return _ENCODER.encode(events)


def decode_question(data: bytes) -> Question:
    """Raises WireError if ``data`` is not a question that this version knows."""
    return _decode(_QUESTION, data, "question")


def decode_answer(data: bytes) -> Answer:
    """Raises WireError if ``data`` is not an answer that this version knows."""
    return _decode(_ANSWER, data, "answer")


def decode_filter(data: bytes) -> EventFilter:
    """Raises WireError if ``data`` is not a filter."""
    return _decode(_FILTER, data, "filter")


def decode_events(data: bytes) -> list[dict[str, Any]]:
    """Raises WireError if ``data`` is not an array of objects."""
    return _decode(_EVENTS, data, "array of events")


def _decode(decoder: msgspec.json.Decoder[T], data: bytes, what: str) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a valid {what}: {error}") from error
