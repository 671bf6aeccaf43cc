"""Writes docs/reference/events.md, settings.md and server-metrics.md from the objects, the settings and the server.

``--check`` writes nothing and fails, with the difference, if a page is not what would be written.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fathom
from fathom.events.btf import Btf
from fathom.events.catalogue import KINDS, Described, Kind, describe
from fathom.kernel.objects import FOLDER
from fathom.policy.findings import Count, Findings, Reason
from fathom.policy.options import REASONS
from fathom.server.meters import Meters, Reading, render

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs/reference"

EVENTS = """# Events

Made from the records of the compiled probes by `make docs`; do not edit.

What `fathom trace`, `fathom query events`, `GET /api/v1/events` and the live stream show. Times are UTC. A length of
time that was not measured is null. `local` is the end that this node sees; sent and received are as that end sees them.
Of an owner, the best that could be known is shown, and `owner_source` says how it is known.
"""

SETTINGS = """# Settings

Made from the settings of each process by `make docs`; do not edit.

Each can be given as a flag where the command has it, in the environment, or in the TOML file of `--config`; the first
of these that has it wins. A field `ring_bytes` is `FATHOM_RING_BYTES` in the environment and `ring_bytes` in the file.
"""

METRICS = """# Metrics of the server

Made from the server's metrics by `make docs`; do not edit.

`http://127.0.0.1:8600/metrics`, Prometheus text format, open to whoever reaches the port. Counters begin with the
process. They name no workload and no node; `audit` is the name of a registered policy set, and `policy` that of a
policy in it (`other` beyond the setting `audit_series`).
"""


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def events() -> str:
    """The page of events."""
    return EVENTS + "".join(_kind(kind) for kind in KINDS.values())


def _kind(kind: Kind) -> str:
    record = Btf.of(FOLDER / f"{kind.stem}.bpf.o").struct(kind.record)
    probe = tomllib.loads((FOLDER / f"{kind.stem}.toml").read_text())
    rows = [(f"`{row.name}`", row.unit, _sentence(row)) for row in describe(kind, record)]
    head = (
        f"\n## {kind.name}\n\n{record.doc}. Record `{kind.record}`, {record.size} bytes, version {probe['version']}.\n"
    )
    return f"{head}\n{table(('field', 'unit or form', 'what it is'), rows)}"


def _sentence(row: Described) -> str:
    return row.doc[:1].upper() + row.doc[1:]


def groups() -> Iterator[type[Any]]:
    """Every settings group of the package, by module name, then by place in the module."""
    names = sorted(m.name for m in pkgutil.walk_packages(fathom.__path__, "fathom.") if m.name.endswith(".settings"))
    for name in names:
        module = importlib.import_module(name)
        for value in vars(module).values():
            if dataclasses.is_dataclass(value) and isinstance(value, type) and value.__module__ == name:
                yield value


def settings() -> str:
    """The page of settings."""
    return SETTINGS + "".join(_group(group) for group in groups())


def _group(group: type[Any]) -> str:
    process = group.__module__.split(".")[1]
    doc = " ".join((group.__doc__ or "").split("\n\n")[0].split())
    rows = []
    for field in dataclasses.fields(group):
        meta = field.metadata
        bounds = [f"≥ {meta['minimum']}"] if meta.get("minimum") is not None else []
        bounds += ["power of two"] if meta.get("power_of_two") else []
        rows.append(
            (f"`{field.name}`", _value(field.default), meta.get("unit", ""), ", ".join(bounds), meta.get("doc", ""))
        )
    return f"\n## {process}: {group.__name__}\n\n{doc}\n\n" + table(
        ("setting", "default", "unit", "bounds", "what it does"), rows
    )


def _value(default: object) -> str:
    if default == "":
        return "empty"
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default:,}" if isinstance(default, int) and default >= 10_000 else str(default)


def metrics() -> str:
    """The page of the server's metrics."""
    meters = Meters()
    meters.answered("GET", "/", 200, 0.1)
    meters.refused["401"] += 1
    meters.lost("kernel", "tcp", "ring_full", 1)
    meters.audit.sets({"web": ("NetworkPolicy shop/web",)})
    counts = (Count("", "unknown", True, 1, 1), Count("NetworkPolicy shop/web", "allowed", False, 1, 1))
    meters.audit.found("web", Findings(counts, (Reason("", REASONS[1], 1, 1),)))
    text = render(meters, Reading(0, True, 0, 0, 0))
    rows = []
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        told = re.search(rf"^# HELP {name} (.+)$", text, re.MULTILINE)
        sample = re.search(rf"^{name}(?:_count)?(?:\{{(.*)\}})? \S+$", text, re.MULTILINE)
        if told is None or sample is None:
            raise ValueError(f"{name} has no sample: give it one here")
        labels = re.findall(r'(?:^|,)([a-z]+)="', sample[1] or "")
        rows.append((f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels), told[1]))
    return METRICS + "\n" + table(("metric", "type", "labels", "meaning"), rows)


def main(check: bool) -> int:
    """Write the pages, or compare them. Returns the exit status."""
    wrong = 0
    for name, text in (("events.md", events()), ("settings.md", settings()), ("server-metrics.md", metrics())):
        page = PAGES / name
        old = page.read_text() if page.exists() else ""
        if old == text:
            continue
        if check:
            wrong += 1
            sys.stderr.writelines(
                difflib.unified_diff(old.splitlines(True), text.splitlines(True), f"{name} as it is", f"{name} as made")
            )
        else:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text)
    if wrong:
        sys.stderr.write("make docs writes them anew\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
