"""Patterns over DNS names, matched label by label: no regular expression, so that no pattern can be slow.

Sources: Cilium's description of matchName and matchPattern; DomainName of policy.networking.k8s.io/v1alpha2.
"""

from __future__ import annotations

import re

from fathom.policy.fields import Field
from fathom.policy.model import NamePattern

_NAME = re.compile(r"[-a-zA-Z0-9_.]{1,255}\Z")
_PATTERN = re.compile(r"[-a-zA-Z0-9_.*]{1,255}\Z")
_DOMAIN = re.compile(r"(?:\*\.)?(?:[a-z0-9](?:[-a-z0-9_]*[a-z0-9])?\.)+[a-z0-9](?:[-a-z0-9_]*[a-z0-9])?\.?\Z", re.I)
EVERY = NamePattern("glob", "*")


def canonical(name: str) -> str:
    """Lower case, without the last dot."""
    return name.lower().removesuffix(".")


def matches(pattern: NamePattern, name: str) -> bool:
    """Whether the pattern covers ``name``, which must be canonical."""
    text = pattern.text
    if pattern.style == "exact":
        return text == name
    if text == "*":
        return True
    if pattern.style == "subdomains":
        return name.endswith(text[1:]) and len(name) > len(text) - 1
    labels, wanted = name.split("."), text.removesuffix(".").split(".")
    if wanted[0] == "**":
        if len(labels) < len(wanted):
            return False
        labels, wanted = labels[1 - len(wanted) :], wanted[1:]
    return len(labels) == len(wanted) and all(_glob(w, have) for w, have in zip(wanted, labels, strict=True))


def example(pattern: NamePattern) -> str:
    """A name that the pattern covers."""
    if pattern.style == "exact":
        return pattern.text
    return canonical(".".join("x" if label == "**" else label.replace("*", "x") for label in pattern.text.split(".")))


def _glob(pattern: str, label: str) -> bool:
    """``*`` matches any run of characters of one label; greedy, going back to the last star only."""
    at = start = 0
    star = -1
    mark = 0
    while start < len(label):
        if at < len(pattern) and pattern[at] == "*":
            star, mark, at = at, start, at + 1
        elif at < len(pattern) and pattern[at] == label[start]:
            at, start = at + 1, start + 1
        elif star >= 0:
            mark += 1
            at, start = star + 1, mark
        else:
            return False
    return all(rest == "*" for rest in pattern[at:])


def cilium(field: Field) -> list[NamePattern]:
    """The patterns of one FQDN selector or DNS rule: matchName, matchPattern. Raises Refused if malformed."""
    found: list[NamePattern] = []
    for unknown in field.unknown(frozenset(("matchName", "matchPattern"))):
        raise unknown.refuse("unknown field of a name pattern")
    if field.has("matchName"):
        name = field.get("matchName").text()
        if not _NAME.match(name):
            raise field.get("matchName").refuse(f"{name[:80]!r} is not a DNS name")
        found.append(NamePattern("exact", canonical(name)))
    if field.has("matchPattern"):
        text = field.get("matchPattern").text()
        if not _PATTERN.match(text):
            raise field.get("matchPattern").refuse(f"{text[:80]!r} is not a pattern of DNS names")
        # "*." is one label; "*" alone is every name.
        found.append(NamePattern("glob", text if text == "*." else canonical(text)))
    if not found:
        raise field.refuse("needs matchName or matchPattern")
    return found


def domain(field: Field) -> NamePattern:
    """One DomainName. Raises Refused if malformed."""
    text = field.text()
    if not _DOMAIN.match(text):
        raise field.refuse(f"{text[:80]!r} is not a domain name")
    return NamePattern("subdomains" if text.startswith("*.") else "exact", canonical(text))
