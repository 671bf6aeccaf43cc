"""A batch taken apart: checked, and split by day, because a day is a file and a file is what commits at once.

Pure: no file, no clock. What cannot be kept is turned into losses here, so that it is counted in the same commit as
what is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fathom.errors import WireError
from fathom.events.batches import Batch, Loss, Observed
from fathom.events.edges import FACT, Edge
from fathom.store.interface import SECONDS_PER_DAY, SECONDS_PER_HOUR

Matrix = npt.NDArray[np.int64]

#: Counters beyond this are refused: 1,024 of the largest still add up without overflow, and JSON holds them exactly.
LARGEST = 2**53 - 1
#: Days that one batch may touch.
MOST_DAYS = 64
_LATEST_S = 2**33  # the year 2242
_NS = 1_000_000_000
_DAY_NS = SECONDS_PER_DAY * _NS
_LONGEST_TEXT = 4_096
_NAMES = FACT.names or ()
_BUCKET = _NAMES.index("bucket")
_PACKETS = (_NAMES.index("packets_sent"), _NAMES.index("packets_received"))
_SENT, _RECEIVED = _NAMES.index("bytes_sent"), _NAMES.index("bytes_received")
_DIRECTIONS = frozenset(("egress", "ingress", "unknown"))
_VERDICTS = frozenset(("forwarded", "failed", "dropped", "unknown"))


@dataclass(slots=True)
class Part:
    """What of a batch goes into one day's file: ``facts`` is int64 (n, columns of ``FACT``)."""

    facts: Matrix
    losses: list[Loss] = field(default_factory=list)
    observed: list[Observed] = field(default_factory=list)

    def seen(self) -> tuple[int, int] | None:
        """First and last epoch second that this part speaks of, or None if it is empty. Where the node said when it
        observed, that counts: the first interval of an agent begins before the agent does."""
        starts = [o.start_ns // _NS for o in self.observed]
        ends = [-(-o.end_ns // _NS) for o in self.observed]
        if len(self.facts) and not starts:
            starts.append(int(self.facts[:, _BUCKET].min()))
            ends.append(int(self.facts[:, _BUCKET].max()))
        return (min(starts), max(ends)) if starts else None

    def hours(self) -> list[int]:
        """The hours that this part changes."""
        hours = set(np.unique(self.facts[:, _BUCKET] // SECONDS_PER_HOUR).tolist())
        hours.update(loss.bucket // SECONDS_PER_HOUR for loss in self.losses)
        for stretch in self.observed:
            hour_ns = SECONDS_PER_HOUR * _NS
            hours.update(range(stretch.start_ns // hour_ns, -(-stretch.end_ns // hour_ns)))
        return sorted(hours)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the store takes: days from ``floor_day`` on, time before ``end_s``; ``now_s`` dates what is refused."""

    floor_day: int
    end_s: int
    now_s: int


def matrix(facts: npt.NDArray[np.void]) -> Matrix:
    """Facts (dtype ``FACT``) as int64 (n, columns). Raises WireError if a value is impossible."""
    if facts.dtype != FACT or facts.ndim != 1:
        raise WireError(f"facts have dtype {facts.dtype} and {facts.ndim} dimensions, not one row per fact")
    table = np.ascontiguousarray(facts).view(np.int64).reshape(len(facts), len(_NAMES))
    if len(table):
        if table.min() < 0 or table[:, _BUCKET + 1 :].max() > LARGEST:
            raise WireError("a fact holds a counter that is negative or too large to add up")
        if table[:, _BUCKET].max() >= _LATEST_S or table[:, 0].min() < 1:
            raise WireError("a fact holds an impossible time or edge")
    return table


def check(batch: Batch) -> Matrix:
    """The facts of a batch that makes sense. Raises WireError, saying what does not."""
    name = batch.id
    if not name.node or not 1 <= name.sequence < 2**62:
        raise WireError(f"{name} is not a batch id: it needs a node and a sequence from 1")
    _check_texts((name.node, name.boot), str(name))
    for edge in batch.edges:
        _check_edge(edge)
    for loss in batch.losses:
        _check_texts((loss.hop, loss.probe, loss.reason), "a loss")
        counts = (loss.count, loss.packets, loss.bytes_sent, loss.bytes_received)
        if min(counts) < 0 or max(counts) > LARGEST or not 0 <= loss.bucket < _LATEST_S:
            raise WireError(f"a loss of {loss.reason!r} holds an impossible number")
    for stretch in batch.observed:
        if not 0 <= stretch.start_ns <= stretch.end_ns < _LATEST_S * _NS:
            raise WireError("a stretch of observed time ends before it begins, or is not a time")
    if not 0 <= batch.clock.wall_ns < _LATEST_S * _NS:
        raise WireError("the batch's clock is not a time")
    return matrix(batch.facts)


def _check_edge(edge: Edge) -> None:
    w = edge.workload
    texts = (w.cluster, w.node, w.namespace, w.kind, w.name, w.pod, w.container)
    _check_texts((*texts, edge.peer, edge.peer_address, edge.protocol, edge.reason), "an edge")
    if edge.direction not in _DIRECTIONS or edge.verdict not in _VERDICTS or not 0 <= edge.port <= 65_535:
        raise WireError(f"an edge has direction {edge.direction!r}, verdict {edge.verdict!r}, port {edge.port}")


def _check_texts(texts: Iterable[str], where: str) -> None:
    for text in texts:
        if len(text) > _LONGEST_TEXT:
            raise WireError(f"{where} holds a name of {len(text)} characters, more than {_LONGEST_TEXT}")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise WireError(f"{where} holds a name that is not Unicode text") from error


def split(
    batch: Batch, table: Matrix, limits: Limits, homeless: npt.NDArray[np.int64]
) -> tuple[dict[int, Part], list[Loss]]:
    """The batch by day, with ``table`` as its timely facts, and its losses that are themselves too old or ahead.

    ``homeless`` are edges that the store has no room for: their facts become losses of the same day. A batch that says
    nothing belongs to the day of its own clock. Raises WireError if it touches more than ``MOST_DAYS`` days.
    """
    parts: dict[int, Part] = {}
    refused: list[Loss] = []
    full = np.isin(table[:, 0], homeless) if len(homeless) else np.zeros(len(table), dtype=bool)
    days = table[:, _BUCKET] // SECONDS_PER_DAY
    for day in np.unique(days).tolist():
        here = days == day
        part = _part(parts, day)
        part.facts = table[here & ~full]
        if (here & full).any():
            bucket = int(table[here & full, _BUCKET].min())
            part.losses.append(_loss(table[here & full], bucket, "edges_full"))
    for loss in batch.losses:
        day = loss.bucket // SECONDS_PER_DAY
        if day < limits.floor_day or loss.bucket >= limits.end_s:
            refused.append(loss)
        else:
            _part(parts, day).losses.append(loss)
    for day, stretch in _stretches(batch.observed, limits):
        _part(parts, day).observed.append(stretch)
    if not parts:
        wall_s = min(max(batch.clock.wall_ns // _NS, limits.floor_day * SECONDS_PER_DAY), limits.end_s - 1)
        _part(parts, wall_s // SECONDS_PER_DAY)
    return parts, refused


def _part(parts: dict[int, Part], day: int) -> Part:
    if day not in parts:
        if len(parts) == MOST_DAYS:
            raise WireError(f"a batch touches more than {MOST_DAYS} days")
        parts[day] = Part(np.zeros((0, len(_NAMES)), np.int64))
    return parts[day]


def timely(table: Matrix, limits: Limits) -> tuple[Matrix, list[Loss]]:
    """Facts of a time that the store takes, and the others as losses dated ``now_s``."""
    buckets = table[:, _BUCKET]
    old, ahead = buckets < limits.floor_day * SECONDS_PER_DAY, buckets >= limits.end_s
    reasons = ((old, "too_old"), (ahead, "clock_ahead"))
    refused = [_loss(table[late], limits.now_s, reason) for late, reason in reasons if late.any()]
    return (table[~(old | ahead)] if refused else table), refused


def _loss(rows: Matrix, bucket: int, reason: str) -> Loss:
    return Loss(
        bucket,
        "server",
        "",
        reason,
        len(rows),
        sum(int(rows[:, column].sum()) for column in _PACKETS),
        int(rows[:, _SENT].sum()),
        int(rows[:, _RECEIVED].sum()),
    )


def _stretches(observed: Iterable[Observed], limits: Limits) -> Iterable[tuple[int, Observed]]:
    """Each stretch cut at midnights and to the time that is kept: what is cut off is just not observed."""
    for stretch in observed:
        start = max(stretch.start_ns, limits.floor_day * _DAY_NS)
        end = min(stretch.end_ns, limits.end_s * _NS)
        if (end - start) // _DAY_NS > MOST_DAYS:
            raise WireError(f"a stretch of observed time spans more than {MOST_DAYS} days")
        while start < end:
            midnight = (start // _DAY_NS + 1) * _DAY_NS
            yield start // _DAY_NS, Observed(start, min(end, midnight))
            start = midnight
