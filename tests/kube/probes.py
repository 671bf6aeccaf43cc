"""Lists of probes, tried from inside the pods: one process in each, all pods at once."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from inhabitants import PROBER, Place
from kube_cluster import Cluster
from prober import PORTS

WAIT_S = 2.5
PYTHON = os.path.realpath(sys.executable)  # inside a pod there is no virtual environment
#: Source ports, below those that the kernel takes by itself. None is used twice in a run, so that no probe is taken for
#: the continuation of an older one.
_FIRST_PORT, _LAST_PORT = 12_000, 30_000
SERVED = [pair for tcp, udp in PORTS for pair in (("TCP", tcp), ("UDP", udp))]


@dataclass(frozen=True)
class Probe:
    """One connection to try. ``protocol`` as the prober knows it."""

    src: Place
    dst: Place
    protocol: str
    port: int

    @property
    def transport(self) -> str:
        return {"DNS": "UDP", "TLS": "TCP"}.get(self.protocol, self.protocol)

    def __str__(self) -> str:
        return f"{self.src.flow} > {self.dst.flow} {self.protocol}/{self.port}"


@dataclass(frozen=True)
class Met:
    """What a probe met: ``open`` or why not, and who answered."""

    word: str
    who: str

    @property
    def open(self) -> bool:
        return self.word == "open"


def every(sources: Iterable[Place], targets: Iterable[Place]) -> list[Probe]:
    """From each source to each target on every port that is served."""
    return [Probe(s, d, word, port) for s, d in itertools.product(sources, targets) for word, port in SERVED]


class Prober:
    """Tries probes, and never the same source port twice."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.tried = 0
        self._next: dict[Place, int] = defaultdict(lambda: _FIRST_PORT)

    def __call__(self, probes: Sequence[Probe]) -> list[Met]:
        """What each of them met."""
        by_source: dict[Place, list[int]] = defaultdict(list)
        for number, probe in enumerate(probes):
            by_source[probe.src].append(number)
        found: list[Met | None] = [None] * len(probes)
        with ThreadPoolExecutor(8) as pool:
            lists = pool.map(lambda item: self._from(item[0], [probes[n] for n in item[1]]), by_source.items())
            for numbers, results in zip(by_source.values(), lists, strict=True):
                for number, result in zip(numbers, results, strict=True):
                    found[number] = result
        self.tried += len(probes)
        return [met for met in found if met is not None]

    def again(self, probe: Probe, port: int) -> Met:
        """What a probe meets from a source port that may have been used before, by the same flow."""
        (met,) = self._from(probe.src, [probe], port)
        return met

    def _from(self, place: Place, probes: list[Probe], port: int = 0) -> list[Met]:
        begin = port or self._next[place]
        if not port:
            self._next[place] = begin + 2 * len(probes)  # each has a second port, for a second try
        assert self._next[place] < _LAST_PORT, "more probes than source ports"
        source = place.address if place.pod is None else "0.0.0.0"
        asked = [(p.dst.address, p.port, p.protocol, source, begin + 2 * n) for n, p in enumerate(probes)]
        command = [sys.executable, str(PROBER)]
        if place.pod is not None:
            space, name = place.pod
            python = ["chroot", "/host", PYTHON, "-c", PROBER.read_text()]
            command = self.cluster.command("-n", space, "exec", "-i", name, "--", *python)
        given = json.dumps({"wait": WAIT_S, "probes": asked})
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"probing from {place.flow}: {done.stderr}"
        return [Met(*item) for item in json.loads(done.stdout)]
