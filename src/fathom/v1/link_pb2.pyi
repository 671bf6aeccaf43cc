from fathom.v1 import batch_pb2 as _batch_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AgentMessage(_message.Message):
    __slots__ = ("hello", "delivery", "heartbeat", "answer", "events")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    delivery: Delivery
    heartbeat: Heartbeat
    answer: Answer
    events: EventChunk
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., delivery: _Optional[_Union[Delivery, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., events: _Optional[_Union[EventChunk, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("node", "boot", "version", "clock", "features", "spool")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    SPOOL_FIELD_NUMBER: _ClassVar[int]
    node: str
    boot: str
    version: str
    clock: _batch_pb2.Clock
    features: _containers.RepeatedScalarFieldContainer[str]
    spool: SpoolState
    def __init__(self, node: _Optional[str] = ..., boot: _Optional[str] = ..., version: _Optional[str] = ..., clock: _Optional[_Union[_batch_pb2.Clock, _Mapping]] = ..., features: _Optional[_Iterable[str]] = ..., spool: _Optional[_Union[SpoolState, _Mapping]] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("boot", "sequence", "round", "batch")
    BOOT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    boot: str
    sequence: int
    round: int
    batch: bytes
    def __init__(self, boot: _Optional[str] = ..., sequence: _Optional[int] = ..., round: _Optional[int] = ..., batch: _Optional[bytes] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("clock", "spool")
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    SPOOL_FIELD_NUMBER: _ClassVar[int]
    clock: _batch_pb2.Clock
    spool: SpoolState
    def __init__(self, clock: _Optional[_Union[_batch_pb2.Clock, _Mapping]] = ..., spool: _Optional[_Union[SpoolState, _Mapping]] = ...) -> None: ...

class SpoolState(_message.Message):
    __slots__ = ("batches", "bytes", "facts_dropped", "files_damaged", "writable")
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    FACTS_DROPPED_FIELD_NUMBER: _ClassVar[int]
    FILES_DAMAGED_FIELD_NUMBER: _ClassVar[int]
    WRITABLE_FIELD_NUMBER: _ClassVar[int]
    batches: int
    bytes: int
    facts_dropped: int
    files_damaged: int
    writable: bool
    def __init__(self, batches: _Optional[int] = ..., bytes: _Optional[int] = ..., facts_dropped: _Optional[int] = ..., files_damaged: _Optional[int] = ..., writable: _Optional[bool] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("id", "answer", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: int
    answer: bytes
    error: str
    def __init__(self, id: _Optional[int] = ..., answer: _Optional[bytes] = ..., error: _Optional[str] = ...) -> None: ...

class EventChunk(_message.Message):
    __slots__ = ("subscription", "events", "dropped", "end", "error", "count")
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    subscription: int
    events: bytes
    dropped: int
    end: bool
    error: str
    count: int
    def __init__(self, subscription: _Optional[int] = ..., events: _Optional[bytes] = ..., dropped: _Optional[int] = ..., end: _Optional[bool] = ..., error: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class ServerMessage(_message.Message):
    __slots__ = ("welcome", "ack", "nack", "question", "subscribe", "cancel")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    ack: Ack
    nack: Nack
    question: Question
    subscribe: Subscribe
    cancel: Cancel
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., nack: _Optional[_Union[Nack, _Mapping]] = ..., question: _Optional[_Union[Question, _Mapping]] = ..., subscribe: _Optional[_Union[Subscribe, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("store_id", "session", "version", "window", "max_batch_bytes", "interval_s")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    store_id: str
    session: str
    version: str
    window: int
    max_batch_bytes: int
    interval_s: int
    def __init__(self, store_id: _Optional[str] = ..., session: _Optional[str] = ..., version: _Optional[str] = ..., window: _Optional[int] = ..., max_batch_bytes: _Optional[int] = ..., interval_s: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("boot", "sequence", "store_id")
    BOOT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    boot: str
    sequence: int
    store_id: str
    def __init__(self, boot: _Optional[str] = ..., sequence: _Optional[int] = ..., store_id: _Optional[str] = ...) -> None: ...

class Nack(_message.Message):
    __slots__ = ("boot", "sequence", "permanent", "reason", "detail", "retry_after_ms")
    BOOT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PERMANENT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    boot: str
    sequence: int
    permanent: bool
    reason: str
    detail: str
    retry_after_ms: int
    def __init__(self, boot: _Optional[str] = ..., sequence: _Optional[int] = ..., permanent: _Optional[bool] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("id", "question", "timeout_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    id: int
    question: bytes
    timeout_ms: int
    def __init__(self, id: _Optional[int] = ..., question: _Optional[bytes] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class Subscribe(_message.Message):
    __slots__ = ("id", "filter")
    ID_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    id: int
    filter: bytes
    def __init__(self, id: _Optional[int] = ..., filter: _Optional[bytes] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...
