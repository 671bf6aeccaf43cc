"""What the probes attach is in the compiled objects, where its section says: no root, nothing is loaded."""

from __future__ import annotations

import pytest

from fathom.kernel import _libbpf
from fathom.kernel.objects import Spec
from fathom.probes import flow, tcp


def _programs(stem: str) -> dict[str, str]:
    opened = _libbpf.open(str(Spec.of(stem).path))
    try:
        return dict(opened.programs())
    finally:
        opened.close()


def test_tcp_attaches_every_program_of_its_object() -> None:
    assert sorted(tcp.PROGRAMS) == sorted(_programs("tcp"))
    assert len(set(tcp.PROGRAMS)) == len(tcp.PROGRAMS)


def test_flow_attaches_every_program_of_its_object() -> None:
    assert sorted({**flow.SOCKET_HOOKS, **flow.PACKET_HOOKS}) == sorted(_programs("flow"))


@pytest.mark.parametrize(
    ("program", "hook", "section", "number"),
    [
        ("flow_create", flow.SOCKET_HOOKS, "cgroup/sock_create", _libbpf.CGROUP_INET_SOCK_CREATE),
        ("flow_release", flow.SOCKET_HOOKS, "cgroup/sock_release", _libbpf.CGROUP_INET_SOCK_RELEASE),
        ("flow_ingress", flow.PACKET_HOOKS, "cgroup_skb/ingress", _libbpf.CGROUP_INET_INGRESS),
        ("flow_egress", flow.PACKET_HOOKS, "cgroup_skb/egress", _libbpf.CGROUP_INET_EGRESS),
    ],
)
def test_flow_attaches_each_program_where_its_section_says(
    program: str, hook: dict[str, int], section: str, number: int
) -> None:
    assert _programs("flow")[program] == section
    assert hook[program] == number


@pytest.mark.parametrize(("stem", "program"), [("sockets", "tcp_open"), ("owners", "owners")])
def test_what_looks_for_owners_is_an_iterator(stem: str, program: str) -> None:
    assert _programs(stem)[program].startswith("iter/")
