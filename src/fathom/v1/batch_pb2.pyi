from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Clock(_message.Message):
    __slots__ = ("monotonic_ns", "boot_ns", "wall_ns")
    MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    BOOT_NS_FIELD_NUMBER: _ClassVar[int]
    WALL_NS_FIELD_NUMBER: _ClassVar[int]
    monotonic_ns: int
    boot_ns: int
    wall_ns: int
    def __init__(self, monotonic_ns: _Optional[int] = ..., boot_ns: _Optional[int] = ..., wall_ns: _Optional[int] = ...) -> None: ...

class BatchId(_message.Message):
    __slots__ = ("node", "boot", "sequence")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    node: str
    boot: str
    sequence: int
    def __init__(self, node: _Optional[str] = ..., boot: _Optional[str] = ..., sequence: _Optional[int] = ...) -> None: ...

class Edges(_message.Message):
    __slots__ = ("strings", "id", "cluster", "node", "namespace", "kind", "name", "pod", "container", "direction", "peer", "peer_address", "protocol", "port", "verdict", "reason")
    STRINGS_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    strings: _containers.RepeatedScalarFieldContainer[str]
    id: _containers.RepeatedScalarFieldContainer[int]
    cluster: _containers.RepeatedScalarFieldContainer[int]
    node: _containers.RepeatedScalarFieldContainer[int]
    namespace: _containers.RepeatedScalarFieldContainer[int]
    kind: _containers.RepeatedScalarFieldContainer[int]
    name: _containers.RepeatedScalarFieldContainer[int]
    pod: _containers.RepeatedScalarFieldContainer[int]
    container: _containers.RepeatedScalarFieldContainer[int]
    direction: _containers.RepeatedScalarFieldContainer[int]
    peer: _containers.RepeatedScalarFieldContainer[int]
    peer_address: _containers.RepeatedScalarFieldContainer[int]
    protocol: _containers.RepeatedScalarFieldContainer[int]
    port: _containers.RepeatedScalarFieldContainer[int]
    verdict: _containers.RepeatedScalarFieldContainer[int]
    reason: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, strings: _Optional[_Iterable[str]] = ..., id: _Optional[_Iterable[int]] = ..., cluster: _Optional[_Iterable[int]] = ..., node: _Optional[_Iterable[int]] = ..., namespace: _Optional[_Iterable[int]] = ..., kind: _Optional[_Iterable[int]] = ..., name: _Optional[_Iterable[int]] = ..., pod: _Optional[_Iterable[int]] = ..., container: _Optional[_Iterable[int]] = ..., direction: _Optional[_Iterable[int]] = ..., peer: _Optional[_Iterable[int]] = ..., peer_address: _Optional[_Iterable[int]] = ..., protocol: _Optional[_Iterable[int]] = ..., port: _Optional[_Iterable[int]] = ..., verdict: _Optional[_Iterable[int]] = ..., reason: _Optional[_Iterable[int]] = ...) -> None: ...

class Facts(_message.Message):
    __slots__ = ("edge", "bucket", "connections", "failures", "bytes_sent", "bytes_received", "packets_sent", "packets_received", "retransmits", "latency_count", "latency_sum", "latency_min", "latency_max", "histogram_cell", "histogram_count", "buckets")
    EDGE_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    PACKETS_SENT_FIELD_NUMBER: _ClassVar[int]
    PACKETS_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    RETRANSMITS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_COUNT_FIELD_NUMBER: _ClassVar[int]
    LATENCY_SUM_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MIN_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MAX_FIELD_NUMBER: _ClassVar[int]
    HISTOGRAM_CELL_FIELD_NUMBER: _ClassVar[int]
    HISTOGRAM_COUNT_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    edge: _containers.RepeatedScalarFieldContainer[int]
    bucket: _containers.RepeatedScalarFieldContainer[int]
    connections: _containers.RepeatedScalarFieldContainer[int]
    failures: _containers.RepeatedScalarFieldContainer[int]
    bytes_sent: _containers.RepeatedScalarFieldContainer[int]
    bytes_received: _containers.RepeatedScalarFieldContainer[int]
    packets_sent: _containers.RepeatedScalarFieldContainer[int]
    packets_received: _containers.RepeatedScalarFieldContainer[int]
    retransmits: _containers.RepeatedScalarFieldContainer[int]
    latency_count: _containers.RepeatedScalarFieldContainer[int]
    latency_sum: _containers.RepeatedScalarFieldContainer[int]
    latency_min: _containers.RepeatedScalarFieldContainer[int]
    latency_max: _containers.RepeatedScalarFieldContainer[int]
    histogram_cell: _containers.RepeatedScalarFieldContainer[int]
    histogram_count: _containers.RepeatedScalarFieldContainer[int]
    buckets: int
    def __init__(self, edge: _Optional[_Iterable[int]] = ..., bucket: _Optional[_Iterable[int]] = ..., connections: _Optional[_Iterable[int]] = ..., failures: _Optional[_Iterable[int]] = ..., bytes_sent: _Optional[_Iterable[int]] = ..., bytes_received: _Optional[_Iterable[int]] = ..., packets_sent: _Optional[_Iterable[int]] = ..., packets_received: _Optional[_Iterable[int]] = ..., retransmits: _Optional[_Iterable[int]] = ..., latency_count: _Optional[_Iterable[int]] = ..., latency_sum: _Optional[_Iterable[int]] = ..., latency_min: _Optional[_Iterable[int]] = ..., latency_max: _Optional[_Iterable[int]] = ..., histogram_cell: _Optional[_Iterable[int]] = ..., histogram_count: _Optional[_Iterable[int]] = ..., buckets: _Optional[int] = ...) -> None: ...

class Loss(_message.Message):
    __slots__ = ("bucket", "hop", "probe", "reason", "count", "packets", "bytes_sent", "bytes_received")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    HOP_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    bucket: int
    hop: str
    probe: str
    reason: str
    count: int
    packets: int
    bytes_sent: int
    bytes_received: int
    def __init__(self, bucket: _Optional[int] = ..., hop: _Optional[str] = ..., probe: _Optional[str] = ..., reason: _Optional[str] = ..., count: _Optional[int] = ..., packets: _Optional[int] = ..., bytes_sent: _Optional[int] = ..., bytes_received: _Optional[int] = ...) -> None: ...

class Observed(_message.Message):
    __slots__ = ("start_ns", "end_ns")
    START_NS_FIELD_NUMBER: _ClassVar[int]
    END_NS_FIELD_NUMBER: _ClassVar[int]
    start_ns: int
    end_ns: int
    def __init__(self, start_ns: _Optional[int] = ..., end_ns: _Optional[int] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("id", "clock", "edges", "facts", "losses", "observed")
    ID_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    id: BatchId
    clock: Clock
    edges: Edges
    facts: Facts
    losses: _containers.RepeatedCompositeFieldContainer[Loss]
    observed: _containers.RepeatedCompositeFieldContainer[Observed]
    def __init__(self, id: _Optional[_Union[BatchId, _Mapping]] = ..., clock: _Optional[_Union[Clock, _Mapping]] = ..., edges: _Optional[_Union[Edges, _Mapping]] = ..., facts: _Optional[_Union[Facts, _Mapping]] = ..., losses: _Optional[_Iterable[_Union[Loss, _Mapping]]] = ..., observed: _Optional[_Iterable[_Union[Observed, _Mapping]]] = ...) -> None: ...
