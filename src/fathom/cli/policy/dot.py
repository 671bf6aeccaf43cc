"""A graph as text for Graphviz (the DOT language): namespaces are clusters, verdicts have colours and styles. Pure."""

from __future__ import annotations

from collections import defaultdict

from fathom.cli.output import printable
from fathom.policy.answers import Graph, GraphLink, GraphNode

_SHAPES = {"workload": "box", "service": "hexagon", "node": "house", "outside": "ellipse", "unknown": "box"}
#: Verdict → colour and line style; told apart without colours too.
STYLES = {
    "allowed": ("#2e7d32", "solid"),
    "may-be-allowed": ("#b26a00", "dotted"),
    "unknown": ("#b26a00", "dotted"),
    "denied-ingress": ("#c62828", "dashed"),
    "denied-egress": ("#c62828", "dashed"),
    "denied-both": ("#c62828", "dashed"),
}


def dot(graph: Graph) -> str:
    """The whole graph; equal graphs give equal text."""
    lines = ["digraph fathom {", "  rankdir=LR;", '  node [fontname="sans-serif"];', '  edge [fontname="sans-serif"];']
    spaces: dict[str, list[GraphNode]] = defaultdict(list)
    for node in graph.nodes:
        spaces[node.namespace].append(node)
    for space in sorted(spaces):
        lines += _cluster(space, spaces[space])
    lines += [_link(link) for link in graph.links]
    if graph.left_out:
        lines.append(f"  {_quoted(f'{graph.left_out} more links')} [shape=note];")
    return "\n".join([*lines, "}"])


def _cluster(space: str, nodes: list[GraphNode]) -> list[str]:
    if not space:
        return ["  " + _node(node) for node in nodes]
    head = [f"  subgraph {_quoted('cluster_' + space)} {{", f"    label={_quoted(space)};"]
    return [*head, *("    " + _node(node) for node in nodes), "  }"]


def _node(node: GraphNode) -> str:
    label = node.name.removeprefix(node.namespace + "/") if node.namespace else node.name
    style = "dashed" if node.kind == "unknown" else "bold" if node.ingress else "solid"
    return f"{_quoted(node.name)} [label={_quoted(label)}, shape={_SHAPES[node.kind]}, style={style}];"


def _link(link: GraphLink) -> str:
    colour, style = STYLES[link.verdict]
    label = ports(link) + ("" if link.verdict == "allowed" else f"\n{link.verdict}")
    width = 1 + min(4, len(str(link.connections)) - 1)
    return (
        f"  {_quoted(link.src)} -> {_quoted(link.dst)} "
        f'[label={_quoted(label)}, color="{colour}", fontcolor="{colour}", style={style}, penwidth={width}];'
    )


def ports(link: GraphLink, most: int = 4) -> str:
    """The ports of a link in a few words."""
    hidden = max(0, len(link.ports) - most) + link.more_ports
    return ", ".join(link.ports[:most]) + (f" and {hidden} more" if hidden else "")


def _quoted(text: str) -> str:
    """A quoted identifier: only line feeds, quotes and backslashes are special."""
    lines = (printable(line).replace("\\", "\\\\").replace('"', '\\"') for line in text.split("\n"))
    return '"' + "\\n".join(lines) + '"'
