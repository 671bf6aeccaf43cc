"""What a person may ask for, as query parameters: checked here once, documented from here, turned into questions.

An unknown parameter is refused rather than ignored: a misspelt filter must not look like an answer. A window that is
longer than what is kept is refused rather than shortened, for the same reason.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fathom.agent.edges import protocol_name
from fathom.agent.questions import MAX_EVENTS, EventFilter
from fathom.errors import UsageError
from fathom.events.catalogue import PROTOCOLS
from fathom.server.settings import ServerSettings
from fathom.server.times import NS, duration_ns, moment_ns
from fathom.store.interface import MAX_LIMIT, EdgeQuery, Window

_LONGEST = 512
_NUMBERS = {name.lower(): number for number, name in PROTOCOLS.items()}
Name = Annotated[str, Field(max_length=_LONGEST)]
Since = Annotated[
    str,
    Field(
        max_length=64, description="Start: a duration before now, or RFC 3339.", examples=["5m", "2026-01-31T12:00:00Z"]
    ),
]
Until = Annotated[
    str, Field(max_length=64, description="End, not part of it: like `since`, or `now`.", examples=["now", "1h"])
]
Node = Annotated[Name, Field(description="Name of a node.", examples=["web-1"])]
Port = Annotated[int | None, Field(ge=0, le=65_535, description="The server's port.", examples=[443])]
Cursor = Annotated[str, Field(max_length=4_096, description="`next_cursor` of the page before, with the same filters.")]


class Asked(BaseModel):
    """A stretch of time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    since: Since = "5m"
    until: Until = "now"

    def window_ns(self, now_ns: int, settings: ServerSettings) -> tuple[int, int]:
        """Start and end in epoch nanoseconds; the end is now at the latest.

        Raises UsageError if it ends before it begins, or is longer than what may be asked for.
        """
        since, until = moment_ns(self.since, now_ns), min(moment_ns(self.until, now_ns), now_ns)
        if since >= until:
            raise UsageError("the window is empty: since is not before until", do="give a since that is earlier")
        if until - since > (settings.longest_window_s + 1) * NS:
            days = settings.longest_window_s // 86_400
            raise UsageError(f"the window is longer than {days} days", do=f"ask for since={days}d, or for parts")
        return since, until

    def window(self, now_ns: int, settings: ServerSettings) -> Window:
        """The whole seconds that hold the stretch. Raises UsageError as ``window_ns`` does."""
        since, until = self.window_ns(now_ns, settings)
        return Window(since // NS, -(-until // NS))


class RecordingAsked(Asked):
    """The window of a recording."""

    since: Since = "24h"


class EdgesAsked(Asked):
    """Which edges, or the workloads of which edges."""

    workload: Annotated[
        Name,
        Field(
            description="`name`, `kind/name` or `namespace/kind/name`; `*` stands for any text.", examples=["unit/*"]
        ),
    ] = ""
    peer: Annotated[
        Name,
        Field(description="Name of the other side, an address or a CIDR; `*` in names.", examples=["10.0.0.0/8"]),
    ] = ""
    protocol: Annotated[
        Name,
        Field(
            description=f"{', '.join(PROTOCOLS.values())} or an IP protocol number; case does not matter.",
            examples=["tcp"],
        ),
    ] = ""
    port: Port = None
    direction: Annotated[
        Literal["", "egress", "ingress", "unknown"], Field(description="Who opened it, seen from the workload.")
    ] = ""
    verdict: Annotated[
        Literal["", "forwarded", "failed", "dropped", "unknown"], Field(description="What became of it.")
    ] = ""
    node: Node = ""
    order: Annotated[
        Literal["id", "traffic"], Field(description="`traffic`: the busiest first, by bytes. `id`: in order of ids.")
    ] = "traffic"
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT, description="Items in one page.")] = 100
    cursor: Cursor = ""

    def query(self, now_ns: int, settings: ServerSettings) -> EdgeQuery:
        """The store's question. Raises UsageError as ``window_ns`` does, and for a peer or protocol that cannot be."""
        return EdgeQuery(
            window=self.window(now_ns, settings),
            workload=self.workload,
            peer=_peer(self.peer),
            protocol=_protocol(self.protocol),
            port=self.port,
            direction=self.direction,
            verdict=self.verdict,
            node=self.node,
            limit=self.limit,
            cursor=self.cursor,
            order=self.order,
        )


def _peer(text: str) -> str:
    """``text``; what has a slash must be a network, for no name of a peer has one."""
    if "/" in text:
        try:
            ip_network(text, strict=False)
        except ValueError as error:
            raise UsageError(f"peer is {text!r}, which is no network", do="write for example 10.0.0.0/8") from error
    return text


def _protocol(text: str) -> str:
    """The protocol as edges name it: ``sctp`` and ``132`` are both ``132``, ``6`` is ``TCP``."""
    if not text:
        return ""
    number = _NUMBERS.get(text.lower(), -1)
    if text.isascii() and text.isdecimal() and len(text) <= 3:
        number = int(text)
    if not 0 <= number <= 255:
        names = ", ".join(PROTOCOLS.values())
        raise UsageError(f"protocol is {text!r}, which is no IP protocol", do=f"use {names}, or a number from 0 to 255")
    return protocol_name(number)


class SeriesAsked(Asked):
    """One edge over time."""

    since: Since = "1h"
    step: Annotated[
        str,
        Field(max_length=64, description="Length of one step, whole seconds; empty: about 60 steps.", examples=["1m"]),
    ] = ""

    def step_s(self, window: Window) -> int:
        """Seconds of one step. Raises UsageError if it is no whole number of them, or makes too many points."""
        if not self.step:
            return max(1, next(s for s in _STEPS if s * 60 >= window.until_s - window.since_s or s == _STEPS[-1]))
        step_ns = duration_ns(self.step)
        if step_ns < NS or step_ns % NS:
            raise UsageError(f"step is {self.step}", do="give whole seconds, for example 10s or 1m")
        if (window.until_s - window.since_s) * NS // step_ns > MAX_LIMIT:
            raise UsageError(f"these are more than {MAX_LIMIT} steps", do="give a longer step or a shorter window")
        return step_ns // NS


_STEPS = (10, 30, 60, 300, 900, 3_600, 10_800, 21_600, 86_400)


class LiveAsked(BaseModel):
    """Which events."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Annotated[Name, Field(description="Kind of event: the probe's name.", examples=["tcp", "flow"])] = ""
    workload: Annotated[Name, Field(description="`name` or `kind/name`.", examples=["unit/nginx.service"])] = ""
    pid: Annotated[int, Field(ge=0, le=2**31 - 1, description="Process id; 0: any.", examples=[4242])] = 0
    comm: Annotated[Name, Field(description="Process name as the kernel has it.", examples=["curl"])] = ""
    address: Annotated[Name, Field(description="Address or CIDR of either side.", examples=["10.0.0.0/8"])] = ""
    port: Annotated[int, Field(ge=0, le=65_535, description="Port of either side; 0: any.", examples=[443])] = 0
    node: Node = ""

    def filter(self) -> EventFilter:
        """What nodes are asked for. Raises UsageError if ``address`` is none."""
        if self.address:
            try:
                ip_network(self.address, strict=False)
            except ValueError as error:
                raise UsageError(
                    f"{self.address[:64]!r} is no address", do="write for example 10.1.2.3, 10.0.0.0/8 or 2001:db8::1"
                ) from error
        return EventFilter(
            kind=self.kind,
            pid=self.pid,
            comm=self.comm,
            address=self.address,
            port=self.port,
            workload=self.workload,
        )


class EventsAsked(LiveAsked, Asked):
    """Which recent events."""

    limit: Annotated[int, Field(ge=1, le=MAX_EVENTS, description="Items in one page.")] = 100
    cursor: Cursor = ""
