from __future__ import annotations

import pytest

from fathom.cli.units import duration, latency, moment, rate, seconds_of, share, size
from fathom.errors import UsageError


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (1024, "1.0 KiB"),
        (1_258_291, "1.2 MiB"),
        (104_857_600, "100 MiB"),
        (1023 * 1024, "1.0 MiB"),
        (5 << 40, "5.0 TiB"),
        (9 << 60, "9216 PiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0ns"),
        (850e-9, "850ns"),
        (4.2e-6, "4.2µs"),
        (42e-6, "42µs"),
        (0.0032, "3.2ms"),
        (0.9996, "1.0s"),
        (1.5, "1.5s"),
        (120.4, "120s"),
    ],
)
def test_latency(seconds: float | None, text: str) -> None:
    assert latency(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.4, "59s"),
        (59.6, "1m"),
        (90, "1m30s"),
        (3599, "59m59s"),
        (3600, "1h"),
        (7500, "2h05m"),
        (86400, "1d"),
        (90000, "1d01h"),
        (400 * 86400, "400d"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.4, "0.4"), (12, "12"), (999.7, "1.0k"), (3400, "3.4k"), (1.2e6, "1.2M"), (5e10, "50.0G")],
)
def test_rate(value: float, text: str) -> None:
    assert rate(value) == text


def test_a_share_below_one_is_never_shown_as_all() -> None:
    assert share(1) == "100 %"
    assert share(0.99999) == "99.9 %"
    assert share(0) == "0.0 %"


def test_durations_that_people_type() -> None:
    assert seconds_of("5m") == 300
    assert seconds_of("1h30m") == 5400
    assert seconds_of("250ms") == 0.25
    assert seconds_of("1.5s") == 1.5


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5m!", "1y", "5mm"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        seconds_of(text)


@pytest.mark.parametrize("text", ["5m", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5+02:00"])
def test_a_moment_is_handed_on_as_typed(text: str) -> None:
    assert moment(text) == text


@pytest.mark.parametrize("text", ["yesterday", "2026-01-31", "2026-01-31T12:00:00", "20260131T99", ""])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        moment(text)
