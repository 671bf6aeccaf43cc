"""Times and durations as people write them in a question."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.errors import UsageError
from fathom.server.times import NS, duration_ns, moment_ns, text_ns, text_s

NOW = 1_769_860_800 * NS


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("1h30m", 5_400), ("7d", 604_800), ("90s", 90), ("1d2h3m4s", 93_784), ("0s", 0), ("250ms", 0.25)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_ns(text) == int(seconds * NS)
    assert moment_ns(text, NOW) == NOW - int(seconds * NS)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("2026-01-31T12:00:00Z", NOW),
        ("2026-01-31t12:00:00z", NOW),
        ("2026-01-31 12:00:00Z", NOW),
        ("2026-01-31T13:00:00+01:00", NOW),
        ("2026-01-31T13:00:00 01:00", NOW),  # what a query string makes of an unquoted plus
        ("2026-01-31T06:30:00-05:30", NOW),
        ("2026-01-31T12:00:00.5Z", NOW + NS // 2),
        ("2026-01-31T12:00:00.000000001Z", NOW + 1),
        ("2026-01-31T12:00:00.0000000019Z", NOW + 1),
        ("1969-12-31T23:59:59.5Z", -NS // 2),
    ],
)
def test_moments(text: str, moment: int) -> None:
    assert moment_ns(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    [
        "", "5", "m", "5 m", "-5m", "5m ", "5M", "1w", "1.5h", "²m", "٥m", "12:00", "2026-01-31", "2026-01-31T12:00:00",
        "2026-02-31T12:00:00Z", "2026-01-31T24:00:01Z", "2026-01-31T12:00Z", "20260131T120000Z", "tomorrow",
        "2026-01-31T12:00:00Z\n", "2026-01-31T12:00:00+99:00", "9999999999s", "1" * 70 + "m",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused_in_short_words(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        moment_ns(text, NOW)
    assert len(str(caught.value)) < 300


@given(st.integers(min_value=-62_135_596_800 * NS, max_value=253_402_300_799 * NS))
def test_what_is_written_is_read_back(moment: int) -> None:
    assert moment_ns(text_ns(moment), 0) == moment
    assert moment_ns(text_s(moment // NS), 0) == moment // NS * NS


@given(st.text(max_size=80))
def test_no_text_does_anything_but_mean_a_moment_or_be_refused(text: str) -> None:
    with suppress(UsageError):
        assert isinstance(moment_ns(text, NOW), int)


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1)))
def test_agrees_with_the_standard_library(when: datetime) -> None:
    aware = when.replace(microsecond=0, tzinfo=UTC)
    assert moment_ns(aware.isoformat(), 0) == int(aware.timestamp()) * NS
