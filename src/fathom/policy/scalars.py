"""Unquoted scalars of YAML: what kubectl takes them for, and a dumper whose text is taken for nothing else.

kubectl, Helm and Kustomize read YAML with sigs.k8s.io/yaml, which stands on go-yaml v2: YAML 1.1's words for booleans,
YAML 1.2's octal numbers, exponents without a point. PyYAML knows other rules, so its own quoting is not enough: it
writes the label ``y`` or ``1e3`` without quotes, and the API server then refuses a boolean or a number.

Source: ``resolve`` in go.yaml.in/yaml/v2; the tests compare both ways with kubectl itself.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))\Z")
_RADIX = (16, 2, 8, 10)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_LONGEST = 400  # more digits are beyond any number that JSON can hold


def plain(text: str) -> Any:
    """What an unquoted scalar means: nothing, a boolean, a number (whole ones as int), else the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    first = text[:1]
    if first not in "+-.0123456789" or len(text) > _LONGEST:
        return text
    digits = text if first == "." else text.replace("_", "")
    whole = _whole(digits) if first != "." else None
    if whole is not None:
        return whole
    if not _FLOAT.match(digits):
        return text
    number = float(digits)
    if math.isinf(number):
        return text
    return int(number) if number.is_integer() and abs(number) < 1e21 else number


def _whole(digits: str) -> int | None:
    """A whole number of 64 bits, signed or (without a sign) unsigned; what is larger is a float."""
    found = _INTEGER.match(digits)
    if found is None:
        return None
    sign, *forms = found.groups()
    number = next(int(form, radix) for form, radix in zip(forms, _RADIX, strict=True) if form is not None)
    if sign == "-":
        return -number if number <= 1 << 63 else None
    return number if number < 1 << (63 if sign else 64) else None


class Dumper(yaml.CSafeDumper):
    """PyYAML's, with every text in quotes that would mean something else without."""


def _text(dumper: Dumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(plain(text), str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Dumper.add_representer(str, _text)
