"""Settings: one frozen dataclass per process, read once from defaults, a TOML file, the environment and flags.

Later sources win. Each field is made by ``setting`` and carries its unit and meaning, from which the reference page is
generated. The environment name of field ``ring_bytes`` is ``FATHOM_RING_BYTES``.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from fathom.errors import UsageError

T = TypeVar("T")
_TRUE, _FALSE = frozenset(("1", "true", "yes", "on")), frozenset(("0", "false", "no", "off"))


def setting(default: Any, doc: str, *, unit: str = "", minimum: float | None = None, power_of_two: bool = False) -> Any:
    """A dataclass field with its ``doc``, ``unit`` and bounds; ``default`` also fixes nothing but the value."""
    return dataclasses.field(
        default=default, metadata={"doc": doc, "unit": unit, "minimum": minimum, "power_of_two": power_of_two}
    )


def load(
    group: type[T],
    *,
    flags: Mapping[str, Any] | None = None,
    env: Mapping[str, str],
    file: Path | None = None,
    beside: Sequence[type] = (),
) -> T:
    """The settings ``group`` from ``file`` (TOML, keys are field names), ``env``, then ``flags`` (None = not given).

    ``beside`` are the other groups that the same process reads from the same file: their keys are not unknown.
    Raises UsageError if the file cannot be read, a key is unknown, or a value is of the wrong type or out of bounds.
    """
    fields = {f.name: f for f in dataclasses.fields(group)}  # type: ignore[arg-type]
    types = get_type_hints(group)
    values: dict[str, Any] = {}
    others = {f.name for other in beside for f in dataclasses.fields(other)}
    for name, value in (_read(file) if file else {}).items():
        if name not in fields:
            if name in others:
                continue
            known = ", ".join(sorted({*fields, *others}))
            raise UsageError(f"{file}: unknown setting {name!r}", do=f"use one of: {known}")
        values[name] = _convert(name, value, types[name], str(file))
    for name in fields:
        variable = "FATHOM_" + name.upper()
        if variable in env:
            values[name] = _convert(name, env[variable], types[name], variable)
    for name, value in (flags or {}).items():
        if value is not None:
            values[name] = _convert(name, value, types[name], "--" + name.replace("_", "-"))
    for name, value in values.items():
        _check(name, value, fields[name].metadata)
    return group(**values)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read settings from {file}: {error}") from error


def _convert(name: str, value: Any, kind: type, where: str) -> Any:
    try:
        if kind is bool and isinstance(value, str):
            word = value.lower()
            if word not in _TRUE | _FALSE:
                raise ValueError(value)
            return word in _TRUE
        if kind in (int, float, str) and isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return kind(value)
        if isinstance(value, kind):
            return value
    except ValueError:
        pass  # told below, with the place
    raise UsageError(f"{where}: {value!r} is not a value for {name}", do=f"give a value of type {kind.__name__}")


def _check(name: str, value: Any, bounds: Mapping[str, Any]) -> None:
    minimum = bounds.get("minimum")
    if minimum is not None and value < minimum:
        raise UsageError(f"{name} is {value}, which is below its minimum {minimum}")
    if bounds.get("power_of_two") and (value < 1 or value & (value - 1)):
        raise UsageError(f"{name} is {value}, which is not a power of two", do="use 65536, 131072, … bytes")
