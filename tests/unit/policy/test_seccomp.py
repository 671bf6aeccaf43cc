"""Seccomp profiles: what they hold, what they never hold, and how two differ."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.errors import UsageError
from fathom.events.syscalls import NUMBERS
from fathom.policy import seccomp
from fathom.policy.seccomp import (
    BASE,
    Profile,
    SyscallSet,
    diff,
    generate,
    read_profile,
    read_sets,
    runtime_default,
    to_oci,
)

CALLS = st.frozensets(st.sampled_from(sorted(NUMBERS["x86_64"])), max_size=30)
SETUP = {"mount", "unshare", "pivot_root", "keyctl", "bpf", "ptrace", "setns", "umount2"}


def profile(calls: set[str] | frozenset[str], **kwargs: str) -> Profile:
    return generate([SyscallSet(workload="w", calls=tuple(sorted(calls)), **kwargs)])[0]


@given(CALLS)
def test_a_profile_is_the_workloads_calls_and_the_base(calls: frozenset[str]) -> None:
    got = profile(calls)
    assert set(got.calls) == calls | BASE
    assert set(got.dangerous) == calls & seccomp.DANGEROUS


def test_the_base_holds_nothing_of_the_runtimes_set_up() -> None:
    assert not BASE & (SETUP | seccomp.DANGEROUS)
    assert set(NUMBERS["x86_64"]) >= BASE


def test_replicas_and_recordings_merge_by_workload() -> None:
    rows = [
        SyscallSet(workload="a", image="i1", calls=("read",), first_seen=5, last_seen=9),
        SyscallSet(workload="a", image="i2", calls=("bind",), first_seen=2, last_seen=7),
        SyscallSet(workload="b", image="i1", calls=("sync",)),
    ]
    a, b = generate(rows)
    assert (a.subject, a.observed, a.first_seen, a.last_seen) == ("a", ("bind", "read"), 2, 9)
    assert b.observed == ("sync",)
    assert [p.subject for p in generate(rows, by="image")] == ["i1", "i2"]
    assert generate(rows, by="image")[0].observed == ("read", "sync")


def test_architectures_bring_their_sub_architectures() -> None:
    both = generate([SyscallSet(workload="w"), SyscallSet(workload="w", architecture="aarch64")])[0]
    assert to_oci(both)["architectures"] == [
        "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32",
    ]  # fmt: skip
    assert to_oci(profile(set()))["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]


@pytest.mark.parametrize(
    ("default", "action"), [("errno", "SCMP_ACT_ERRNO"), ("log", "SCMP_ACT_LOG"), ("kill", "SCMP_ACT_KILL_PROCESS")]
)
def test_the_default_action(default: seccomp.Default, action: str) -> None:
    document = to_oci(generate([SyscallSet(workload="w")], default=default)[0])
    assert document["defaultAction"] == action
    assert ("defaultErrnoRet" in document) == (default == "errno")


@given(CALLS)
def test_documents_read_back(calls: frozenset[str]) -> None:
    got = profile(calls)
    assert read_profile(to_oci(got)).calls == got.calls
    assert read_profile(seccomp.to_spo(got, name="x")).calls == got.calls


@given(CALLS, CALLS)
def test_a_difference_is_what_a_workload_gains_and_loses(before: frozenset[str], after: frozenset[str]) -> None:
    got = diff(profile(before), profile(after))
    assert set(got.added) == (after | BASE) - (before | BASE)
    assert set(got.removed) == (before | BASE) - (after | BASE)
    assert bool(got) == (before | BASE != after | BASE)


def test_a_milder_default_action_is_a_difference() -> None:
    row = SyscallSet(workload="w")
    errno, log, kill = (generate([row], default=d)[0] for d in ("errno", "log", "kill"))
    assert diff(errno, log).looser
    assert diff(kill, errno).looser
    assert not diff(log, errno).looser


def test_the_runtimes_default_refuses_what_its_documents_say() -> None:
    """containerd 2.4 and Docker; clone3 is answered as if the kernel did not have it, so that programs use clone."""
    default = set(runtime_default().calls)
    assert not default & {"mount", "bpf", "keyctl", "unshare", "pivot_root", "reboot", "kexec_load", "userfaultfd"}
    assert not default & {"clone3", "syslog", "sethostname", "fanotify_init", "open_tree_attr", "io_uring_setup"}
    assert default >= {"read", "ptrace", "process_vm_readv", "clock_adjtime"}
    tighter = diff(runtime_default(), profile({"read", "bpf"}))
    assert tighter.added == ("bpf",)
    assert "ptrace" in tighter.removed


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_what_the_runtimes_default_allows_for_some_arguments_is_less_than_allowed(architecture: str) -> None:
    """New namespaces (CLONE_NEWUSER), other execution domains, AF_VSOCK: a profile of names alone allows them."""
    made = oci(ERRNO, rule(ALLOW, "clone", "socket", "personality", "clone3", "read"))
    found = diff(runtime_default(architecture), made)
    assert found.added == ("clone", "clone3", "personality", "socket")
    assert found.widened == ("clone", "personality", "socket")
    none = diff(runtime_default(architecture), oci(ERRNO))
    assert {"clone", "socket", "personality"} <= set(none.removed)
    assert not none.narrowed
    clone = {"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}
    same = diff(runtime_default(architecture), oci(ERRNO, rule(ALLOW, "clone", args=[clone])))
    assert not {"clone"} & {*same.added, *same.removed, *same.changed}
    assert diff(oci(ERRNO, rule(ALLOW, "clone")), runtime_default(architecture)).narrowed == ("clone",)


def test_sets_are_read_by_name_or_number() -> None:
    text = (
        '{"workload": "w", "calls": [0, "write", "59"]}\n\n{"workload": "v", "architecture": "aarch64", "calls": [56]}'
    )
    first, second = read_sets(text)
    assert first.calls == ("execve", "read", "write")
    assert second.calls == ("openat",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "line 1: not a syscall set"),
        ("\n[]", "line 2: not a syscall set"),
        ('{"calls": 3}', "line 1"),
        ('{"calls": ["no_such_call"]}', "no system call 'no_such_call'"),
        ('{"calls": [99999]}', "no system call '99999'"),
        ('{"architecture": "vax"}', "unknown architecture 'vax'"),
    ],
)
def test_wrong_sets_are_told_with_their_place(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_sets(text)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_sets(text)
    except UsageError:
        return


def test_nothing_seen_is_refused_and_a_missing_key_is_not_guessed() -> None:
    with pytest.raises(UsageError, match="no syscall sets"):
        generate([])
    with pytest.raises(UsageError, match="has no image"):
        generate([SyscallSet(workload="w")], by="image")


@pytest.mark.parametrize(
    "document",
    [{}, {"defaultAction": 1}, {"defaultAction": "x", "syscalls": {}}, {"defaultAction": "x", "syscalls": [1]}],
)
def test_what_is_no_profile_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        read_profile(document)


def oci(default: str, *rules: dict[str, object], architectures: tuple[str, ...] = ("SCMP_ARCH_X86_64",)) -> Profile:
    document = {"defaultAction": default, "architectures": list(architectures), "syscalls": list(rules)}
    return read_profile(document)


def rule(action: str, *names: str, **more: object) -> dict[str, object]:
    return {"names": list(names), "action": action, **more}


FIRST = [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]
ALLOW, ERRNO, KILL = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL"


def test_what_a_default_action_allows_counts_as_allowed() -> None:
    two, one = oci(ALLOW, rule(ERRNO, "mount", "ptrace")), oci(ALLOW, rule(ERRNO, "mount"))
    assert diff(two, one).added == ("ptrace",)
    assert diff(one, two).removed == ("ptrace",)
    assert set(diff(runtime_default(), one).added) >= {"bpf", "ptrace", "reboot"} - {"ptrace"}
    assert diff(runtime_default(), one).removed == ()


def test_arguments_of_rules_are_told_apart() -> None:
    for_one, free = oci(ERRNO, rule(ALLOW, "socket", args=FIRST)), oci(ERRNO, rule(ALLOW, "socket"))
    assert diff(for_one, free).added == ("socket",)
    assert diff(free, for_one).removed == ("socket",)
    assert diff(oci(ERRNO), for_one).added == ("socket",)
    other = oci(ERRNO, rule(ALLOW, "socket", args=[{**FIRST[0], "value": 2}]))
    assert diff(for_one, other) == seccomp.Difference(added=(), removed=(), changed=("socket",))
    assert not diff(for_one, oci(ERRNO, rule(ALLOW, "socket", args=FIRST, comment="as before")))


def test_rules_that_contradict_one_another_are_not_guessed_at() -> None:
    free, twice = oci(ERRNO, rule(ALLOW, "socket")), oci(ERRNO, rule(ALLOW, "socket"), rule(ERRNO, "socket"))
    assert diff(free, twice).removed == ("socket",)
    assert diff(twice, free).added == ("socket",)


def test_a_call_that_is_refused_in_another_way_and_another_architecture_are_differences() -> None:
    assert diff(oci(ERRNO, rule(KILL, "mount")), oci(ERRNO)).changed == ("mount",)
    assert not diff(oci(ERRNO, rule(ERRNO, "mount")), oci(ERRNO))
    more = oci(ERRNO, architectures=("SCMP_ARCH_X86_64", "SCMP_ARCH_X86"))
    assert diff(oci(ERRNO), more).architectures == ("SCMP_ARCH_X86",)
    assert not diff(more, oci(ERRNO)).architectures


@pytest.mark.parametrize(
    "executable",
    ["/usr/sbin/runc", "runc:[2:INIT]", "runc", "/usr/bin/crun", "memfd:runc_cloned:/proc/self/exe", "/usr/bin/conmon",
     "/usr/bin/containerd-shim-runc-v2"],
)  # fmt: skip
def test_what_a_container_runtime_called_is_not_the_workloads(executable: str) -> None:
    rows = [
        SyscallSet(workload="w", executable=executable, calls=("mount", "bpf")),
        SyscallSet(workload="w", executable="/usr/bin/runcible", calls=("read",)),
        SyscallSet(workload="w", executable="/usr/local/bin/crun_worker", calls=("read",)),
    ]
    (made,) = generate(rows)
    assert (made.observed, made.dangerous) == (("read",), ())
    with pytest.raises(UsageError, match="no syscall sets"):
        generate(rows[:1])
    assert generate(rows[:1], by="executable")[0].observed == ("bpf", "mount")


def test_lines_end_at_line_feeds_alone_and_may_begin_with_a_byte_order_mark() -> None:
    text = '\ufeff{"workload": "a\u2028b", "calls": [0]}\r\n{"workload": "c", "calls": [1]}\n'
    assert [row.workload for row in read_sets(text)] == ["a\u2028b", "c"]


def test_a_stricter_default_an_architecture_less_and_another_error_are_differences() -> None:
    both = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86")
    assert diff(oci(ERRNO), oci(KILL)).default == ("SCMP_ACT_ERRNO 1", KILL)
    assert not diff(oci(ERRNO), oci(KILL)).looser
    assert diff(oci(ERRNO, architectures=both), oci(ERRNO)).unnamed == ("SCMP_ARCH_X86",)
    assert diff(oci(ALLOW, rule(ERRNO, "clone3", errnoRet=38)), oci(ALLOW, rule(ERRNO, "clone3"))).changed == (
        "clone3",
    )
    other = read_profile({"defaultAction": ERRNO, "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64"]})
    assert diff(oci(ERRNO), other).default == ("SCMP_ACT_ERRNO 1", "SCMP_ACT_ERRNO 38")
    assert not diff(
        oci(ERRNO, rule(ALLOW, "clone"), rule(ALLOW, "clone", args=FIRST)), oci(ERRNO, rule(ALLOW, "clone"))
    )


LOG, NOTIFY = "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY"


def test_a_call_that_is_logged_instead_of_just_allowed_is_a_difference() -> None:
    plain, logged = oci(ERRNO, rule(ALLOW, "read")), oci(ERRNO, rule(LOG, "read"))
    assert diff(plain, logged) == seccomp.Difference(added=(), removed=(), changed=("read",))
    assert diff(logged, plain).changed == ("read",)
    by_default = oci(LOG)
    assert diff(by_default, oci(LOG, rule(ALLOW, "read"))).changed == ("read",)
    assert not diff(by_default, oci(LOG, rule(LOG, "read")))
    assert diff(by_default, oci(ALLOW)) == seccomp.Difference(added=(), removed=(), default=(LOG, ALLOW), looser=True)
    assert diff(oci(ERRNO, rule(LOG, "read")), oci(ERRNO)).removed == ("read",)


def test_how_the_filter_is_loaded_is_a_difference() -> None:
    def flagged(*flags: str) -> Profile:
        return read_profile({"defaultAction": ERRNO, "flags": list(flags)})

    log, tsync = "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"
    assert diff(flagged(), flagged(log)) == seccomp.Difference(added=(), removed=(), flags=("none", log))
    assert diff(flagged(log), flagged(log, tsync)).flags == (log, f"{log} {tsync}")
    assert not diff(flagged(log, tsync), flagged(tsync, log))
    with pytest.raises(UsageError, match="flags is not a list"):
        read_profile({"defaultAction": ERRNO, "flags": "x"})


@pytest.mark.parametrize("other", [ALLOW, ERRNO, KILL])
def test_what_a_listener_decides_is_neither_milder_nor_stricter(other: str) -> None:
    assert diff(oci(other), oci(NOTIFY)).default
    assert not diff(oci(other), oci(NOTIFY)).looser
    assert not diff(oci(NOTIFY), oci(other)).looser
    assert diff(oci(ERRNO, rule(ERRNO, "mount")), oci(ERRNO, rule(NOTIFY, "mount"))).changed == ("mount",)
