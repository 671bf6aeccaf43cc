"""Times in documents and flows: RFC 3339 or numbers, as epoch seconds. No clock is read."""

from __future__ import annotations

from datetime import UTC, datetime

from fathom.policy.fields import Field


def seconds(field: Field) -> int:
    """Epoch seconds of an RFC 3339 time or a number. Raises Refused if it is neither."""
    value = field.value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1 << 40:
        return int(value)
    if isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            raise field.refuse(f"{value[:64]!r} is not a time") from None
        return max(0, int(parsed.replace(tzinfo=parsed.tzinfo or UTC).timestamp()))
    raise field.refuse("must be a time: RFC 3339, or seconds since 1970")
