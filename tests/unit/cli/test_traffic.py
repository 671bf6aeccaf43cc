from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from fathom.cli.screen import picture
from fathom.cli.traffic import Row, View, body, headline, trust, trusted

SSH = Row("unit/ssh.service", "ingress", "10.0.0.5", "TCP", 22, 3, 1_258_291, 30_720, 0.0032, 0.005, 0)
DNS = Row("unit/app.service", "egress", "10.0.0.2", "UDP", 53, 0, 100, 300, None, None, 0)
BAD = Row("process/curl", "egress", "10.0.0.9", "TCP", 443, 0, 0, 0, None, None, 4, "refused")
VIEW = View("vm", 72, 300, (BAD, DNS, SSH), 4000, 342.0, 1.0, 0)


def test_the_busiest_edge_stands_first_with_units_for_people() -> None:
    lines = body(VIEW, 120, 20)
    assert " ".join(lines[0].split()) == "WORKLOAD DIR PEER PROTO PORT CONNS OUT IN P50 P99 FAILED"
    assert " ".join(lines[1].split()) == "unit/ssh.service ingress 10.0.0.5 TCP 22 3 1.2 MiB 30.0 KiB 3.2ms 5.0ms -"
    assert " ".join(lines[2].split()) == "unit/app.service egress 10.0.0.2 UDP 53 0 100 B 300 B - - -"
    assert " ".join(lines[3].split()) == "process/curl egress 10.0.0.9 TCP 443 0 0 B 0 B - - 4 refused"


def test_what_does_not_fit_is_counted_not_hidden() -> None:
    many = replace(VIEW, rows=tuple(replace(SSH, port=n) for n in range(1, 101)))
    lines = body(many, 120, 12)
    assert len(lines) == 12
    assert lines[-1] == "and 90 more: fathom query edges"


def test_the_headline_says_how_far_to_trust() -> None:
    whole = "Fathom on vm · up 1m12s · 342 events/s · window 5m · coverage 100 % · lost 0"
    assert headline(VIEW, 80) == [whole]
    assert headline(VIEW, 60) == ["Fathom on vm · up 1m12s · 342 events/s · window 5m", "coverage 100 % · lost 0"]
    assert trust(300, 0.987, 12) == "window 5m · coverage 98.7 % · lost 12"
    assert trusted(1.0, 0)
    assert not trusted(0.99, 0)
    assert not trusted(1.0, 1)
    assert not trusted(None, 0)


def test_before_the_first_interval_it_says_what_is_waited_for() -> None:
    assert body(replace(VIEW, rows=(), waiting=7.2), 80, 9) == [
        "Waiting for the first interval: 7s to go; 4000 events seen so far."
    ]
    assert body(replace(VIEW, rows=()), 80, 9) == ["No traffic in the last 5m; 4000 events seen so far."]
    assert body(View("vm", 0, 300, waiting=10), 80, 9) == [
        "Waiting for the first interval: 10s to go; no event seen yet."
    ]


@pytest.mark.parametrize(("width", "height"), [(60, 24), (80, 10), (220, 60), (20, 6)])
def test_a_picture_has_the_size_of_the_screen(width: int, height: int) -> None:
    view = replace(VIEW, rows=VIEW.rows * 40, notes=("agent was killed by SIGKILL; started again (1)",))
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(picture(view, ("q quits", "REST http://127.0.0.1:8600/api/v1"), width, height), end="")
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().rstrip("\n").split("\n")
    assert len(lines) == height
    assert all(cell_len(line) <= width for line in lines)
    assert ("q quits" in "".join(lines[-2:])) == (height > 6)


def test_at_sixty_columns_who_and_how_much_are_still_there() -> None:
    header = body(VIEW, 60, 20)[0].split()
    assert header == ["WORKLOAD", "DIR", "PEER", "PORT", "OUT", "IN"]
