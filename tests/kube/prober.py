"""Connections from where it runs, and servers: one process tries a whole list. Standard library only, run in pods.

    python3 prober.py           reads {"wait": seconds, "probes": [[address, port, protocol, from address, from port]…]}
                                on standard input, writes [[outcome, who answered]…] in the same order
    python3 prober.py serve ADDRESS…   answers with the address, as agnhost netexec with its name, on PORTS

An outcome is ``open`` (something answered), or why not: ``refused``, ``timeout`` or the name of the error. A protocol
is ``TCP``, ``UDP``, or ``DNS`` and ``TLS``: UDP and TCP to servers that say nothing to a request for a name.
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import sys

PORTS = ((80, 53), (8080, 80), (443, 443))  # TCP and UDP of each server
AT_ONCE = 48
#: A query for the address of kubernetes.default.svc.cluster.local (RFC 1035).
_NAME = b"\x0akubernetes\x07default\x03svc\x07cluster\x05local\x00"
QUESTION = b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + _NAME + b"\x00\x01\x00\x01"
Probe = tuple[str, int, str, str, int]


async def try_all(wait: float, probes: list[Probe]) -> list[tuple[str, str]]:
    """What each probe met. What met silence is tried once more, since the machine may have been busy, and so is what
    could not have its port, since another program of the node had it."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(probe: Probe) -> tuple[str, str]:
        async with gate:
            return await attempt(wait, probe)

    found = list(await asyncio.gather(*(one(probe) for probe in probes)))
    silent = [number for number, (word, _) in enumerate(found) if word in ("timeout", "eaddrinuse")]
    again = [(*probes[number][:4], probes[number][4] + 1) for number in silent]
    for number, result in zip(silent, await asyncio.gather(*(one(probe) for probe in again)), strict=True):
        found[number] = result
    return found


async def attempt(wait: float, probe: Probe) -> tuple[str, str]:
    """One connection or one exchange of datagrams."""
    address, port, protocol, source, local = probe
    talk = datagrams if protocol in ("UDP", "DNS") else stream
    try:
        return "open", await asyncio.wait_for(talk((address, port), protocol, (source, local)), wait)
    except TimeoutError:
        return "timeout", ""
    except ConnectionRefusedError:
        return "refused", ""
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error)).lower(), ""


async def stream(to: tuple[str, int], protocol: str, local: tuple[str, int]) -> str:
    reader, writer = await asyncio.open_connection(*to, local_addr=local)
    try:
        if protocol == "TLS":
            return ""
        writer.write(b"GET /hostname HTTP/1.0\r\n\r\n")
        return (await reader.read(4096)).decode().rpartition("\r\n\r\n")[2].strip()
    finally:
        writer.transport.abort()  # no connection is left behind, not even as TIME_WAIT


async def datagrams(to: tuple[str, int], protocol: str, local: tuple[str, int]) -> str:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.setblocking(False)
        end.bind(local)
        end.connect(to)
        while True:  # as often as there is time: a datagram may be lost
            await loop.sock_sendall(end, QUESTION if protocol == "DNS" else b"hostname\n")
            try:
                answer = await asyncio.wait_for(loop.sock_recv(end, 4096), 0.7)
            except TimeoutError:
                continue
            return "" if protocol == "DNS" else answer.decode().strip()


class Echo(asyncio.DatagramProtocol):
    """Answers each datagram with a name."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, _data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(self.name, addr)  # type: ignore[attr-defined]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says the address that was asked."""
    try:
        await reader.readline()
        writer.write(f"HTTP/1.0 200 OK\r\n\r\n{writer.get_extra_info('sockname')[0]}".encode())
        await writer.drain()
    except ConnectionError:
        return  # whoever asked has gone
    finally:
        writer.close()


async def serve(addresses: list[str]) -> None:
    """Servers on every address, until the process is ended."""
    loop = asyncio.get_running_loop()
    for address in addresses:
        for tcp, udp in PORTS:
            await asyncio.start_server(answer, address, tcp)
            await loop.create_datagram_endpoint(lambda name=address: Echo(name), (address, udp))  # type: ignore[misc]
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(sys.argv[2:]))
    else:
        asked = json.load(sys.stdin)
        json.dump(asyncio.run(try_all(asked["wait"], asked["probes"])), sys.stdout)
