"""Which server, and with which key. The key of this machine's own server is found by itself, and sent nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from urllib.parse import urlsplit

from fathom.cli.caller import SYSTEM_DATA, caller
from fathom.errors import AuthenticationError, UsageError

#: The name under which a server leaves its admin key in its data directory.
KEY_FILE = "admin.token"


def key_for(server: str, token_file: str | None, env: Mapping[str, str]) -> str:
    """The key for ``server`` (a URL): from ``token_file``, else ``FATHOM_TOKEN`` of ``env``, else the local server's.

    Raises UsageError if a file that was named cannot be used, AuthenticationError if there is no key.
    """
    if token_file:
        return _read(Path(token_file))
    if given := env.get("FATHOM_TOKEN", "").strip():
        if not _is_key(given):
            raise UsageError("FATHOM_TOKEN holds no key", do="give the text of the server's admin.token")
        return given
    if not loopback(server):
        raise AuthenticationError(
            f"no key for {server}",
            affects="nothing was asked: the key of this machine's own server is not sent to others",
            do="give that server's key by --token-file or FATHOM_TOKEN",
        )
    places = [caller(env).data_dir / KEY_FILE, SYSTEM_DATA / KEY_FILE]
    for place in places:
        try:
            key = _read(place)
        except UsageError:
            continue  # not there or another user's; told below if none can be read
        _require_owner(server, place)
        return key
    raise AuthenticationError(
        f"no key for {server}: none of {', '.join(map(str, dict.fromkeys(places)))} can be read",
        affects="nothing was asked",
        do="start `fathom up`, or give the key by --token-file (DATA_DIR/admin.token) or FATHOM_TOKEN",
    )


def _require_owner(server: str, key_file: Path) -> None:
    """Raises AuthenticationError if somebody else than the key's owner listens at ``server``: they would learn it."""
    where = urlsplit(server)
    stranger = other_listener(where.hostname or "", where.port or 80, key_file.stat().st_uid)
    if stranger is not None:
        raise AuthenticationError(
            f"user {stranger} of this machine listens at {server}, and not the owner of {key_file}",
            affects="nothing was asked: the key was not sent",
            do="start `fathom up`, or give the key by --token-file if that server is yours",
        )


def other_listener(host: str, port: int, owner: int) -> int | None:
    """A user, neither ``owner`` nor root, who listens where ``host`` (an address, or ``localhost``) and TCP ``port`` of
    this machine are reached; None if nobody does."""
    return min(listeners(host, port) - {0, owner}, default=None)


def listeners(host: str, port: int, net: Path = Path("/proc/net")) -> set[int]:
    """Users that listen on TCP ``port`` of this machine, at ``host`` or at all addresses (format:
    Documentation/networking/proc_net_tcp); none where the system has no such table."""
    try:
        meant = {ip_address(text) for text in (("127.0.0.1", "::1") if host == "localhost" else (host,))}
    except ValueError:
        meant = set()  # another name: whoever listens at the port may be meant
    found: set[int] = set()
    for table in (net / "tcp", net / "tcp6"):
        for row in [line.split() for line in table.read_text().splitlines()[1:]] if table.exists() else ():
            address, _, number = row[1].rpartition(":")
            if row[3] == "0A" and int(number, 16) == port and (not meant or _reached(address, meant)):
                found.add(int(row[7]))
    return found


def _reached(words: str, meant: set[IPv4Address | IPv6Address]) -> bool:
    """Whether what listens at an address of /proc/net/tcp (words of 32 bits in the machine's order, in hex) is reached
    by one of those."""
    octets = b"".join(int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8))
    at_all = not any(octets) or octets == bytes(10) + b"\xff\xff" + bytes(4)
    mapped = octets[12:] if octets[:12] == bytes(10) + b"\xff\xff" else octets
    return at_all or ip_address(octets) in meant or ip_address(mapped) in meant


def loopback(server: str) -> bool:
    """Whether the URL ``server`` names this machine by loopback.

    Raises UsageError if it is no http or https URL.
    """
    try:
        parts = urlsplit(server)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets that do not close, a port above 65535
        usable = False
    if not usable or not parts.hostname:
        raise UsageError(f"{server!r} is no server", do="write for example http://127.0.0.1:8600")
    try:
        return ip_address(parts.hostname).is_loopback
    except ValueError:
        return parts.hostname == "localhost"


def _read(path: Path) -> str:
    try:
        key = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the key from {path}: {error}") from error
    if not _is_key(key):
        raise UsageError(f"{path} holds no key", do="give the server's admin.token")
    return key


def _is_key(text: str) -> bool:
    """Whether ``text`` can stand in a header (RFC 6750 2.1): printable ASCII without spaces. It is never shown."""
    return bool(text) and all("!" <= character <= "~" for character in text)
