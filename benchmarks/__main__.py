"""``make bench``: runs every benchmark (or those named) and writes benchmarks/RESULTS.md."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

from benchmarks.report import Row, machine

#: Module names in the order of the table; each has ``run() -> list[Row]``.
MODULES = (
    "ring_drain",
    "event_rate",
    "tcp_connect",
    "packet_rate",
    "connection_rate",
    "agent_idle",
    "metrics_render",
    "store_ingest",
    "start_up",
    "policy_evaluate",
    "policy_replay",
    "policy_generate",
    "policy_difference",
    "policy_pipeline",
    "policy_audit",
)
RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = """# Benchmarks

`make bench` writes this page. Pairs alternate in one run; figures are median [lower quartile..upper quartile].
Ratios are what to compare: absolute times move with the machine.

"""


def main() -> int:
    names = sys.argv[1:] or list(MODULES)
    lines = [f"Measured {time.strftime('%Y-%m-%d', time.gmtime())} on {machine()}.", ""]
    lines += ["| what | figure | bar | met | note |", "|---|---|---|---|---|"]
    rows: list[Row] = []
    for name in names:
        print(f"bench: {name}", file=sys.stderr, flush=True)
        for row in importlib.import_module(f"benchmarks.{name}").run():
            rows.append(row)
            lines.append(f"| {row.name} | {row.figure} | {row.bar} | {'yes' if row.met else '**no**'} | {row.note} |")
            print("  " + lines[-1], file=sys.stderr, flush=True)
    if not sys.argv[1:]:
        RESULTS.write_text(HEAD + "\n".join(lines) + "\n")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
