"""A program that makes TCP connections and UDP exchanges over loopback, and counts what it really did.

It runs beside the tests as a process of its own: ``python traffic_load.py SETTINGS`` (JSON), traffic until a line comes
on stdin or its work is done, then everything closed and one JSON document (``Made``) on stdout. Both ends of all that
it makes are its own, on addresses that nothing else uses, so every count here has its mirror at the other end.
"""

from __future__ import annotations

import dataclasses
import json
import random
import selectors
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, field

_HEAD = struct.Struct("!II")
#: What an IPv4 header and a UDP header take of each datagram.
_HEADERS = 28


@dataclass(frozen=True)
class Plan:
    """What to make, on addresses of ``network``.0/24: .1 serves, the ``clients`` after it connect.

    ``pause_s`` is the wait between two rounds of connections, and two exchanges, of one thread. ``together``
    connections make a round, open at the same time; ``exchanges_each`` go over one UDP socket.
    """

    network: str = "127.77.0"
    clients: int = 1
    ports: int = 1
    threads: int = 1
    pause_s: float = 0.005
    largest: int = 3000
    connections: int | None = None
    together: int = 1
    exchanges: int | None = None
    exchanges_each: int = 10
    datagram: int = 1200
    lasting: bool = True
    seed: int = 1

    @property
    def server(self) -> str:
        """The address of the serving ends."""
        return f"{self.network}.1"

    def client(self, number: int) -> str:
        """The address of the connecting end ``number``."""
        return f"{self.network}.{2 + number % self.clients}"


@dataclass
class Made:
    """What was made. ``connections`` are (began ns, established ns, closed at both ends ns, sent, received), wall time,
    as the client's calls returned it; ``datagrams`` are (began ns, ended ns, bytes sent, bytes received)."""

    connections: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    datagrams: list[tuple[int, int, int, int]] = field(default_factory=list)
    began_ns: int = 0
    ended_ns: int = 0
    accepted: int = 0
    accepted_sent: int = 0
    accepted_received: int = 0
    answered: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def sent(self) -> int:
        """TCP payload that the connecting ends sent."""
        return sum(row[3] for row in self.connections)

    @property
    def received(self) -> int:
        """TCP payload that the connecting ends received."""
        return sum(row[4] for row in self.connections)

    @property
    def datagram_bytes(self) -> tuple[int, int]:
        """Bytes of IP packets that the asking ends sent and received over UDP."""
        headers = _HEADERS * len(self.datagrams)
        return sum(row[2] for row in self.datagrams) + headers, sum(row[3] for row in self.datagrams) + headers


def exactly(connection: socket.socket, length: int) -> bytes:
    """The next ``length`` bytes. Raises EOFError if the stream ends before."""
    data = bytearray()
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


class Load:
    """The traffic, in threads: the serving ends, the connecting ends, the asking ends."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.made = plan, Made()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._listeners = [self._listener() for _ in range(plan.ports)]
        self._datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagram.bind((plan.server, self._listeners[0].getsockname()[1]))
        self._datagram.settimeout(0.05)
        self._serving = threading.Event()
        self._ends: list[threading.Thread] = []

    def _listener(self) -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.plan.server, 0))
        listener.listen(1024)
        return listener

    def run(self) -> Made:
        """Make traffic until ``stop`` or until all that was planned is made."""
        self.made.began_ns = time.time_ns()
        serving = [threading.Thread(target=self._serve), threading.Thread(target=self._answer)]
        making = [threading.Thread(target=self._connect, args=(index,)) for index in range(self.plan.threads)]
        making.append(threading.Thread(target=self._ask))
        if self.plan.lasting:
            making.append(threading.Thread(target=self._last))
        for thread in (*serving, *making):
            thread.start()
        for thread in making:
            thread.join()
        self._serving.set()
        for thread in (*serving, *self._ends):
            thread.join()
        for opened in (*self._listeners, self._datagram):
            opened.close()
        self.made.ended_ns = time.time_ns()
        return self.made

    def stop(self) -> None:
        """Begin nothing more."""
        self._over.set()

    # -- TCP

    def _serve(self) -> None:
        """Accept and serve all short connections in one thread; the lasting one has a thread of its own."""
        asked: dict[socket.socket, tuple[int, int]] = {}
        with selectors.DefaultSelector() as ready:
            for listener in self._listeners:
                ready.register(listener, selectors.EVENT_READ)
            while not self._serving.is_set() or len(ready.get_map()) > len(self._listeners):
                for key, _ in ready.select(0.05):
                    assert isinstance(key.fileobj, socket.socket)
                    if key.fileobj in self._listeners:
                        connection, _ = key.fileobj.accept()
                        ready.register(connection, selectors.EVENT_READ)
                    elif self._served(key.fileobj, asked):
                        ready.unregister(key.fileobj)

    def _served(self, connection: socket.socket, asked: dict[socket.socket, tuple[int, int]]) -> bool:
        """Answer a question, or, if that was done, see the end; whether this thread is done with the connection."""
        if connection in asked:
            length, wanted = asked.pop(connection)
            if connection.recv(1):
                self.made.problems.append("a connection carried more than was asked")
            connection.close()
            self._accepted(wanted, length + _HEAD.size)
            return True
        connection.settimeout(20)
        length, wanted = _HEAD.unpack(exactly(connection, _HEAD.size))
        if length == 0:
            self._ends.append(threading.Thread(target=self._echo, args=(connection, wanted)))
            self._ends[-1].start()
            return True
        exactly(connection, length)
        connection.sendall(bytes(wanted))
        asked[connection] = length, wanted
        return False

    def _accepted(self, sent: int, received: int) -> None:
        with self._lock:
            self.made.accepted += 1
            self.made.accepted_sent += sent
            self.made.accepted_received += received

    def _echo(self, connection: socket.socket, size: int) -> None:
        carried = 0
        while True:
            try:
                connection.sendall(exactly(connection, size))
            except EOFError:
                break
            carried += size
        connection.close()
        self._accepted(carried, carried + _HEAD.size)

    def _opened(self, number: int) -> tuple[socket.socket, int, int]:
        plan = self.plan
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.settimeout(20)
        connection.bind((plan.client(number), 0))
        began = time.time_ns()
        connection.connect(self._listeners[number % plan.ports].getsockname())
        return connection, began, time.time_ns()

    def _connect(self, index: int) -> None:
        plan, chance, rows = self.plan, random.Random(self.plan.seed + index), []
        while not self._over.is_set() and (plan.connections is None or len(rows) < plan.connections):
            opened = [self._question(len(rows) + number, index, chance) for number in range(plan.together)]
            for connection, began, established, sent, wanted in opened:
                received = len(exactly(connection, wanted))
                connection.shutdown(socket.SHUT_WR)
                if connection.recv(1):
                    self.made.problems.append("an answer was longer than was asked for")
                connection.close()
                rows.append((began, established, time.time_ns(), sent, received))
            if plan.pause_s:
                time.sleep(plan.pause_s)
        with self._lock:
            self.made.connections += rows

    def _question(self, number: int, index: int, chance: random.Random) -> tuple[socket.socket, int, int, int, int]:
        asked, wanted = chance.randint(1, self.plan.largest), chance.randint(0, self.plan.largest)
        connection, began, established = self._opened(number * self.plan.threads + index)
        connection.sendall(_HEAD.pack(asked, wanted) + bytes(asked))
        return connection, began, established, asked + _HEAD.size, wanted

    def _last(self) -> None:
        """One connection that lives as long as the load, with traffic all the time."""
        connection, began, established = self._opened(0)
        size, carried = 500, 0
        connection.sendall(_HEAD.pack(0, size))
        while not self._over.wait(0.02):
            connection.sendall(bytes(size))
            carried += len(exactly(connection, size))
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
        connection.close()
        with self._lock:
            self.made.connections.append((began, established, time.time_ns(), carried + _HEAD.size, carried))

    # -- UDP

    def _answer(self) -> None:
        while not self._serving.is_set():
            try:
                data, peer = self._datagram.recvfrom(65_536)
            except TimeoutError:
                continue
            self._datagram.sendto(bytes(int.from_bytes(data[:2])), peer)
            self.made.answered += 1

    def _ask(self) -> None:
        plan, chance, rows = self.plan, random.Random(self.plan.seed), []
        while not self._over.is_set() and (plan.exchanges is None or len(rows) < plan.exchanges):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.bind((plan.client(0), 0))
                asking.connect(self._datagram.getsockname())
                asking.settimeout(20)
                each = plan.exchanges_each
                for _ in range(each if plan.exchanges is None else min(each, plan.exchanges - len(rows))):
                    sent, wanted = chance.randint(2, plan.datagram), chance.randint(0, plan.datagram)
                    began = time.time_ns()
                    asking.send(wanted.to_bytes(2) + bytes(sent - 2))
                    received = len(asking.recv(65_536))
                    rows.append((began, time.time_ns(), sent, received))
                    if plan.pause_s:
                        time.sleep(plan.pause_s)
        self.made.datagrams = rows


def main() -> None:
    """As the module says. The ports are told first, as a line of JSON."""
    load = Load(Plan(**json.loads(sys.argv[1])))
    listening = [listener.getsockname()[1] for listener in load._listeners]
    print(json.dumps(listening), flush=True)

    def until_told() -> None:
        sys.stdin.readline()
        load.stop()

    threading.Thread(target=until_told, daemon=True).start()
    print(json.dumps(dataclasses.asdict(load.run())), flush=True)


if __name__ == "__main__":
    main()
