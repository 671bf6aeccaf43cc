"""From what a person asks for to SQL conditions on ``edges``: values always travel as parameters, never as text.

Only ``*`` is special in a name. What matches text with ``*`` in it differs between engines, so they give that part.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import ip_network

from fathom.errors import UsageError
from fathom.store.interface import MAX_LIMIT, EdgeQuery

#: Gives a condition and its parameter for a column and a pattern with ``*`` in it.
Matcher = Callable[[str, str], tuple[str, str]]
Condition = tuple[str, list[str | int]]

_PROTOCOLS = {name.lower(): name for name in ("TCP", "UDP", "ICMP", "ICMPv6")}
_DIRECTIONS = ("egress", "ingress", "unknown")
_VERDICTS = ("forwarded", "failed", "dropped", "unknown")
_V4 = "00000000000000000000ffff"
_LONGEST = 4_096


def address_key(address: str) -> str:
    """An address as 32 hexadecimal digits, IPv4 as ``::ffff:a.b.c.d``; ``""`` if the text is no address."""
    try:
        return _V4 + socket.inet_pton(socket.AF_INET, address).hex()
    except (OSError, ValueError):
        pass  # not IPv4
    try:
        return socket.inet_pton(socket.AF_INET6, address.partition("%")[0]).hex()
    except (OSError, ValueError):
        return ""


def check(query: EdgeQuery) -> None:
    """Raises UsageError, naming the field, if the query makes no sense."""
    if query.window.since_s > query.window.until_s:
        raise UsageError("the window ends before it begins", do="give a since that is not after until")
    if not 1 <= query.limit <= MAX_LIMIT:
        raise UsageError(f"limit is {query.limit}", do=f"give a limit from 1 to {MAX_LIMIT}")
    if query.order not in ("id", "traffic"):
        raise UsageError(f"order is {query.order!r}", do="use one of: id, traffic")
    if query.direction and query.direction not in _DIRECTIONS:
        raise UsageError(f"direction is {query.direction!r}", do=f"use one of: {', '.join(_DIRECTIONS)}")
    if query.verdict and query.verdict not in _VERDICTS:
        raise UsageError(f"verdict is {query.verdict!r}", do=f"use one of: {', '.join(_VERDICTS)}")
    if query.port is not None and not 0 <= query.port <= 65_535:
        raise UsageError(f"port is {query.port}", do="give a port from 0 to 65535")
    if query.id is not None and not 0 <= query.id < 2**63:
        raise UsageError(f"id is {query.id}", do="give the id of an edge as it was told")
    for name in ("workload", "peer", "protocol", "node"):
        text = getattr(query, name)
        if len(text) > _LONGEST or not _is_text(text):
            raise UsageError(f"{name} is too long or is not text")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def conditions(query: EdgeQuery, matcher: Matcher) -> list[Condition]:
    """Conditions on the columns of ``edges`` that all must hold; none if everything is asked for."""
    found: list[Condition] = []
    if query.workload:
        found.append(_workload(query.workload, matcher))
    if query.peer:
        found.append(_peer(query.peer, matcher))
    if query.protocol:
        found.append(("protocol = ?", [_PROTOCOLS.get(query.protocol.lower(), query.protocol)]))
    if query.port is not None:
        found.append(("port = ?", [query.port]))
    if query.id is not None:
        found.append(("id = ?", [query.id]))
    for column in ("direction", "verdict", "node"):
        if value := getattr(query, column):
            found.append((f"{column} = ?", [value]))
    return found


def _match(column: str, pattern: str, matcher: Matcher) -> Condition:
    if "*" not in pattern:
        return f"{column} = ?", [pattern]
    text, parameter = matcher(column, pattern)
    return text, [parameter]


def _all(pairs: list[tuple[str, str]], matcher: Matcher) -> Condition:
    parts = [_match(column, pattern, matcher) for column, pattern in pairs]
    return "(" + " AND ".join(text for text, _ in parts) + ")", [value for _, values in parts for value in values]


def _any(parts: list[Condition]) -> Condition:
    return "(" + " OR ".join(text for text, _ in parts) + ")", [value for _, values in parts for value in values]


def _workload(text: str, matcher: Matcher) -> Condition:
    """``name``, ``kind/name`` or ``namespace/kind/name``; a name may itself hold slashes."""
    ways = [[("name", text)]]
    first, slash, rest = text.partition("/")
    if slash:
        ways.append([("kind", first), ("name", rest)])
    second, slash, rest = rest.partition("/")
    if slash:
        ways.append([("namespace", first), ("kind", second), ("name", rest)])
    return _any([_all(way, matcher) for way in ways])


def _peer(text: str, matcher: Matcher) -> Condition:
    if key := address_key(text):
        return "(peer_key = ? OR peer = ?)", [key, text]
    if "/" in text:
        try:
            network = ip_network(text, strict=False)
        except ValueError:
            pass  # a name with a slash in it
        else:
            ends = (str(network.network_address), str(network.broadcast_address))
            return "(peer_key >= ? AND peer_key <= ?)", [address_key(end) for end in ends]
    return _any([_match("peer", text, matcher), _match("peer_address", text, matcher)])
