"""What this kernel and this process can do, by asking the kernel; no version is ever compared.

Everything is read or tried without leaving a trace. What cannot be told without privilege says so (``ok`` is None).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fathom.errors import FathomError, FeatureMissing
from fathom.kernel import _libbpf
from fathom.kernel.cgroups import cgroup2_mount

#: Bits of include/uapi/linux/capability.h.
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}
_PROGRAM, _MAP = 0, 1
_RAW_TRACEPOINT, _CGROUP_SKB, _CGROUP_SOCK = 17, 8, 9
_RINGBUF, _PERCPU_HASH, _ARRAY_OF_MAPS = 27, 5, 12
#: What loading a program takes beside CAP_BPF (kernel/bpf/syscall.c: is_perfmon_prog_type, is_net_admin_prog_type).
_ALSO = {(_PROGRAM, _RAW_TRACEPOINT): "CAP_PERFMON", (_PROGRAM, _CGROUP_SOCK): "CAP_NET_ADMIN"}


@dataclass(frozen=True)
class Feature:
    """One thing that Fathom needs: is it there (None: cannot be told by this user), what stands or falls with it, what
    to do. ``needed`` ones stop the main job where they are missing."""

    name: str
    ok: bool | None
    found: str
    means: str
    do: str = ""
    needed: bool = True


def examine() -> list[Feature]:
    """All that matters of this kernel and this process, in the order in which to mend it."""
    return list(_examine())


def _examine() -> Iterator[Feature]:
    yield _file("BTF", Path("/sys/kernel/btf/vmlinux"), "programs cannot be fitted to this kernel",
                "use a kernel built with CONFIG_DEBUG_INFO_BTF (every major distribution's since 2021)")  # fmt: skip
    yield _capabilities()
    yield _ptrace()
    yield _cgroup2()
    yield _supported("ring buffer", _MAP, _RINGBUF, "no events can be received", "5.8")
    yield _supported("per-CPU hash", _MAP, _PERCPU_HASH, "flows cannot be counted", "4.6")
    yield _supported("map of maps", _MAP, _ARRAY_OF_MAPS, "flows cannot be drained exactly", "4.12")
    yield _supported("raw tracepoints", _PROGRAM, _RAW_TRACEPOINT, "TCP connections cannot be seen", "4.17")
    yield _supported("cgroup_skb", _PROGRAM, _CGROUP_SKB, "flows other than TCP cannot be seen", "4.10")
    yield _supported("cgroup/sock", _PROGRAM, _CGROUP_SOCK, "owners of flows are found late", "4.10")
    yield _lockdown()


def _file(name: str, path: Path, means: str, do: str) -> Feature:
    return Feature(name, path.exists(), str(path) if path.exists() else f"{path} is absent", means, do)


def effective_capabilities() -> int:
    """The effective capability set of this process, as bits."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _capabilities() -> Feature:
    have = effective_capabilities()
    if have >> CAPABILITIES["CAP_SYS_ADMIN"] & 1:
        missing = [] if have >> CAPABILITIES["CAP_NET_ADMIN"] & 1 else ["CAP_NET_ADMIN"]
    else:
        wanted = ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN")
        missing = [name for name in wanted if not have >> CAPABILITIES[name] & 1]
    found = "missing: " + ", ".join(missing) if missing else "all that are needed"
    return Feature("capabilities", not missing, found, "no program can be loaded", "run as root (sudo)")


def _has(name: str) -> bool:
    return bool(effective_capabilities() >> CAPABILITIES[name] & 1)


def _ptrace() -> Feature:
    means, ok = "the names of other users' executables are not known", _has("CAP_SYS_PTRACE")
    do = "run as root (sudo), or grant it"
    return Feature("CAP_SYS_PTRACE", ok, "yes" if ok else "missing", means, do, needed=False)


def _cgroup2() -> Feature:
    means = "the flow probe cannot run, and units and containers have no names"
    try:
        return Feature("cgroup v2", True, str(cgroup2_mount()), means, needed=False)
    except FeatureMissing as error:
        return Feature("cgroup v2", False, "not mounted", means, error.do, needed=False)


def _supported(name: str, what: int, kind: int, means: str, since: str) -> Feature:
    do = f"use Linux {since} or later"
    try:
        answer = _libbpf.probe(what, kind)
    except OSError as error:
        return Feature(name, None, f"cannot be tried: {error.strerror}", means, "run as root to know")
    # The kernel refuses to whom lacks one of these as it refuses what it does not know.
    lacking = [name for name in ("CAP_BPF", _ALSO.get((what, kind), "CAP_BPF")) if not _has(name)]
    if not answer and lacking and not _has("CAP_SYS_ADMIN"):
        return Feature(name, None, f"cannot be tried without {lacking[0]}", means, "run as root to know")
    return Feature(name, answer, "yes" if answer else "no", means, do)


def _lockdown() -> Feature:
    means = "kernel lockdown in confidentiality mode forbids reading kernel memory"
    try:
        text = Path("/sys/kernel/security/lockdown").read_text()
    except OSError:
        return Feature("lockdown", True, "not in force", means)
    strict = "[confidentiality]" in text
    return Feature("lockdown", not strict, text.strip(), means, "boot without lockdown=confidentiality")


def try_probe(name: str, open_it: Callable[[], object]) -> Feature:
    """Load and attach a probe for real, and let it go again: the only proof that it runs here."""
    means = f"the {name} probe cannot run"
    try:
        probe = open_it()
    except FathomError as error:
        return Feature(f"probe {name}", False, error.what, means, error.do, needed=False)
    close = getattr(probe, "close", None)
    if close:
        close()
    return Feature(f"probe {name}", True, "loads and attaches", means, needed=False)
