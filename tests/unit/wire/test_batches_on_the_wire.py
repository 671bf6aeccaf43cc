"""A batch comes back as it went; whatever else comes in is a WireError and never anything worse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.errors import WireError
from fathom.events.batches import Batch, BatchId, Clock, Loss, Observed
from fathom.events.edges import FACT, Edge, Workload
from fathom.v1 import batch_pb2
from fathom.wire import batches, edges, facts

NAMES = FACT.names or ()
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
INT63 = st.integers(0, (1 << 63) - 1)
COUNT = st.integers(0, facts.MAX_COUNT)
NODE = st.text("abcdefghijklmnop-.0123456789", min_size=1, max_size=30)

EDGE = st.builds(
    Edge,
    st.builds(Workload, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT),
    st.sampled_from(("egress", "ingress", "unknown")),
    TEXT,
    TEXT,
    TEXT,
    st.integers(0, 65535),
    st.sampled_from(("forwarded", "failed", "dropped", "unknown")),
    TEXT,
)
LOSSES = st.builds(
    Loss,
    st.integers(0, facts.MAX_BUCKET),
    st.sampled_from(("kernel", "agent", "spool", "server")),
    TEXT,
    st.text("abc_", min_size=1),
    COUNT,
    COUNT,
    COUNT,
    COUNT,
)
ROWS = st.tuples(
    st.integers(1, (1 << 63) - 1),
    st.integers(0, facts.MAX_BUCKET),
    *([st.one_of(st.just(0), COUNT)] * (len(NAMES) - 2)),
)
OBSERVED = st.tuples(INT63, INT63).map(lambda pair: Observed(min(pair), max(pair)))
BATCHES = st.builds(
    Batch,
    st.builds(BatchId, NODE, NODE, st.integers(1, (1 << 63) - 1)),
    st.builds(Clock, INT63, INT63, INT63),
    st.lists(EDGE, max_size=4).map(tuple),
    st.lists(ROWS, max_size=5).map(lambda rows: np.array(rows, FACT)),
    st.lists(LOSSES, max_size=3).map(tuple),
    st.lists(OBSERVED, max_size=3).map(tuple),
)


def batch(**changes: Any) -> Batch:
    rows = np.zeros(3, FACT)
    rows["edge"] = [5, 6, 7]
    rows["bucket"] = [1000, 1010, 990]
    rows["bytes_sent"] = [1, 2, 3]
    rows["latency_b16"] = [4, 0, 1]
    values: dict[str, Any] = {"id": BatchId("n", "b", 1), "clock": Clock(1, 2, 3), "facts": rows}
    return Batch(**(values | changes))


def message_of(data: bytes) -> Any:
    return batch_pb2.Batch.FromString(data)


def equal(one: Batch, other: Batch) -> bool:
    return (
        (one.id, one.clock, one.edges, one.losses, one.observed)
        == (other.id, other.clock, other.edges, other.losses, other.observed)
        and one.facts.dtype == other.facts.dtype
        and np.array_equal(one.facts, other.facts)
    )


@given(BATCHES)
def test_round_trip(original: Batch) -> None:
    assert equal(batches.decode(batches.encode(original)), original)


@given(BATCHES, st.data())
def test_a_damaged_batch_is_a_wire_error_or_a_valid_batch(original: Batch, data: st.DataObject) -> None:
    payload = bytearray(batches.encode(original))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    del payload[data.draw(st.integers(0, len(payload))) :]
    try:
        found = batches.decode(bytes(payload))
    except WireError:
        return
    assert equal(batches.decode(batches.encode(found)), found)


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_random_bytes_are_a_wire_error_or_a_valid_batch(data: bytes) -> None:
    try:
        found = batches.decode(data)
    except WireError:
        return
    assert equal(batches.decode(batches.encode(found)), found)


def test_the_head_is_the_batch_without_its_edges() -> None:
    edge = Edge(Workload(name="curl"), "egress", "1.1.1.1", "1.1.1.1", "TCP", 443)
    whole = batch(edges=(edge,))
    assert equal(batches.decode(batches.encode_head(whole)), batch())
    assert equal(batches.decode(batches.encode_head(whole) + batches.encode_edges((edge,))), whole)
    assert batches.encode_edges(()) == b""


def test_a_fact_of_zeroes_takes_only_its_edge_and_bucket() -> None:
    rows = np.zeros(1000, FACT)
    rows["edge"], rows["bucket"] = np.arange(1, 1001), 1_800_000_000
    assert len(batches.encode(batch(facts=rows))) < 1000 * 9 + 50


def test_facts_that_are_a_slice_of_a_larger_array() -> None:
    wide = np.repeat(batch().facts, 2)
    assert equal(batches.decode(batches.encode(batch(facts=wide[::2]))), batch())


def corrupt(**fields: Any) -> bytes:
    """A good batch with one edge and three facts, whose message is then changed by ``fields`` (path -> value)."""
    edge = Edge(Workload(name="curl"), "egress", "1.1.1.1", "1.1.1.1", "TCP", 443)
    message = message_of(batches.encode(batch(edges=(edge,), losses=(Loss(1, "agent", "", "x", 1),))))
    for path, value in fields.items():
        *parents, last = path.split("__")
        target = message
        for parent in parents:
            target = target[int(parent)] if parent.isdigit() else getattr(target, parent)
        if isinstance(value, list):
            del getattr(target, last)[:]
            getattr(target, last).extend(value)
        else:
            setattr(target, last, value)
    return bytes(message.SerializeToString())


def test_the_starting_point_of_the_refusals_is_a_good_batch() -> None:
    assert len(batches.decode(corrupt()).facts) == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id__sequence": 0}, "sequence 0"),
        ({"id__sequence": 1 << 63}, "sequence"),
        ({"id__node": ""}, "node"),
        ({"id__node": "x" * 254}, "node"),
        ({"id__boot": "a\nb"}, "boot"),
        ({"clock__wall_ns": 1 << 63}, "clock"),
        ({"facts__edge": [0, 6, 7]}, "edge id"),
        ({"facts__edge": [1 << 63, 6, 7]}, "edge id"),
        ({"facts__edge": [5, 6]}, "values for 2 facts"),
        ({"facts__bucket": [-1, 1, 1]}, "1970"),
        ({"facts__bucket": [facts.MAX_BUCKET, 1, 1]}, "9999"),
        ({"facts__bucket": [(1 << 63) - 1, (1 << 63) - 1, 3]}, "9999"),
        ({"facts__bucket": [1]}, "column bucket has 1"),
        ({"facts__bytes_sent": [1, 2]}, "column bytes_sent has 2"),
        ({"facts__bytes_sent": [1, 2, 3, 4]}, "column bytes_sent has 4"),
        ({"facts__bytes_sent": [1, 2, facts.MAX_COUNT + 1]}, "column bytes_sent"),
        ({"facts__buckets": 16}, "16 buckets"),
        ({"facts__histogram_cell": [16, 0]}, "ascend"),
        ({"facts__histogram_cell": [16, 35]}, "cell 51 of 3"),
        ({"facts__histogram_cell": [16]}, "1 histogram cells with 2"),
        ({"facts__histogram_count": [1, facts.MAX_COUNT + 1]}, "histogram_count"),
        ({"edges__id": [77]}, "is not the id"),
        ({"edges__id": []}, "values for 0 edges"),
        ({"edges__port": [65536]}, "port 65536"),
        ({"edges__port": []}, "0 ports"),
        ({"edges__peer": [99]}, "string 99"),
        ({"edges__peer": [0, 0]}, "column peer has 2"),
        ({"edges__direction": [1]}, "direction 'curl'"),
        ({"edges__verdict": [1]}, "verdict 'curl'"),
        ({"edges__strings": ["x" * 5000]}, "longer than 4096"),
        ({"losses__0__hop": "moon"}, "hop 'moon'"),
        ({"losses__0__reason": ""}, "reason"),
        ({"losses__0__count": facts.MAX_COUNT + 1}, "out of bounds"),
        ({"losses__0__bucket": facts.MAX_BUCKET + 1}, "out of bounds"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_reason(change: dict[str, Any], says: str) -> None:
    with pytest.raises(WireError, match=says):
        batches.decode(corrupt(**change))


def test_an_observed_stretch_that_ends_before_it_starts_is_refused() -> None:
    message = message_of(batches.encode(batch()))
    message.observed.add(start_ns=2, end_ns=1)
    with pytest.raises(WireError, match="from 2 to 1"):
        batches.decode(message.SerializeToString())


def test_text_that_is_not_utf_8_is_refused() -> None:
    data = batches.encode(batch(id=BatchId("nnnn", "b", 1))).replace(b"nnnn", b"nn\xff\xfe")
    with pytest.raises(WireError, match="not a batch"):
        batches.decode(data)


def test_too_many_facts_edges_losses_are_refused() -> None:
    rows = np.zeros(facts.MAX_FACTS + 1, FACT)
    rows["edge"] = 1
    with pytest.raises(WireError, match=f"at most {facts.MAX_FACTS}"):
        batches.encode(batch(facts=rows))
    with pytest.raises(WireError, match=f"{facts.MAX_FACTS + 1} facts; at most"):
        batches.decode(corrupt(facts__edge=[1] * (facts.MAX_FACTS + 1)))
    with pytest.raises(WireError, match="edges; at most"):
        batches.decode(corrupt(edges__id=[1] * (edges.MAX_EDGES + 1)))
    message = message_of(batches.encode(batch()))
    for _ in range(batches.MAX_ROWS + 1):
        message.observed.add()
    with pytest.raises(WireError, match="observed stretches; at most"):
        batches.decode(message.SerializeToString())
    del message.observed[:]
    for _ in range(batches.MAX_ROWS + 1):
        message.losses.add()
    with pytest.raises(WireError, match="losses; at most"):
        batches.decode(message.SerializeToString())


@pytest.mark.parametrize("column", ["edge", "bucket", "bytes_received", "latency_b3"])
def test_a_negative_number_is_not_sent(column: str) -> None:
    rows = batch().facts.copy()
    rows[column][1] = -1
    with pytest.raises(WireError, match=column.replace("edge", "edge id")):
        batches.encode(batch(facts=rows))


def test_a_loss_or_a_name_that_cannot_be_sent() -> None:
    with pytest.raises(WireError, match="cannot be sent"):
        batches.encode(batch(losses=(Loss(0, "agent", "", "x", -1),)))
    with pytest.raises(WireError, match="cannot be sent"):
        batches.encode(batch(id=BatchId("\ud800", "b", 1)))
