"""A Spec is the same for the same file and needs no root."""

from __future__ import annotations

import pytest

from fathom.errors import FeatureMissing, KernelError, PrivilegeError, UsageError, VerifierError
from fathom.kernel.objects import FOLDER, Spec, refusal

LOG = """libbpf: prog 'tcp_state': BPF program load failed: Permission denied
libbpf: prog 'tcp_state': -- BEGIN PROG LOAD LOG --
0: (79) r1 = *(u64 *)(r1 +0)
R1 invalid mem access 'scalar'
processed 12 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 1
-- END PROG LOAD LOG --
libbpf: prog 'tcp_state': failed to load: -13
"""


def test_sizes_are_put_on_a_copy() -> None:
    spec = Spec.of("tcp")
    sized = spec.sized(tcp_sockets=64).sized(tcp_events=4096)
    assert sized.entries == {"tcp_sockets": 64, "tcp_events": 4096}
    assert spec.entries == {}
    assert sized.path == spec.path == FOLDER / "tcp.bpf.o"


def test_object_that_was_not_built_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="make setup"):
        Spec.of("absent")


def test_verifier_log_becomes_its_last_meaningful_line() -> None:
    error = refusal("tcp", 13, LOG)
    assert isinstance(error, VerifierError)
    assert (error.program, error.line, error.errno) == ("tcp_state", "R1 invalid mem access 'scalar'", 13)
    with open(error.log_path) as log:
        assert log.read() == LOG


@pytest.mark.parametrize(
    ("errno", "text", "kind"),
    [
        (1, "libbpf: Operation not permitted", PrivilegeError),
        (13, "", PrivilegeError),
        (2, "libbpf: failed to find valid kernel BTF\nlibbpf: Error loading vmlinux BTF: -2", FeatureMissing),
        (22, "libbpf: map 'x': failed to create: Invalid argument(-22)", KernelError),
    ],
)
def test_refusals_are_told_apart(errno: int, text: str, kind: type[Exception]) -> None:
    error = refusal("tcp", errno, text)
    assert type(error) is kind
    assert "tcp" in str(error) or "BTF" in str(error)


def test_nothing_but_the_errno_is_still_told() -> None:
    assert "No space left" in str(refusal("tcp", 28, ""))
