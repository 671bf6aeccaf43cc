"""Seccomp profiles from the system calls that a workload was seen to make.

Pure: sets in, documents out. A profile holds what the workload's own executables called, and ``BASE``: what a container
runtime still calls in the container's process between the loading of the filter and the start of the program. It never
holds the runtime's set-up (mount, pivot_root, …) unless the workload itself made such a call, and it says so then.

Formats: OCI runtime specification, config-linux.md, section "Seccomp"; the Security Profiles Operator's SeccompProfile
(security-profiles-operator.x-k8s.io/v1beta1); CRI-O's annotation ``seccomp-profile.kubernetes.cri-o.io``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from fathom.errors import UsageError
from fathom.events.syscalls import NAMES, NUMBERS

Default = Literal["errno", "log", "kill"]
ACTIONS: Mapping[Default, str] = {"errno": "SCMP_ACT_ERRNO", "log": "SCMP_ACT_LOG", "kill": "SCMP_ACT_KILL_PROCESS"}

#: Architecture to its libseccomp tokens: the native one, then those that the same kernel also runs.
TOKENS: Mapping[str, tuple[str, ...]] = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}

#: Calls without which a container that is being started, entered (``exec``) or resumed does not come out as it would
#: without the profile. Seen with strace, and tried, as root and not, with and without no_new_privs: runc 1.1, 1.2 and
#: 1.5 and crun 1.8 and 1.21 make them in the container's process after they loaded the filter (statx: crun to enter,
#: runc 1.5 to start; fchown: standard output for a user other than root); runc's Go runtime may make those of memory
#: and threads at any moment; restart_syscall is how the kernel goes on with a call that stopping a process
#: interrupted. What these runtimes try and do well without (close_range, ioctl, fsopen, …) is not here.
BASE: frozenset[str] = frozenset(
    """
    capget capset chdir close epoll_ctl epoll_pwait execve exit exit_group faccessat2 fchown fcntl fstat fstatfs
    futex getcwd getdents64 getpid getppid gettid madvise mmap munmap nanosleep newfstatat openat openat2 prctl read
    restart_syscall rt_sigaction rt_sigprocmask rt_sigreturn sched_yield setgid setgroups setresgid setresuid setuid
    sigaltstack statx tgkill write
    """.split()
)

#: Calls that give power over the kernel, other processes or the file system's shape: named when a profile allows one.
DANGEROUS: frozenset[str] = frozenset(
    """
    acct add_key bpf clock_adjtime clock_settime delete_module finit_module fsconfig fsmount fsopen fspick
    init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load
    keyctl mount mount_setattr move_mount open_by_handle_at open_tree open_tree_attr perf_event_open pidfd_getfd
    pivot_root process_madvise process_vm_readv process_vm_writev ptrace quotactl reboot request_key setns settimeofday
    swapoff swapon umount2 unshare userfaultfd
    """.split()
)

#: What the runtimes' default profile refuses to a container without added capabilities (containerd 2.4, which Docker
#: shares; those that no kernel has any more too). ``clone3`` is answered as if the kernel did not have it.
RUNTIME_REFUSES: frozenset[str] = DANGEROUS - {"clock_adjtime", "process_vm_readv", "process_vm_writev", "ptrace"} | (
    frozenset(
        """
        _sysctl afs_syscall clone3 create_module fanotify_init file_getattr file_setattr get_kernel_syms get_mempolicy
        getpmsg lookup_dcookie mbind migrate_pages move_pages nfsservctl putpmsg query_module quotactl_fd security
        set_mempolicy set_mempolicy_home_node setdomainname sethostname sysfs syslog tuxcall uselib ustat vhangup
        vserver
        """.split()
    )
)
#: What that profile allows for some arguments only: no new namespaces (``CLONE_NEW*``), five execution domains, all
#: address families but AF_VSOCK.
RUNTIME_PARTLY: Mapping[str, Sequence[Mapping[str, int | str]]] = {
    "clone": ({"index": 0, "value": 0x7E020000, "op": "SCMP_CMP_MASKED_EQ"},),
    "personality": tuple(
        {"index": 0, "value": value, "op": "SCMP_CMP_EQ"} for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
    ),
    "socket": ({"index": 0, "value": 40, "op": "SCMP_CMP_NE"},),
}


class SyscallSet(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the store's ``syscalls``: what one executable of one container called.

    ``calls`` holds names, or numbers as text, of ``architecture`` (as ``uname -m`` says it); ``first_seen`` and
    ``last_seen`` are epoch seconds.
    """

    workload: str = ""
    container: str = ""
    image: str = ""
    executable: str = ""
    architecture: str = "x86_64"
    calls: tuple[str, ...] = ()
    first_seen: int = 0
    last_seen: int = 0


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A profile: which calls of which architectures are allowed, and what happens to the rest."""

    subject: str
    calls: tuple[str, ...]
    architectures: tuple[str, ...]
    default: str = "SCMP_ACT_ERRNO"
    first_seen: int = 0
    last_seen: int = 0
    observed: tuple[str, ...] = ()
    #: Of a profile that was read: calls with rules for some arguments or of several actions, and those rules; calls
    #: with another answer than ALLOW (or than the default action, where that refuses); and how the filter is loaded.
    errno: int = 1
    partly: Mapping[str, str] = msgspec.field(default_factory=dict)
    answers: Mapping[str, str] = msgspec.field(default_factory=dict)
    flags: tuple[str, ...] = ()

    @property
    def refusal(self) -> str:
        """The default action, with the error that it answers."""
        return f"{self.default} {self.errno}" if self.default == "SCMP_ACT_ERRNO" else self.default

    @property
    def dangerous(self) -> tuple[str, ...]:
        """Allowed calls of ``DANGEROUS``: each was made by the workload itself."""
        return tuple(sorted(set(self.calls) & DANGEROUS))


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What ``after`` allows that ``before`` does not, and the reverse, where "for some arguments" is less than allowed
    and more than not.

    ``widened``: those of ``added`` that ``before`` allows for some arguments; ``narrowed``: those of ``removed`` that
    ``after`` still does. ``changed``: calls that stay allowed, partly allowed or refused, in another way (logged, by
    another error). ``architectures``: those of which ``after`` alone filters calls, and ``unnamed`` those of which it
    no longer does (what a profile does not name is killed). ``default``: the default action, before and after, where it
    is another; ``looser``: that is a milder one (what a listener decides is neither). ``flags``: those of the filter,
    before and after, where they are others.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    default: tuple[str, ...] = ()
    looser: bool = False
    flags: tuple[str, ...] = ()
    widened: tuple[str, ...] = ()
    narrowed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        several = (self.added, self.removed, self.changed, self.architectures, self.unnamed, self.default, self.flags)
        return any(several)


def read_sets(text: str, *, place: str = "input") -> list[SyscallSet]:
    """Sets from JSON lines, one ``SyscallSet`` a line; calls may be names or numbers.

    Raises UsageError with the line's number if a line is not such an object, or names a call or an architecture that
    does not exist.
    """
    sets = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if not line.strip():
            continue
        try:
            raw = msgspec.json.decode(line, type=dict[str, Any])
            raw["calls"] = [str(call) for call in raw.get("calls", ())]
            row = msgspec.convert(raw, SyscallSet)
        except (msgspec.MsgspecError, TypeError, UnicodeError) as error:
            raise UsageError(
                f"{place}, line {number}: not a syscall set: {error}",
                do='write one object a line, such as {"workload": "unit/web", "calls": ["read", "write"]}',
            ) from error
        sets.append(msgspec.structs.replace(row, calls=_names(row, f"{place}, line {number}")))
    return sets


def _names(row: SyscallSet, place: str) -> tuple[str, ...]:
    if row.architecture not in NAMES:
        raise UsageError(f"{place}: unknown architecture {row.architecture!r}", do=f"use one of {', '.join(NAMES)}")
    names = set()
    for call in row.calls:
        name = NAMES[row.architecture].get(int(call), "") if call.isascii() and call.isdigit() else call
        if name not in NUMBERS[row.architecture]:
            raise UsageError(f"{place}: {row.architecture} has no system call {call!r}")
        names.add(name)
    return tuple(sorted(names))


By = Literal["image", "workload", "executable"]

#: Programs that set a container up and then become, or start, its own program.
_RUNTIME = re.compile(
    r"(?:.*/)?(?:(?:runc|crun|youki)(?::\[.*)?|conmon|conmonrs|containerd-shim[-a-z0-9]*)\Z|memfd:(?:runc|crun)_.*\Z"
)


def of_runtime(row: SyscallSet) -> bool:
    """Whether the executable of a set is a container runtime: its calls are the set-up, and not the workload's."""
    return bool(_RUNTIME.match(row.executable))


def generate(sets: Iterable[SyscallSet], *, by: By = "workload", default: Default = "errno") -> list[Profile]:
    """One profile per image, workload or executable, merged over replicas, recordings and architectures.

    Sets without that key are not guessed at: they raise UsageError, as does an empty input. What container runtimes
    called (``of_runtime``) is left out, but where profiles of executables are asked for.
    """
    groups: dict[str, list[SyscallSet]] = {}
    for row in sets:
        if by != "executable" and of_runtime(row):
            continue
        key = getattr(row, by)
        if not key:
            raise UsageError(f"a syscall set has no {by}: {row.workload or row.container or row.executable or '?'}")
        groups.setdefault(key, []).append(row)
    if not groups:
        raise UsageError("no syscall sets", do="record the workload first: nothing seen is nothing allowed")
    return [_profile(subject, groups[subject], default) for subject in sorted(groups)]


def _profile(subject: str, rows: Sequence[SyscallSet], default: Default) -> Profile:
    observed = {call for row in rows for call in row.calls}
    architectures = sorted({row.architecture for row in rows})
    known = {name for architecture in architectures for name in NUMBERS[architecture]}
    return Profile(
        subject=subject,
        calls=tuple(sorted(observed | (BASE & known))),
        observed=tuple(sorted(observed)),
        architectures=tuple(token for architecture in architectures for token in TOKENS[architecture]),
        default=ACTIONS[default],
        first_seen=min(row.first_seen for row in rows),
        last_seen=max(row.last_seen for row in rows),
    )


def to_oci(profile: Profile) -> dict[str, Any]:
    """The profile as the ``linux.seccomp`` object of an OCI ``config.json``, which is also what a kubelet reads."""
    document: dict[str, Any] = {"defaultAction": profile.default}
    if profile.default == "SCMP_ACT_ERRNO":
        document["defaultErrnoRet"] = 1  # EPERM
    document["architectures"] = list(profile.architectures)
    document["syscalls"] = [{"names": list(profile.calls), "action": "SCMP_ACT_ALLOW"}]
    return document


def to_spo(profile: Profile, *, name: str, namespace: str = "") -> dict[str, Any]:
    """The profile as a SeccompProfile of the Security Profiles Operator (its schema has no ``defaultErrnoRet``)."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    spec = {key: value for key, value in to_oci(profile).items() if key != "defaultErrnoRet"}
    return {
        "apiVersion": "security-profiles-operator.x-k8s.io/v1beta1",
        "kind": "SeccompProfile",
        "metadata": metadata,
        "spec": spec,
    }


def to_crio_annotation(*, artifact: str, container: str = "") -> dict[str, str]:
    """The pod annotation by which CRI-O takes the profile of ``container`` (or of the whole pod) from an OCI artifact.

    ``artifact`` is the reference that ``to_oci`` was pushed to (CRI-O, "seccomp OCI artifacts").
    """
    return {f"seccomp-profile.kubernetes.cri-o.io/{container or 'POD'}": artifact}


def read_profile(document: Mapping[str, Any], *, place: str = "profile") -> Profile:
    """A profile from an OCI document or a SeccompProfile: ``calls`` are allowed whatever their arguments, also by a
    default action that allows; ``partly`` and ``answers`` hold what differs. Raises UsageError if it is neither.
    """
    spec = document.get("spec", document)
    if not isinstance(spec, Mapping) or not isinstance(spec.get("defaultAction"), str):
        raise UsageError(f"{place}: not a seccomp profile: it has no defaultAction")
    rules = spec.get("syscalls", [])
    if not isinstance(rules, list):
        raise UsageError(f"{place}: syscalls is not a list")
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for index, rule in enumerate(rules):
        if not isinstance(rule, Mapping) or not isinstance(rule.get("names"), list):
            raise UsageError(f"{place}: syscalls[{index}] has no list of names")
        for name in rule["names"]:
            by_name.setdefault(str(name), []).append(rule)
    architectures = [str(token) for token in _list(spec, "architectures", place)]
    for entry in _list(spec, "archMap", place):
        if not isinstance(entry, Mapping):
            raise UsageError(f"{place}: an entry of archMap is not an object")
        architectures += [str(entry.get("architecture", "")), *map(str, entry.get("subArchitectures") or [])]
    default = str(spec["defaultAction"])
    errno = spec.get("defaultErrnoRet", 1)
    if not isinstance(errno, int):
        raise UsageError(f"{place}: defaultErrnoRet is not a number")
    found = _profile_of(place, default, by_name, tuple(architectures))
    flags = tuple(sorted({str(flag) for flag in _list(spec, "flags", place)}))
    return msgspec.structs.replace(found, errno=errno, flags=flags)


def _list(spec: Mapping[str, Any], key: str, place: str) -> list[Any]:
    found = spec.get(key) or []
    if not isinstance(found, list):
        raise UsageError(f"{place}: {key} is not a list")
    return found


def _profile_of(
    place: str, default: str, by_name: Mapping[str, list[Mapping[str, Any]]], architectures: tuple[str, ...]
) -> Profile:
    known = {
        name for token, names in _NAMES_OF.items() if token in architectures or not architectures for name in names
    }
    calls = set(known - by_name.keys()) if default in _ALLOWING else set()
    partly: dict[str, str] = {}
    answers = dict.fromkeys(calls, default) if default != _ALLOWING[0] else {}
    for name, rules in by_name.items():
        actions = {_answered(rule) for rule in rules}
        free = [rule for rule in rules if not any(rule.get(key) for key in _CONDITIONS)]
        if len(actions) > 1 or not free:
            partly[name] = _conditions(rules)
            continue
        action = actions.pop()
        if action in _ALLOWING:
            calls.add(name)
        if action != _ALLOWING[0]:
            answers[name] = action
    return Profile(
        subject=place,
        calls=tuple(sorted(calls)),
        architectures=architectures,
        default=default,
        partly=partly,
        answers=answers,
    )


def _conditions(rules: Iterable[Mapping[str, Any]]) -> str:
    """Rules of one call as text that is equal where they are."""
    texts = {
        msgspec.json.encode({k: v for k, v in rule.items() if k not in _SAYS_NOTHING}, order="deterministic")
        for rule in rules
    }
    return " ".join(text.decode() for text in sorted(texts))


def _answered(rule: Mapping[str, Any]) -> str:
    action = str(rule.get("action"))
    return f"{action} {rule.get('errnoRet', 1)}" if action == "SCMP_ACT_ERRNO" else action


_ALLOWING = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")
#: Keys of a rule that make it one for some cases only (the last three are of the engines' own profiles); and those that
#: change nothing of what it allows.
_CONDITIONS = ("args", "includes", "excludes", "minKernel")
_SAYS_NOTHING = ("names", "comment")
_NAMES_OF: Mapping[str, frozenset[str]] = {
    token: frozenset(NUMBERS[architecture]) for architecture, tokens in TOKENS.items() for token in tokens
}
#: Milder first.
_SEVERITY = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_ERRNO", "SCMP_ACT_TRAP", "SCMP_ACT_KILL")


def _milder(one: str, other: str) -> bool:
    """Whether an action is milder than the other; of what a listener decides (NOTIFY) that is not known."""
    levels = [
        next((level for level, word in enumerate(_SEVERITY) if action.startswith(word)), -1) for action in (one, other)
    ]
    return -1 < levels[0] < levels[1]


def diff(before: Profile, after: Profile) -> Difference:
    """What changes for a workload that goes from ``before`` to ``after``."""
    added: set[str] = set()
    removed: set[str] = set()
    changed: set[str] = set()
    of_before, of_after = set(before.calls), set(after.calls)
    for name in of_before | of_after | set().union(before.partly, after.partly, before.answers, after.answers):
        old, new = _allowed(before, of_before, name), _allowed(after, of_after, name)
        if new != old:
            (added if new > old else removed).add(name)
        elif before.partly.get(name) != after.partly.get(name):
            changed.add(name)
        elif new != 1:
            answers = _answer(before, of_before, name), _answer(after, of_after, name)
            if answers[0] != answers[1] and answers != (before.refusal, after.refusal):
                changed.add(name)
    return Difference(
        added=tuple(sorted(added)),
        removed=tuple(sorted(removed)),
        changed=tuple(sorted(changed)),
        architectures=_named_by(after, before) if before.architectures else (),
        unnamed=_named_by(before, after) if after.architectures else (),
        default=(before.refusal, after.refusal) if before.refusal != after.refusal else (),
        looser=_milder(after.default, before.default),
        flags=(_flags(before), _flags(after)) if before.flags != after.flags else (),
        widened=tuple(sorted(added & before.partly.keys())),
        narrowed=tuple(sorted(removed & after.partly.keys())),
    )


def _named_by(one: Profile, other: Profile) -> tuple[str, ...]:
    return tuple(sorted(set(one.architectures) - set(other.architectures)))


def _allowed(profile: Profile, calls: set[str], name: str) -> int:
    """2 whatever its arguments, 1 for some, 0 not."""
    return 2 if name in calls else int(name in profile.partly)


def _answer(profile: Profile, calls: set[str], name: str) -> str:
    """How a call is answered that is not partly allowed."""
    return profile.answers.get(name, _ALLOWING[0] if name in calls else profile.refusal)


def _flags(profile: Profile) -> str:
    return " ".join(profile.flags) or "none"


def runtime_default(architecture: str = "x86_64") -> Profile:
    """The runtimes' default profile for a container without added capabilities: all calls but ``RUNTIME_REFUSES``, of
    which some are allowed partly (``RUNTIME_PARTLY``)."""
    partly = {
        name: _conditions({"action": _ALLOWING[0], "args": [given]} for given in arguments)
        for name, arguments in RUNTIME_PARTLY.items()
    }
    return Profile(
        subject="RuntimeDefault",
        calls=tuple(sorted(set(NUMBERS[architecture]) - RUNTIME_REFUSES - partly.keys())),
        architectures=TOKENS[architecture],
        partly=partly,
    )
