"""Both ends of a link on loopback, with settings in milliseconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fathom.events.batches import Clock
from fathom.link.answering import Answerer
from fathom.link.backoff import Backoff
from fathom.link.client import LinkClient
from fathom.link.doubles import Ledger
from fathom.link.server import LinkServer
from fathom.link.settings import LinkClientSettings, LinkServerSettings
from fathom.link.tokens import JoinTokens, make_token
from fathom.wire.messages import AgentHello


@pytest.fixture
def token() -> str:
    return make_token()


@pytest.fixture
def until() -> Callable[[Callable[[], bool], str], Awaitable[None]]:
    """``await until(condition, what)``: the bound of 10 s only ends a test that would hang."""

    async def wait(condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + 10
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"waited in vain: {what}")
            await asyncio.sleep(0.002)

    return wait


@pytest.fixture
def make_server(token: str) -> Callable[..., LinkServer]:
    def make(ledger: Ledger, port: int = 0, **changes: Any) -> LinkServer:
        values: dict[str, Any] = {"link_listen": f"127.0.0.1:{port}", "link_retry_s": 0.01}
        settings = LinkServerSettings(**(values | changes))
        return LinkServer(settings, JoinTokens().add(token), ledger.write, lambda: ledger.store_id)

    return make


@pytest.fixture
def make_client(tmp_path: Path, token: str) -> Callable[..., LinkClient]:
    (tmp_path / "join.token").write_text(token + "\n")

    def make(
        port: int, boot: str = "aa", node: str = "node-1", agent: Answerer | None = None, **changes: Any
    ) -> LinkClient:
        values: dict[str, Any] = {
            "link_server": f"127.0.0.1:{port}",
            "link_token_file": str(tmp_path / "join.token"),
            "link_heartbeat_s": 0.05,
            "link_backoff_max_s": 0.02,
            "link_refused_retry_s": 0.02,
            "spool_dir": str(tmp_path / "spool"),
        }
        settings = LinkClientSettings(**(values | changes))
        hello = AgentHello(node, boot, "0.1.0", ("tcp", "flow"))
        backoff = Backoff(settings.link_backoff_max_s, base_s=0.01)
        return LinkClient(settings, hello, lambda: Clock(1, 2, time.time_ns()), agent, backoff)

    return make
