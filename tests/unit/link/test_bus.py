"""The bus in memory: bounded readers, and what they miss."""

from fathom.link.bus import MemoryBus


async def test_a_reader_without_room_misses_what_the_message_loses() -> None:
    bus = MemoryBus()
    reader = bus.subscribe("t", limit=2)
    bus.publish("t", b"kept", 2)
    bus.publish("t", b"three events, and seven that were dropped before", 3, loses=10)
    bus.publish("t", b"an error, which is no event", 1, loses=0)
    assert await anext(reader) == b"kept"
    assert reader.take_dropped() == 10
    assert reader.take_dropped() == 0


async def test_what_is_heavier_than_the_bound_passes_when_nothing_waits() -> None:
    bus = MemoryBus()
    reader = bus.subscribe("t", limit=2)
    bus.publish("t", b"heavy", 5)
    assert await anext(reader) == b"heavy"
    assert reader.take_dropped() == 0
