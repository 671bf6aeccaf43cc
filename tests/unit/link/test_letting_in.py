"""Who may connect, over what, and what happens to whom or what should not."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from fathom.errors import UsageError, WireError
from fathom.events.batches import Clock
from fathom.link.channels import client_channel, client_metadata, is_loopback, split_address
from fathom.link.doubles import Ledger, sample_batch
from fathom.link.settings import LinkClientSettings
from fathom.link.tokens import JoinTokens, hash_token, make_token
from fathom.wire import messages
from fathom.wire.batches import encode
from fathom.wire.messages import AgentHello, SpoolState

METHOD = "/fathom.v1.Link/Connect"


async def raw_stream(port: int, token: str, *sent: bytes, linger_s: float = 0.0) -> tuple[grpc.StatusCode, list[bytes]]:
    """What a stream with these bytes gets back, and how it ends."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream(METHOD)(metadata=(("authorization", f"Bearer {token}"),))
        found: list[bytes] = []
        try:
            for data in sent:
                await call.write(data)
            if linger_s:
                await asyncio.sleep(linger_s)
            await call.done_writing()
            while (data := await call.read()) is not grpc.aio.EOF:
                found.append(data)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the code says it
        return await call.code(), found


def hello(node: str = "node-1", boot: str = "zz") -> bytes:
    return messages.hello(AgentHello(node, boot, "0"), Clock(1, 2, 3), SpoolState())


# -- tokens


async def test_a_wrong_token_is_told_retried_slowly_and_works_once_it_is_right(
    make_server: Any, make_client: Any, until: Any, tmp_path: Path, token: str
) -> None:
    ledger = Ledger()
    async with make_server(ledger) as server, make_client(server.port) as client:
        await client.put(sample_batch(1))
        await until(lambda: client.state().acknowledged == 1, "the first batch")
        server.tokens = JoinTokens().add(make_token())
        assert client.status().state == "connected"  # a stream that is open stays
    async with make_server(ledger) as server:
        (tmp_path / "join.token").write_text(make_token())
        async with make_client(server.port) as client:
            await until(lambda: client.status().state == "refused", "the refusal")
            assert not client.state().ok
            assert "the server refused the join token" in client.state().detail
            await client.put(sample_batch(2))
            (tmp_path / "join.token").write_text(token)
            await until(lambda: client.state().acknowledged == 1, "the second batch")
        assert server.counts().turned_away["wrong_token"] >= 1
    assert len(ledger.written) == 2


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"fathom\x01token"])
async def test_a_token_file_that_cannot_be_used_is_a_refusal_not_a_crash(
    make_server: Any, make_client: Any, until: Any, tmp_path: Path, content: bytes | None
) -> None:
    async with make_server(Ledger()) as server:
        path = tmp_path / "other.token"
        if content is not None:
            path.write_bytes(content)
        async with make_client(server.port, link_token_file=str(path)) as client:
            await until(lambda: client.status().state == "refused", "the refusal")
            assert "other.token" in client.status().detail


async def test_without_a_token_nobody_gets_in(make_server: Any, make_client: Any, until: Any) -> None:
    async with make_server(Ledger()) as server, make_client(server.port, link_token_file="") as client:
        await until(lambda: client.status().state == "refused", "the refusal")


async def test_several_tokens_are_valid_at_once(make_server: Any, token: str) -> None:
    async with make_server(Ledger()) as server:
        other = make_token()
        server.tokens = server.tokens.add(other)
        for valid in (token, other):
            assert len((await raw_stream(server.port, valid, hello(), linger_s=0.05))[1]) == 1
        for wrong in ("", token[:-1], token + "x", "Bearer", make_token()):
            assert (await raw_stream(server.port, wrong, hello())) == (grpc.StatusCode.UNAUTHENTICATED, [])


def test_tokens_are_kept_as_hashes_in_a_private_file(tmp_path: Path) -> None:
    token, path = make_token(), tmp_path / "tokens"
    JoinTokens().add(token).save(path)
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(f"# of the nodes in rack 1\n{path.read_text()}\n")
    assert JoinTokens.load(path).verify(token)
    assert not JoinTokens.load(path).verify(make_token())
    assert not JoinTokens().verify("")


@pytest.mark.parametrize("text", ["password", "fathom_join_short", "fathom_join_" + "é" * 50])
def test_a_token_that_a_person_made_up_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a join token"):
        hash_token(text)


def test_a_file_of_tokens_that_is_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(make_token())
    with pytest.raises(UsageError, match="not the hash"):
        JoinTokens.load(tmp_path / "tokens")
    with pytest.raises(UsageError, match="cannot read"):
        JoinTokens.load(tmp_path / "absent")


# -- plaintext and TLS


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("10.0.0.1", False)]
    + [(host, False) for host in ("::", "0.0.0.0", "localhost.evil.org", "server", "127.1", "")],
)
def test_loopback_is_what_is_this_machine_for_certain(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    "address", ["10.0.0.1", ":8601", "10.0.0.1:", "10.0.0.1:x", "h:70000", "::1:8601", "h:-1", "h:²"]
)
def test_an_address_without_host_or_port_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="not an address"):
        split_address(address)


def test_ipv6_addresses_have_brackets() -> None:
    assert split_address("[::1]:8601") == ("::1", 8601)


async def test_the_token_never_goes_unencrypted_to_another_machine_unless_allowed(
    make_server: Any, make_client: Any
) -> None:
    client = make_client(1, link_server="192.0.2.1:8601")
    with pytest.raises(UsageError, match=r"unencrypted to 192\.0\.2\.1"):
        await client.start()
    await client.close()
    allowed = LinkClientSettings(link_server="192.0.2.1:8601", link_allow_plaintext=True)
    await client_channel(allowed).close(None)
    with pytest.raises(UsageError, match=r"unencrypted to 0\.0\.0\.0"):
        await make_server(Ledger(), link_listen="0.0.0.0:0").start()


@pytest.fixture
def certificate(tmp_path: Path, require: Callable[[str, str], None]) -> tuple[str, str]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    chain, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=fathom", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run([*command, "-keyout", key, "-out", chain], check=True, capture_output=True)
    except FileNotFoundError:
        require("openssl", "there is no openssl to make a certificate with")
    return chain, key


async def test_tls_with_the_servers_authority(
    make_server: Any, make_client: Any, until: Any, certificate: tuple[str, str]
) -> None:
    chain, key = certificate
    ledger = Ledger()
    async with make_server(ledger, link_cert_file=chain, link_key_file=key) as server:
        async with make_client(server.port, link_tls=True, link_ca_file=chain) as client:
            await client.put(sample_batch(1))
            await until(lambda: client.state().acknowledged == 1, "the batch over TLS")
        async with make_client(server.port) as client:  # plaintext to a TLS port: no token gets in
            await until(lambda: client.status().attempts > 2, "some attempts")
            assert client.status().state != "connected"
        async with make_client(server.port, link_tls=True) as client:  # an authority that nobody trusts
            await until(lambda: client.status().attempts > 2, "some attempts")
            assert client.status().state != "connected"
    assert server.counts().accepted == 1


async def test_files_for_tls_that_are_not_there_are_told_at_start(
    make_server: Any, make_client: Any, tmp_path: Path
) -> None:
    client = make_client(1, link_tls=True, link_ca_file=str(tmp_path / "absent"))
    with pytest.raises(UsageError, match="FATHOM_LINK_CA_FILE"):
        await client.start()
    await client.close()
    with pytest.raises(UsageError, match="certificate and its key go together"):
        await make_server(Ledger(), link_cert_file="x").start()
    with pytest.raises(UsageError, match="FATHOM_LINK_CERT_FILE"):
        await make_server(Ledger(), link_cert_file=str(tmp_path / "a"), link_key_file=str(tmp_path / "b")).start()


async def test_a_port_that_is_taken_is_said(make_server: Any) -> None:
    async with make_server(Ledger()) as server:
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{server.port}"):
            await make_server(Ledger(), server.port).start()


async def test_a_token_never_appears_in_an_error_or_a_log(
    make_server: Any, make_client: Any, until: Any, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with make_server(Ledger()) as server:
        server.tokens = JoinTokens()
        async with make_client(server.port) as client:
            await until(lambda: client.status().state == "refused", "the refusal")
            assert token not in repr(client.status()) + repr(client.state())
    assert token not in caplog.text


def test_a_token_file_may_end_with_a_line_break(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("abc\n")
    settings = LinkClientSettings(link_token_file=str(tmp_path / "t"))
    assert client_metadata(settings) == (("authorization", "Bearer abc"),)


# -- bytes that make no sense


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 400,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 300,
        b"\x00" * 5000,
        b"\n",
        b"",
    ],
    ids=["http", "tls", "http2-then-noise", "zeroes", "newline", "nothing"],
)
async def test_strangers_on_the_port_do_not_disturb_agents(
    make_server: Any, make_client: Any, until: Any, garbage: bytes
) -> None:
    ledger = Ledger()
    async with make_server(ledger) as server, make_client(server.port) as client:
        for sequence in range(1, 6):
            stranger = socket.create_connection(("127.0.0.1", server.port))
            stranger.sendall(garbage)
            await client.put(sample_batch(sequence))
            await until(lambda: client.state().queued == 0, "the batch beside the stranger")
            stranger.close()
        assert server.counts().accepted == 1
    assert len(ledger.order) == 5


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ([b"\xff\xff\xff"], grpc.StatusCode.INVALID_ARGUMENT),
        ([b""], grpc.StatusCode.INVALID_ARGUMENT),
        ([messages.heartbeat.__doc__.encode()], grpc.StatusCode.INVALID_ARGUMENT),  # type: ignore[union-attr]
        ([messages.delivery("zz", 1, 1, b"")], grpc.StatusCode.INVALID_ARGUMENT),
        ([], grpc.StatusCode.INVALID_ARGUMENT),
        ([hello(), hello()], grpc.StatusCode.INVALID_ARGUMENT),
        ([hello(), b"\xff\xff\xff"], grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_a_stream_that_makes_no_sense_ends_and_only_it(
    make_server: Any, make_client: Any, until: Any, token: str, sent: list[bytes], code: grpc.StatusCode
) -> None:
    ledger = Ledger()
    async with make_server(ledger) as server, make_client(server.port) as client:
        assert (await raw_stream(server.port, token, *sent, linger_s=0.05))[0] == code
        await client.put(sample_batch(1))
        await until(lambda: client.state().acknowledged == 1, "the batch of another agent")


async def test_a_batch_of_noise_is_refused_for_good_and_by_its_name(make_server: Any, token: str) -> None:
    async with make_server(Ledger()) as server:
        noise = messages.delivery("zz", 5, 1, b"\xff\xff")
        other = messages.delivery("zz", 6, 1, _encoded(sequence=7))
        found = (await raw_stream(server.port, token, hello(), noise, other, linger_s=0.2))[1]
        nacks = [messages.parse_server(data).nack for data in found[1:]]
        assert [(nack.boot, nack.sequence, nack.permanent) for nack in nacks] == [("zz", 5, True), ("zz", 6, True)]
        assert "not a batch" in nacks[0].detail
        assert "was delivered as zz:6" in nacks[1].detail


def _encoded(sequence: int) -> bytes:
    return encode(sample_batch(sequence, boot="zz"))


async def test_an_agent_that_ignores_the_window_is_sent_away(make_server: Any, token: str) -> None:
    ledger = Ledger()
    ledger.delay_s = 0.2
    async with make_server(ledger, link_window=2) as server:
        many = [messages.delivery("zz", sequence, 1, _encoded(sequence)) for sequence in range(1, 8)]
        code, _ = await raw_stream(server.port, token, hello(), *many, linger_s=0.05)
        # The end may overtake its code when the stream is half closed at that moment: the server's count is sure.
        assert code != grpc.StatusCode.OK
        assert server.counts().turned_away == {"wire_error": 1}


async def test_a_message_above_the_bound_ends_its_stream_only(
    make_server: Any, make_client: Any, until: Any, token: str
) -> None:
    async with make_server(Ledger(), link_max_message_bytes=64 * 1024) as server, make_client(server.port) as client:
        large = messages.delivery("zz", 1, 1, b"\x00" * 100_000)
        assert (await raw_stream(server.port, token, hello(), large))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
        await client.put(sample_batch(1))
        await until(lambda: client.state().acknowledged == 1, "the batch of another agent")


async def test_a_stream_that_says_nothing_is_ended(make_server: Any, token: str) -> None:
    async with (
        make_server(Ledger(), link_hello_timeout_s=0.05) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        call = channel.stream_stream(METHOD)(metadata=(("authorization", f"Bearer {token}"),))
        assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "no hello" in await call.details()


async def test_above_the_bound_on_agents_a_new_one_waits(
    make_server: Any, make_client: Any, until: Any, tmp_path: Path
) -> None:
    async with make_server(Ledger(), link_max_agents=1) as server, make_client(server.port) as client:
        await until(lambda: client.status().state == "connected", "the first agent")
        async with make_client(server.port, "bb", "node-2", spool_dir=str(tmp_path / "2")) as second:
            await until(lambda: "too many agents" in second.status().detail, "the second to be told")
            await client.close()
            await until(lambda: second.status().state == "connected", "the second agent")


async def test_a_server_that_speaks_something_else_is_told(make_client: Any, until: Any) -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with make_client(port) as client:
        await until(lambda: client.status().state == "refused", "the refusal")
        assert "does not speak this link" in client.status().detail
    await server.stop(0)


@pytest.mark.parametrize("reply", [b"\xff\xff", b"", messages.ack("zz", 1, "s")])
async def test_a_server_that_does_not_begin_with_a_welcome_is_left(make_client: Any, until: Any, reply: bytes) -> None:
    async def serve(_requests: Any, context: Any) -> None:
        await context.write(reply)

    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(serve)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("fathom.v1.Link", {"Connect": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with make_client(port) as client:
        await until(lambda: client.status().attempts > 2, "some attempts")
        assert client.status().state in ("waiting", "connecting")
    await server.stop(0)


def test_a_node_name_that_cannot_be_sent_is_refused_at_once(make_client: Any) -> None:
    with pytest.raises(WireError, match="node"):
        make_client(1, node="a\nb")


async def test_a_server_that_accepts_and_says_nothing_is_left_after_a_time(make_client: Any, until: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with make_client(silent.getsockname()[1], link_connect_timeout_s=0.05) as client:
            await until(lambda: client.status().attempts > 1, "a second attempt")
            assert client.status().state == "waiting"
            assert "did not answer in time" in client.status().detail


async def test_an_outage_is_logged_once_not_at_each_attempt(
    make_client: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with make_client(port) as client:
        await until(lambda: client.status().attempts > 5, "some attempts")
        assert "not reachable" in client.state().detail
    assert caplog.text.count("not reachable") == 1
