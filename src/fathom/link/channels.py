"""How the two ends reach each other: addresses, TLS, limits, and the rule that a join token never travels in the clear.

gRPC's own retries and its shared connection pool are off: the client alone decides when to try again.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

import grpc
import grpc.aio

from fathom.errors import AuthenticationError, UsageError
from fathom.link.settings import LinkClientSettings, LinkServerSettings

#: The stream's method, as ``api/fathom/v1/link.proto`` defines it.
SERVICE, METHOD = "fathom.v1.Link", "Connect"
_KEEPALIVE = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[v6]:port``. Raises UsageError if it is neither."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"{address!r} is not an address of the link", do="give host:port, or [address]:port for IPv6")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine for certain: a loopback address, or the name ``localhost``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def client_channel(settings: LinkClientSettings) -> grpc.aio.Channel:
    """A new channel to the server. Raises UsageError if the settings would send the token in the clear, or name a
    file that cannot be read."""
    host, port = split_address(settings.link_server)
    options = [
        *_KEEPALIVE,
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.enable_http_proxy", 0 if is_loopback(host) else 1),
    ]
    if settings.link_tls:
        roots = read_file(settings.link_ca_file, "FATHOM_LINK_CA_FILE") if settings.link_ca_file else None
        credentials = grpc.ssl_channel_credentials(root_certificates=roots)
        return grpc.aio.secure_channel(join_address(host, port), credentials, options=options)
    if not is_loopback(host) and not settings.link_allow_plaintext:
        raise UsageError(
            f"the join token would travel unencrypted to {host}",
            affects="this agent does not connect",
            do="set FATHOM_LINK_TLS=true, or in a network that you trust FATHOM_LINK_ALLOW_PLAINTEXT=true",
        )
    return grpc.aio.insecure_channel(join_address(host, port), options=options)


def client_metadata(settings: LinkClientSettings) -> tuple[tuple[str, str], ...]:
    """What presents the agent: its join token, read anew so that it can be changed while the agent runs.

    Raises AuthenticationError if the file cannot be read, or holds no token.
    """
    if not settings.link_token_file:
        return ()
    try:
        token = Path(settings.link_token_file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AuthenticationError(
            f"cannot read the join token from {settings.link_token_file}: {error}",
            do="give the file that holds it by --join-token-file",
        ) from error
    if not token or not token.isprintable():
        raise AuthenticationError(f"{settings.link_token_file} holds no join token")
    return (("authorization", f"Bearer {token}"),)


def server_options(settings: LinkServerSettings) -> list[tuple[str, int]]:
    """Limits and keepalive of the listener; ports are never shared with another process."""
    return [
        *_KEEPALIVE,
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
        ("grpc.max_receive_message_length", settings.link_max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", 8 * 1024),
        ("grpc.so_reuseport", 0),
    ]


def bind(server: grpc.aio.Server, settings: LinkServerSettings) -> int:
    """Listen where ``settings`` say, and return the port. Raises UsageError if that cannot be or must not be."""
    host, port = split_address(settings.link_listen)
    address = join_address(host, port)
    if bool(settings.link_cert_file) != bool(settings.link_key_file):
        raise UsageError(
            "a certificate and its key go together", do="set both FATHOM_LINK_CERT_FILE and FATHOM_LINK_KEY_FILE"
        )
    try:
        if settings.link_cert_file:
            chain = read_file(settings.link_cert_file, "FATHOM_LINK_CERT_FILE")
            key = read_file(settings.link_key_file, "FATHOM_LINK_KEY_FILE")
            return server.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)]))
        if not is_loopback(host) and not settings.link_allow_plaintext:
            raise UsageError(
                f"agents would send their join tokens unencrypted to {host}",
                affects="the link does not listen",
                do="set FATHOM_LINK_CERT_FILE and FATHOM_LINK_KEY_FILE, or FATHOM_LINK_ALLOW_PLAINTEXT=true",
            )
        return server.add_insecure_port(address)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"cannot listen on {address} for the link: the port is taken, or the address is not of this machine",
            affects="no agent can connect",
            do="choose another address by --link, or stop what listens there",
        ) from error


def read_file(path: str, flag: str) -> bytes:
    """The bytes of a file that a setting names. Raises UsageError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", do=f"check {flag}") from error
