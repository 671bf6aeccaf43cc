"""A graph as a picture (SVG), without any other program: the same graph gives the same picture everywhere. Pure.

Graphviz draws better where it is installed (``-o dot | dot -Tsvg``), but differently with each version.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from fathom.cli.output import printable
from fathom.cli.policy.dot import STYLES, ports
from fathom.cli.policy.layers import layers
from fathom.policy.answers import Graph, GraphLink, GraphNode

_CHARACTER, _HEIGHT, _ROW, _GAP, _MARGIN, _LABEL = 7.3, 30, 64, 170, 24, 60
_DASHES = {"solid": "", "dashed": "7 4", "dotted": "2 4"}
_FILLS = {"workload": "#eef3fb", "node": "#f3eefb", "outside": "#f7f7f7", "unknown": "#fff8e6"}
_STYLE = (
    "text{font:12px ui-monospace,monospace;fill:#1c2733}"
    ".p{font-size:10px;paint-order:stroke;stroke:#fff;stroke-width:3px}"
)


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    width: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def middle(self) -> float:
        return self.y + _HEIGHT / 2


def svg(graph: Graph) -> str:
    """The whole picture as one document."""
    boxes = _boxes(graph)
    width = max((box.right for box in boxes.values()), default=0) + _MARGIN + _LABEL
    height = max((box.y for box in boxes.values()), default=0) + _HEIGHT + 2 * _MARGIN + 20
    body = [line for number, link in enumerate(graph.links) for line in _link(link, boxes, number)]
    body += [line for node in graph.nodes for line in _node(node, boxes[node.name])]
    title = "Recorded traffic" if graph.kind == "recorded" else "What policies allow"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
            f"<title>{title}</title>",
            f"<style>{_STYLE}</style>",
            f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>',
            *body,
            *_legend(graph, height - _MARGIN),
            "</svg>",
        ]
    )


def _boxes(graph: Graph) -> dict[str, _Box]:
    """Layer by layer from the left, each in the middle of the highest."""
    found = layers([node.name for node in graph.nodes], [(link.src, link.dst) for link in graph.links])
    tallest = max(map(len, found), default=0)
    boxes: dict[str, _Box] = {}
    left = float(_MARGIN)
    for layer in found:
        width = max(len(_shown(name)) for name in layer) * _CHARACTER + 20
        top = _MARGIN + _LABEL / 2 + (tallest - len(layer)) * _ROW / 2
        for number, name in enumerate(layer):
            boxes[name] = _Box(left, top + number * _ROW, width)
        left += width + _GAP
    return boxes


def _shown(name: str) -> str:
    text = printable(name)
    return text if len(text) <= 60 else text[:59] + "…"


def _node(node: GraphNode, box: _Box) -> Iterator[str]:
    dash = "4 3" if node.kind == "unknown" else ""
    round_ = 15 if node.kind == "outside" else 4
    place = f'x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{_HEIGHT}" rx="{round_}"'
    yield f"<g><title>{_text(_about(node))}</title>"
    yield f'<rect {place} fill="{_FILLS[node.kind]}" {_stroke("#44546a", dash, 2.5 if node.ingress else 1)}/>'
    yield f'<text x="{box.x + 10:.1f}" y="{box.middle + 4:.1f}">{_text(_shown(node.name))}</text></g>'


def _stroke(colour: str, dash: str, width: float = 1.5) -> str:
    return f'stroke="{colour}" stroke-width="{width}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _about(node: GraphNode) -> str:
    if node.ingress is None:
        return f"{node.name} ({node.kind})"
    held = [word for word, there in (("ingress", node.ingress), ("egress", node.egress)) if there]
    return f"{node.name}: isolated for {' and '.join(held)}" if held else f"{node.name}: no policy isolates it"


def _link(link: GraphLink, boxes: dict[str, _Box], number: int) -> Iterator[str]:
    """A curve with its ports. Links to the left, and of a node to itself, go round above."""
    colour, style = STYLES[link.verdict]
    src, dst = boxes[link.src], boxes[link.dst]
    begin, end = (src.right, src.middle), (dst.x, dst.middle)
    if dst.x > src.x:
        bend = max(40.0, (end[0] - begin[0]) / 2)
        curve = (begin[0] + bend, begin[1]), (end[0] - bend, end[1])
    else:
        lift = _ROW * 0.8 + abs(end[1] - begin[1]) * 0.1
        curve = (begin[0] + 60, min(begin[1], end[1]) - lift), (end[0] - 60, min(begin[1], end[1]) - lift)
    at = 0.35 + 0.3 * (number % 4) / 3  # labels of neighbouring curves do not stand on one another
    x, y = (_bezier(at, begin[n], curve[0][n], curve[1][n], end[n]) for n in (0, 1))
    points = " ".join(f"{a:.1f} {b:.1f}" for a, b in (*curve, end))
    path = f"M {begin[0]:.1f} {begin[1]:.1f} C {points}"
    about = f"{link.src} > {link.dst}: {link.verdict}, {', '.join(link.ports)}"
    told = f'class="p" x="{x:.1f}" y="{y - 3:.1f}" text-anchor="middle" style="fill:{colour}"'
    yield f"<g><title>{_text(about)}</title>"
    yield f'<path d="{path}" fill="none" {_stroke(colour, _DASHES[style])}/>'
    yield f'<path d="M {end[0]:.1f} {end[1]:.1f} l -8 -4 v 8 z" fill="{colour}"/>'
    yield f"<text {told}>{_text(ports(link, 2))}</text></g>"


def _bezier(t: float, a: float, b: float, c: float, d: float) -> float:
    s = 1 - t
    return s * s * s * a + 3 * s * s * t * b + 3 * s * t * t * c + t * t * t * d


def _legend(graph: Graph, y: float) -> Iterator[str]:
    x = float(_MARGIN)
    for verdict in sorted({link.verdict for link in graph.links}):
        colour, style = STYLES[verdict]
        yield f'<path d="M {x:.1f} {y:.1f} h 30" {_stroke(colour, _DASHES[style])}/>'
        yield f'<text x="{x + 36:.1f}" y="{y + 4:.1f}">{verdict}</text>'
        x += 60 + len(verdict) * _CHARACTER
    if graph.left_out:
        yield f'<text x="{x:.1f}" y="{y + 4:.1f}">and {graph.left_out} more links (--limit)</text>'


def _text(text: str) -> str:
    return escape(printable(text), quote=True)
