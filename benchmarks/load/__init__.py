"""The load program and the BPF objects of the benchmarks: compiled on demand, driven line by line."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).parent
BUILD = Path(tempfile.gettempdir()) / "fathom-benchmarks"
_MULTIARCH = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()


def bpf_object(stem: str) -> Path:
    """The compiled ``benchmarks/load/<stem>.bpf.c``."""
    BUILD.mkdir(exist_ok=True)
    out = BUILD / f"{stem}.bpf.o"
    root = HERE.parents[1]
    subprocess.run(
        ["clang", "-target", "bpf", "-mcpu=v3", "-D__TARGET_ARCH_x86", "-g", "-O2", "-I", root / "bpf/include",
         "-I", root / "bpf/tcp", "-idirafter", f"/usr/include/{_MULTIARCH}", "-c", HERE / f"{stem}.bpf.c", "-o", out],
        check=True,
    )  # fmt: skip
    return out


class Load:
    """The load program, running; each call does one round."""

    def __init__(self) -> None:
        BUILD.mkdir(exist_ok=True)
        program = BUILD / "load"
        subprocess.run(["gcc", "-O2", "-o", program, HERE / "load.c"], check=True)
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, command: str) -> tuple[float, float]:
        """Do ``command``; CPU and wall nanoseconds per unit of its work."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        cpu, wall, units = map(int, self._process.stdout.readline().split())
        return cpu / units, wall / units

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(10)
