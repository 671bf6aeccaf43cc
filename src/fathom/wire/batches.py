"""The batch as bytes, and back. Refuses what does not make sense: what passes ``decode`` can be written to a store.

A payload has two parts that are simply put one after the other, as protobuf allows: the *head* (all but the edges)
and the *edges*. So the link keeps a whole batch on disk and sends it without the edges that the server knows.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from fathom.errors import WireError
from fathom.events.batches import Batch, BatchId, Clock, Loss, Observed
from fathom.events.edges import Edge
from fathom.v1 import batch_pb2
from fathom.wire import edges as edge_columns
from fathom.wire import facts as fact_columns

#: Most losses and most observed stretches in one batch, and most characters of a node's or boot's name.
MAX_ROWS = 1 << 16
MAX_NAME = 253

_HOPS = frozenset(("kernel", "agent", "spool", "server"))
_INT63 = (1 << 63) - 1


def encode(batch: Batch) -> bytes:
    """``batch`` whole, as a ``fathom.v1.Batch``. Raises WireError if a number in it is out of bounds."""
    return encode_head(batch) + encode_edges(batch.edges)


def encode_head(batch: Batch) -> bytes:
    """``batch`` without its edges. Raises WireError if a number in it is out of bounds."""
    message = batch_pb2.Batch()
    try:
        message.id.node, message.id.boot, message.id.sequence = batch.id.node, batch.id.boot, batch.id.sequence
        clock_into(batch.clock, message.clock)
        for loss in batch.losses:
            message.losses.add(
                bucket=loss.bucket,
                hop=loss.hop,
                probe=loss.probe,
                reason=loss.reason,
                count=loss.count,
                packets=loss.packets,
                bytes_sent=loss.bytes_sent,
                bytes_received=loss.bytes_received,
            )
        for stretch in batch.observed:
            message.observed.add(start_ns=stretch.start_ns, end_ns=stretch.end_ns)
    except ValueError as error:
        raise WireError(f"batch {batch.id} holds a value that cannot be sent: {error}") from error
    fact_columns.to_columns(batch.facts, message.facts)
    return message.SerializeToString()


def encode_edges(edges: Sequence[Edge]) -> bytes:
    """``edges`` as the edge part of a batch; empty if there are none. Raises WireError if one cannot be sent."""
    if not edges:
        return b""
    message = batch_pb2.Batch()
    try:
        edge_columns.to_columns(edges, message.edges)
    except ValueError as error:
        raise WireError(f"an edge that cannot be sent: {error}") from error
    return message.SerializeToString()


def decode(data: bytes) -> Batch:
    """The batch in ``data``. Raises WireError if the bytes are not a batch or anything in it is out of bounds."""
    try:
        message = batch_pb2.Batch.FromString(data)
    except DecodeError as error:
        raise WireError(f"not a batch: {error}") from error
    return Batch(
        id=_id(message.id),
        clock=clock_from(message.clock),
        edges=edge_columns.from_columns(message.edges),
        facts=fact_columns.from_columns(message.facts),
        losses=_losses(message),
        observed=_observed(message),
    )


def clock_into(clock: Clock, message: batch_pb2.Clock) -> None:
    """Fill ``message``. Raises ValueError if a time is negative."""
    message.monotonic_ns, message.boot_ns, message.wall_ns = clock.monotonic_ns, clock.boot_ns, clock.wall_ns


def clock_from(message: batch_pb2.Clock) -> Clock:
    """The clock in ``message``. Raises WireError if a time does not fit 63 bits."""
    if max(message.monotonic_ns, message.boot_ns, message.wall_ns) > _INT63:
        raise WireError("a clock beyond 63 bits")
    return Clock(message.monotonic_ns, message.boot_ns, message.wall_ns)


def check_name(what: str, text: str) -> str:
    """``text``, if it can name a node or a boot. Raises WireError if it is empty, too long or not printable."""
    if not text or len(text) > MAX_NAME or not text.isprintable():
        raise WireError(f"{what} {text[:40]!r} is empty, longer than {MAX_NAME} characters or not printable")
    return text


def _id(message: batch_pb2.BatchId) -> BatchId:
    if not 1 <= message.sequence <= _INT63:
        raise WireError(f"a batch with sequence {message.sequence}")
    return BatchId(check_name("node", message.node), check_name("boot", message.boot), message.sequence)


def _losses(message: batch_pb2.Batch) -> tuple[Loss, ...]:
    if len(message.losses) > MAX_ROWS:
        raise WireError(f"a batch with {len(message.losses)} losses; at most {MAX_ROWS} are allowed")
    rows = []
    for loss in message.losses:
        if loss.hop not in _HOPS:
            raise WireError(f"a loss at hop {loss.hop[:40]!r}; known are {', '.join(sorted(_HOPS))}")
        if len(loss.probe) > MAX_NAME or not loss.reason or len(loss.reason) > MAX_NAME:
            raise WireError("a loss whose probe or reason is empty or too long")
        numbers = (loss.count, loss.packets, loss.bytes_sent, loss.bytes_received)
        if loss.bucket > fact_columns.MAX_BUCKET or max(numbers) > fact_columns.MAX_COUNT:
            raise WireError(f"a loss out of bounds: bucket {loss.bucket}, {max(numbers)} lost")
        rows.append(Loss(loss.bucket, loss.hop, loss.probe, loss.reason, *numbers))
    return tuple(rows)


def _observed(message: batch_pb2.Batch) -> tuple[Observed, ...]:
    if len(message.observed) > MAX_ROWS:
        raise WireError(f"a batch with {len(message.observed)} observed stretches; at most {MAX_ROWS} are allowed")
    for stretch in message.observed:
        if not stretch.start_ns <= stretch.end_ns <= _INT63:
            raise WireError(f"an observed stretch from {stretch.start_ns} to {stretch.end_ns}")
    return tuple(Observed(stretch.start_ns, stretch.end_ns) for stretch in message.observed)
