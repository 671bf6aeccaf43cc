"""The edge's id: equal identities agree everywhere, different ones do not."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from fathom.events.edges import FACT, SUMMED, Edge, Workload

EDGE = Edge(Workload(node="n1", kind="unit", name="nginx.service"), "ingress", "10.0.0.1", "10.0.0.1", "TCP", 80)


def test_the_id_is_frozen() -> None:
    # Ids are stored and sent: a changed hash would split every edge of every store in two.
    assert EDGE.id == 3270664544462950794
    assert msgspec.structs.replace(EDGE).id == EDGE.id


@given(st.text(max_size=8), st.text(max_size=8), st.integers(0, 65535))
def test_ids_are_positive_and_fit_63_bits(name: str, peer: str, port: int) -> None:
    got = msgspec.structs.replace(EDGE, workload=Workload(name=name), peer=peer, port=port).id
    assert 0 < got < 2**63


def test_every_field_is_identity() -> None:
    changed = [
        msgspec.structs.replace(EDGE, **change)
        for change in (
            {"direction": "egress"},
            {"peer": "x"},
            {"peer_address": "::1"},
            {"protocol": "UDP"},
            {"port": 81},
            {"verdict": "failed"},
            {"reason": "refused"},
            *(
                {"workload": msgspec.structs.replace(EDGE.workload, **{field: "x"})}
                for field in Workload.__struct_fields__
            ),
        )
    ]
    assert len({edge.id for edge in changed} | {EDGE.id}) == len(changed) + 1


def test_every_number_of_a_fact_adds_up_but_the_extremes() -> None:
    assert set(FACT.names or ()) - set(SUMMED) == {"edge", "bucket", "latency_min", "latency_max"}
    assert FACT.itemsize == 8 * len(FACT.names or ())


def test_a_workload_reads_as_kubectl_writes_it() -> None:
    assert str(Workload(namespace="shop", kind="Deployment", name="web")) == "shop/Deployment/web"
    assert str(Workload(kind="unit", name="ssh.service")) == "unit/ssh.service"
    assert str(Workload(name="x")) == "x"
