"""Server-sent events, read (HTML standard, section 9.2.6): bytes in, messages out, within bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fathom.errors import WireError

#: Bytes of one line, and of one message.
_LONGEST = 4 << 20


async def messages(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, str, bytes]]:
    """Each message of the stream: its kind (``message`` if it has none), the last id, and its data.

    Raises WireError if a line or a message is longer than 4 MiB.
    """
    kind, number, data = "", "", bytearray()
    some = False
    async for line in _lines(chunks):
        if not line:
            if some:
                yield kind or "message", number, bytes(data[:-1])
            kind, some = "", False
            data.clear()
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data += value + b"\n"
            some = True
            if len(data) > _LONGEST:
                raise WireError("a message of the stream is too long")
        elif field == b"event":
            kind = value.decode(errors="replace")
        elif field == b"id" and b"\0" not in value:
            number = value.decode(errors="replace")


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines without their ends, which are LF, CR LF or CR."""
    rest = b""
    async for chunk in chunks:
        rest += chunk
        if len(rest) > _LONGEST:
            raise WireError("a line of the stream is too long")
        held = b"\r" if rest.endswith(b"\r") else b""  # an LF may follow
        text = rest.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        rest += held
        for line in lines:
            yield line
