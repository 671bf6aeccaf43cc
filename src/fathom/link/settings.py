"""Settings of the link, one group for each of its ends."""

from __future__ import annotations

from dataclasses import dataclass

from fathom.settings import setting


@dataclass(frozen=True)
class LinkClientSettings:
    """The agent's end: where the server is, how it is trusted, and what is kept while it is away."""

    link_server: str = setting("127.0.0.1:8601", "The server's link address, host:port")
    link_token_file: str = setting("", "File that holds the join token; read again at each attempt to connect")
    link_tls: bool = setting(False, "Encrypt the link with TLS")
    link_ca_file: str = setting("", "PEM file of the authorities to trust; empty: those that gRPC ships")
    link_allow_plaintext: bool = setting(False, "Send the join token unencrypted to an address that is not loopback")
    link_memory_bytes: int = setting(
        4 * 1024 * 1024, "Batches not acknowledged yet that are also kept in memory", unit="bytes", minimum=0
    )
    link_heartbeat_s: float = setting(10.0, "Time between heartbeats", unit="s", minimum=0.01)
    link_connect_timeout_s: float = setting(
        15.0, "Time in which the server must accept a new stream", unit="s", minimum=0.01
    )
    link_backoff_max_s: float = setting(30.0, "Longest wait between attempts to connect", unit="s", minimum=0.0)
    link_refused_retry_s: float = setting(
        60.0, "Wait between attempts after the server refused the token or the version", unit="s", minimum=0.0
    )
    spool_dir: str = setting("/var/lib/fathom/spool", "Directory of batches that are not acknowledged yet")
    spool_bytes: int = setting(
        256 * 1024 * 1024,
        "Bound on the spool, in blocks of 4,096 bytes a file; the oldest batch beyond it is dropped and counted",
        unit="bytes",
        minimum=64 * 1024,
    )
    spool_fsync: bool = setting(
        False, "Wait for the disk at each batch, so that a power cut loses none (a killed agent loses none anyway)."
    )


@dataclass(frozen=True)
class LinkServerSettings:
    """The server's end: where it listens and what it bears."""

    link_listen: str = setting("127.0.0.1:8601", "Address of the link, host:port; port 0 takes a free one")
    link_tokens_file: str = setting("", "File of hashed join tokens, one a line")
    link_cert_file: str = setting("", "PEM file of the server's certificate chain; set: the link wants TLS")
    link_key_file: str = setting("", "PEM file of the certificate's key")
    link_allow_plaintext: bool = setting(False, "Listen without TLS on an address that is not loopback")
    link_window: int = setting(8, "Batches of one agent that may be under way at once", minimum=1)
    link_max_message_bytes: int = setting(
        16 * 1024 * 1024, "Largest message that is accepted", unit="bytes", minimum=64 * 1024
    )
    link_max_agents: int = setting(5000, "Agents that may be connected at once", minimum=1)
    link_hello_timeout_s: float = setting(10.0, "Time in which a new stream must say hello", unit="s", minimum=0.01)
    link_retry_s: float = setting(2.0, "What agents are told to wait when the store is busy", unit="s", minimum=0.0)
    link_interval_s: int = setting(
        0, "Interval of facts that agents are asked to use; 0: their own", unit="s", minimum=0
    )
    link_live_events: int = setting(
        10_000, "Live events that wait for one slow reader; more are dropped and counted", minimum=1
    )
