"""How a recording is made: what of the facts is kept, within which bounds, and who is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fathom.errors import FathomError


class Stopped(FathomError):
    """Whoever wanted the recording has gone."""


#: ``hour``: sums of hours, and each interval where a question about policy needs it. ``interval``: all of them.
Detail = Literal["hour", "interval"]
#: Bytes that a recording holds at most, unless it is said.
MOST_BYTES = 64 << 30


def nobody(_share: float) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True)
class Making:
    """``force`` replaces a file that is there. ``progress`` is told how much is done, from 0 to 1. ``stopped`` is asked
    now and then whether to give up; both may be called from the thread that makes the recording."""

    detail: Detail = "hour"
    force: bool = False
    most_bytes: int = MOST_BYTES
    progress: Callable[[float], None] = nobody
    stopped: Callable[[], bool] = lambda: False


#: As the fields say by themselves.
PLAIN = Making()
