"""YAML is read as kubectl reads it, and what Fathom writes kubectl reads as it was meant."""

from __future__ import annotations

import json
from typing import Any

from kube_cluster import Cluster

from fathom.policy import documents
from fathom.policy.generate import to_yaml

#: Unquoted scalars that some reader of YAML takes for something else than text.
SCALARS = """
y Y yes Yes YES yEs n N no No NO on On ON off Off OFF true True TRUE tRUE false False FALSE t f null Null NULL
nULL ~ 0 -0 +1 -1 1 007 08 0o17 0O17 0x1f 0X1F 0b11 0B11 -0x1f +0o17 1_000 1_0.5 1. 1.5 .5 -.5 +.5 1e3 1E3
1e+3 1e-3 1.5e3 .5e3 1e 12e4567 1.e3 5e 0x 0b 0o 0b2 0o8 0xg 1:30 1:30:15 190:20:30 2001-01-01
2001-01-01T00:00:00Z 10.0.0.1 10.0.0.0/8 fd00::/8 inf nan = << - -- --- . .. 1-1 1.2.3 v1 e3 1a a1 80/TCP
9223372036854775807 9223372036854775808 18446744073709551615 18446744073709551616 1e400
""".split()
#: Those that cannot stand unquoted as a value, or end a document; those that JSON has no number for.
SPECIAL, ENDLESS = {"-", "---"}, (".inf", ".Inf", "-.inf", ".nan", ".NaN")
MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}


def as_kubectl(cluster: Cluster, text: str) -> dict[str, Any]:
    """The ``data`` of a ConfigMap in YAML, as kubectl decodes it."""
    said = cluster.kubectl("create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-", given=text)
    found: dict[str, Any] = json.loads(said)["data"]
    return found


def config_map(scalars: list[str]) -> str:
    lines = [f"  s{number}: {scalar}" for number, scalar in enumerate(scalars)]
    return "\n".join(["apiVersion: v1", "kind: ConfigMap", "metadata: {name: x}", "data:", *lines, ""])


def test_a_scalar_is_read_as_kubectl_reads_it(cluster: Cluster) -> None:
    scalars = [scalar for scalar in SCALARS if scalar not in SPECIAL]
    text = config_map(scalars)
    theirs = as_kubectl(cluster, text)
    (ours,), problems = documents.read(text)
    assert not problems
    mine = ours.data["data"]
    assert {key: (type(value), value) for key, value in mine.items() if not same(value, theirs[key])} == {}


def same(mine: Any, theirs: Any) -> bool:
    """Of one type, and equal; kubectl prints numbers beyond 63 bits as the nearest float."""
    return type(mine) is type(theirs) and (mine == theirs or (isinstance(mine, int) and float(mine) == float(theirs)))


def test_a_field_name_is_read_as_kubectl_reads_it(cluster: Cluster) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {y: a, 7: b, 0x10: c, 'n': d, Off: e, 010: f}\n"
    (ours,), problems = documents.read(text)
    assert (ours.data["data"], problems) == (as_kubectl(cluster, text), [])


def test_written_text_is_read_as_text(cluster: Cluster) -> None:
    data = {
        f"s{number}": scalar
        for number, scalar in enumerate([*SCALARS, *ENDLESS, "", " ", "a: b", "a #b", "é", "\n", "'", '"'])
    }
    text = to_yaml([{**MAP, "data": data}])
    assert as_kubectl(cluster, text) == data
    assert as_kubectl(cluster, to_yaml([{**MAP, "data": dict.fromkeys(SCALARS, "x")}])) == dict.fromkeys(SCALARS, "x")
    (ours,), problems = documents.read(text)
    assert (ours.data["data"], problems) == (data, [])
