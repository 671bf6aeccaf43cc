"""From the path of a cgroup to what runs in it: systemd unit, container, pod or session. Pure text, no I/O.

Sources of the formats: systemd's "Control Group APIs and Delegation" and "Desktop Environment Integration" (unit,
slice and scope names); runc and crun's systemd driver (``<prefix>-<id>.scope``, ``slice:prefix:name``); Kubernetes'
``pkg/kubelet/cm`` (``kubepods``, QoS classes, ``pod<uid>``). It refuses to guess: a path that says nothing gives None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Prefix of a container's scope → the runtime that makes it.
RUNTIMES = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "cri-o",
    "libpod": "podman",
    "podman": "podman",
}

_ID = r"[0-9a-f]{64}"
_SCOPE = re.compile(rf"(?P<prefix>{'|'.join(RUNTIMES)})[-:](?P<id>{_ID})(?:\.scope)?")
_COLON = re.compile(rf"(?P<slice>[^:]*):(?P<prefix>[^:]+):(?P<id>{_ID})")
_BARE = re.compile(_ID)
_MONITOR = re.compile(rf"(?:crio|libpod)-conmon-{_ID}(?:\.scope)?")
_UID = r"[0-9a-f]{8}[-_]?(?:[0-9a-f]{4}[-_]?){3}[0-9a-f]{12}"
_POD = re.compile(rf"(?:^|-)pod(?P<uid>{_UID})(?:\.slice)?$")
_LXC = re.compile(r"lxc\.payload\.(?P<name>.+)")
_USER = re.compile(r"user@(?P<uid>\d+)\.service")
_USER_SLICE = re.compile(r"user-(?P<uid>\d+)\.slice")
_SESSION = re.compile(r"session-(?P<id>[^/]+)\.scope")
_UNIT = re.compile(r".+\.(?:service|scope|socket|mount|swap)")
_APPLICATION = re.compile(r"(?P<name>app-.+)-[0-9a-f]{2,}\.scope")


@dataclass(frozen=True, slots=True)
class Placement:
    """What a path says. ``kind`` and ``name`` as in ``Workload``; ``container`` is the whole container id, ``pod_uid``
    the pod's UID with dashes, ``runtime`` who made the container; ``""`` where the path does not say."""

    kind: str
    name: str
    container: str = ""
    pod_uid: str = ""
    runtime: str = ""


def placement(path: str) -> Placement | None:
    """What runs in the cgroup ``path`` (as in ``/proc/PID/cgroup``), or None if only its processes can tell.

    Of nested containers the innermost counts: a process in Kubernetes in Docker belongs to the pod.
    """
    parts = [part for part in path.split("/") if part and part != ".."]
    return _container(parts) or _unit(parts)


def _container(parts: list[str]) -> Placement | None:
    for index in range(len(parts) - 1, -1, -1):
        part = parts[index]
        if found := _SCOPE.fullmatch(part):
            return _named(found["id"], RUNTIMES[found["prefix"]], parts[:index])
        if found := _COLON.fullmatch(part):
            return _named(found["id"], RUNTIMES.get(found["prefix"], ""), [*parts[:index], found["slice"]])
        if _BARE.fullmatch(part):
            return _named(part, RUNTIMES.get(parts[index - 1], "") if index else "", parts[:index])
        if found := _LXC.fullmatch(part):
            return Placement("container", found["name"], found["name"], runtime="lxc")
        if part == "lxc" and index + 1 < len(parts):
            return Placement("container", parts[index + 1], parts[index + 1], runtime="lxc")
        if found := _POD.search(part):
            return Placement("container", f"pod-{_dashed(found['uid'])}", pod_uid=_dashed(found["uid"]))
    return None


def _named(container: str, runtime: str, above: list[str]) -> Placement:
    for part in reversed(above):
        if found := _POD.search(part):
            return Placement("container", container[:12], container, _dashed(found["uid"]), runtime)
    return Placement("container", container[:12], container, "", runtime)


def _dashed(uid: str) -> str:
    """A UID as the API shows it. Static pods' UIDs have no dashes (a hash of their file), and stay as they are."""
    return uid.replace("_", "-")


def _unit(parts: list[str]) -> Placement | None:
    owner = manager = ""
    for part in parts:
        if found := _USER_SLICE.fullmatch(part):
            owner = f"user-{found['uid']}-"
        elif found := _USER.fullmatch(part):
            owner, manager = f"user-{found['uid']}-", part
        elif found := _SESSION.fullmatch(part):
            return Placement("session", f"{owner}session-{found['id']}")
        elif _MONITOR.fullmatch(part):
            return Placement("unit", owner + part.split("-", 1)[0] + "-conmon")
        elif _UNIT.fullmatch(part):
            return Placement("unit", owner + _lasting(part))
    return Placement("unit", manager) if manager else None


def _lasting(unit: str) -> str:
    """The unit's name without the part that is new at each start of a desktop application."""
    found = _APPLICATION.fullmatch(unit)
    return f"{found['name']}.scope" if found else unit
