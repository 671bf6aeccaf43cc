"""Reading server-sent events: every way to cut the bytes, every way to end a line, and bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.client.sse import messages
from fathom.errors import WireError


async def read(chunks: Iterable[bytes]) -> list[tuple[str, str, bytes]]:
    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [message async for message in messages(stream())]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", []),
        (b"data: x\n\n", [("message", "", b"x")]),
        (b"data:x\n\n", [("message", "", b"x")]),
        (b"data:  x\n\n", [("message", "", b" x")]),
        (b"data: a\ndata: b\n\n", [("message", "", b"a\nb")]),
        (b"data\n\n", [("message", "", b"")]),
        (b"event: loss\nid: 7\ndata: x\n\n", [("loss", "7", b"x")]),
        (b"id: 7\ndata: x\n\ndata: y\n\n", [("message", "7", b"x"), ("message", "7", b"y")]),
        (b"event: loss\n\ndata: x\n\n", [("message", "", b"x")]),
        (b": comment\n\n:\n\ndata: x\n\n", [("message", "", b"x")]),
        (b"retry: 3\nunknown: 4\ndata: x\n\n", [("message", "", b"x")]),
        (b"id: a\0b\ndata: x\n\n", [("message", "", b"x")]),
        (b"data: cut off", []),
        (b"data: cut off\n", []),
        (b"data: x\r\n\r\n", [("message", "", b"x")]),
        (b"data: x\r\r", [("message", "", b"x")]),
        (b"data: x\r\ndata: y\n\r\n", [("message", "", b"x\ny")]),
    ],
)
async def test_messages(text: bytes, found: list[tuple[str, str, bytes]]) -> None:
    # A CR at the very end may be half of a CR LF: a comment after it settles that.
    settled = text + b": end\n" if text.endswith(b"\r") else text
    assert await read([settled]) == found
    assert await read([settled[i : i + 1] for i in range(len(settled))]) == found


@given(
    st.lists(st.sampled_from([b"data: x", b"event: e", b"id: 1", b"", b":c", b"data: \xc3\xa9"]), max_size=20),
    st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=20, max_size=20),
    st.lists(st.integers(min_value=1, max_value=9), min_size=1, max_size=9),
)
async def test_the_way_the_bytes_are_cut_does_not_matter(
    lines: list[bytes], ends: list[bytes], cuts: list[int]
) -> None:
    text = b"".join(line + end for line, end in zip(lines, ends, strict=False)) + b": end\n"
    chunks, at, turn = [], 0, 0
    while at < len(text):
        size = cuts[turn % len(cuts)]
        chunks.append(text[at : at + size])
        at, turn = at + size, turn + 1
    assert await read(chunks) == await read([text])


async def test_what_never_ends_is_given_up() -> None:
    endless = (b"data: " + b"x" * 65_536 for _ in range(1_000))
    with pytest.raises(WireError, match="line of the stream is too long"):
        await read(endless)
    many = (b"data: " + b"x" * 65_536 + b"\n" for _ in range(1_000))
    with pytest.raises(WireError, match="message of the stream is too long"):
        await read(many)
