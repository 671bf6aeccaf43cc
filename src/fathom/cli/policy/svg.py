"""A graph as a picture (SVG), without any other program: the same graph gives the same picture everywhere. Pure.

Graphviz draws better where it is installed (``-o dot | dot -Tsvg``), but differently with each version.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from fathom.cli.output import printable
from fathom.cli.policy.dot import STYLES, ports
from fathom.cli.policy.layers import Layout, Place, layout
from fathom.policy.answers import Graph, GraphLink, GraphNode

_CHARACTER, _HEIGHT, _ROW, _GAP, _MARGIN, _LABEL = 7.3, 30, 64, 170, 24, 60
_DASHES = {"solid": "", "dashed": "7 4", "dotted": "2 4"}
_FILLS = {"workload": "#eef3fb", "service": "#eefbf4", "node": "#f3eefb", "outside": "#f7f7f7", "unknown": "#fff8e6"}
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
    placed = layout([node.name for node in graph.nodes], [(link.src, link.dst) for link in graph.links])
    boxes = _boxes(placed)
    width = max((box.right for box in boxes.values()), default=0) + _MARGIN + _LABEL
    height = max((box.y for box in boxes.values()), default=0) + _HEIGHT + 2 * _MARGIN + 20
    body = [line for number, link in enumerate(graph.links) for line in _link(link, placed, boxes, number)]
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


def _boxes(placed: Layout) -> dict[Place, _Box]:
    """Layer by layer from the left, each in the middle of the highest; the places of links are as wide as the layer."""
    tallest = max((_tall(layer) for layer in placed.layers), default=0.0)
    boxes: dict[Place, _Box] = {}
    left = float(_MARGIN)
    for layer in placed.layers:
        width = max(len(_shown(name)) for name in layer if isinstance(name, str)) * _CHARACTER + 20
        top = _MARGIN + _LABEL / 2 + (tallest - _tall(layer)) / 2
        for place in layer:
            row = _row(place)
            boxes[place] = _Box(left, top + (row - _HEIGHT) / 2, width)
            top += row
        left += width + _GAP
    return boxes


def _row(place: Place) -> float:
    return _ROW if isinstance(place, str) else _ROW / 3


def _tall(layer: list[Place]) -> float:
    return sum(_row(place) for place in layer)


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


def _link(link: GraphLink, placed: Layout, boxes: dict[Place, _Box], number: int) -> Iterator[str]:
    """A curve through the places of the link, with its ports; of a node to itself, round above it."""
    colour, style = STYLES[link.verdict]
    curve = _curve(link, placed, boxes)
    label = curve[0]
    x, y = (_bezier(0.35 + 0.1 * (number % 4), *(point[n] for point in label)) for n in (0, 1))
    about = f"{link.src} > {link.dst}: {link.verdict}, {', '.join(link.ports)}"
    y += -3 if boxes[link.src].x < boxes[link.dst].x else 11
    told = f'class="p" x="{x:.1f}" y="{y:.1f}" text-anchor="middle" style="fill:{colour}"'
    parts = (" ".join(f"{a:.1f} {b:.1f}" for a, b in piece[1:]) for piece in curve)
    (begin_x, begin_y), (before, _), (end_x, end_y) = curve[0][0], curve[-1][2], curve[-1][3]
    yield f"<g><title>{_text(about)}</title>"
    path = f"M {begin_x:.1f} {begin_y:.1f} " + " ".join(f"C {part}" for part in parts)
    yield f'<path d="{path}" fill="none" {_stroke(colour, _DASHES[style])}/>'
    yield f'<path d="M {end_x:.1f} {end_y:.1f} l {8 if before > end_x else -8} -4 v 8 z" fill="{colour}"/>'
    yield f"<text {told}>{_text(ports(link, 2))}</text></g>"


_Point = tuple[float, float]
_Piece = tuple[_Point, _Point, _Point, _Point]


def _curve(link: GraphLink, placed: Layout, boxes: dict[Place, _Box]) -> list[_Piece]:
    """Cubic pieces from end to end; links to the left run a little lower, so that they do not hide the others."""
    src, dst = boxes[link.src], boxes[link.dst]
    if link.src == link.dst:
        top = src.y - _ROW / 2
        return [((src.right, src.middle), (src.right + 60, top), (src.x - 60, top), (src.x, src.middle))]
    ahead = src.x < dst.x
    low = 0 if ahead else 8
    points = [(src.right if ahead else src.x, src.middle + low)]
    for place in placed.way(link.src, link.dst):
        box = boxes[place]
        sides = [(box.x, box.middle + low), (box.right, box.middle + low)]
        points += sides if ahead else sides[::-1]
    points.append((dst.x if ahead else dst.right, dst.middle + low))
    return [
        (one, ((one[0] + other[0]) / 2, one[1]), ((one[0] + other[0]) / 2, other[1]), other)
        for one, other in pairwise(points)
    ]


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
