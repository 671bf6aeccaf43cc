"""What every test may use: a skip that CI can forbid."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest


def pytest_configure() -> None:
    """A shell starts what it puts into the background with SIGINT ignored, and children would inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def require() -> Callable[[str, str], None]:
    """``require(feature, reason)`` skips the test with its reason and how to force it.

    With ``FATHOM_REQUIRE=all``, or with the feature in that comma list, it fails instead: CI sets ``all``.
    """
    forced = set(os.environ.get("FATHOM_REQUIRE", "").split(","))

    def missing(feature: str, reason: str) -> None:
        if forced & {"all", feature}:
            pytest.fail(f"{feature} is required (FATHOM_REQUIRE), but {reason}")
        pytest.skip(f"{reason}; FATHOM_REQUIRE={feature} makes this a failure")

    return missing


@pytest.fixture
def root(require: Callable[[str, str], None]) -> None:
    """For tests that load programs into this kernel."""
    if os.geteuid() != 0:
        require("root", "this test loads programs into the kernel and needs root")
