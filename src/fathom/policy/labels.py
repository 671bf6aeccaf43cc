"""Label selectors: checked as the API server checks them, and matched as its documentation says.

Source: Kubernetes API conventions, "Labels and selectors", and the LabelSelector type of meta/v1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from fathom.policy.fields import Field
from fathom.policy.model import Operator, Requirement, Scope, Selector

OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_PREFIX = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\Z")
#: Turns (key, operator, values) of a document into a requirement; Cilium's reader has its own.
Translate = Callable[[Field, str, Operator, tuple[str, ...]], Requirement]


def valid_key(key: str) -> bool:
    """Whether ``key`` is a qualified label name."""
    prefix, slash, name = key.rpartition("/")
    if slash and (not prefix or len(prefix) > 253 or not _PREFIX.match(prefix)):
        return False
    return bool(_NAME.match(name))


def valid_value(value: str) -> bool:
    """Whether ``value`` is a label value: empty, or up to 63 characters."""
    return not value or bool(_NAME.match(value))


def scoped(scope: Scope) -> Translate:
    """A translation that checks the key and keeps it, for labels of ``scope``."""

    def translate(field: Field, key: str, operator: Operator, values: tuple[str, ...]) -> Requirement:
        if not valid_key(key):
            raise field.refuse(f"{key[:80]!r} is not a label name")
        return Requirement(scope, key, operator, values)

    return translate


def selector(field: Field, scope: Scope, translate: Translate | None = None) -> Selector:
    """The LabelSelector in ``field``; absent matches everything, as an empty one does.

    Unknown fields are reported, and what is left of the selector is that it may match anything: they could choose
    more as well as less. Raises Refused if it is malformed.
    """
    turn = translate or scoped(scope)
    found: list[Requirement] = []
    labels = field.get("matchLabels")
    for key in labels.mapping():
        value = labels.get(key) if isinstance(key, str) else labels
        if not isinstance(key, str):
            raise labels.refuse("label names must be strings")
        found.append(turn(value, key, "In", (_value(value),)))
    for expression in field.get("matchExpressions").elements():
        found.append(_requirement(expression, turn))
    for unknown in field.unknown(frozenset(("matchLabels", "matchExpressions"))):
        unknown.not_understood("unknown field of a label selector")
        found = [Requirement(scope, "", "?")]
    return Selector(tuple(sorted(set(found))))


def _value(field: Field) -> str:
    text = field.text()
    if not valid_value(text):
        raise field.refuse(f"{text[:80]!r} is not a label value")
    return text


def _requirement(field: Field, turn: Translate) -> Requirement:
    key = field.get("key").text()
    operator: Operator = field.get("operator").one_of(OPERATORS)  # type: ignore[assignment]
    values = tuple(sorted({_value(item) for item in field.get("values").elements()}))
    if operator in ("In", "NotIn") and not values:
        raise field.get("values").refuse(f"operator {operator} needs values")
    if operator in ("Exists", "DoesNotExist") and values:
        raise field.get("values").refuse(f"operator {operator} takes no values")
    for unknown in field.unknown(frozenset(("key", "operator", "values"))):
        unknown.not_understood("unknown field of a label requirement")
        operator, values = "?", ()
    return turn(field.get("key"), key, operator, values)


def by_name(name: str) -> Selector:
    """Pods in the namespace of this name."""
    return Selector((Requirement("namespace-name", "", "In", (name,)),))


def holds(requirement: Requirement, labels: Mapping[str, str]) -> bool | None:
    """Whether labels meet a requirement; None where it is not understood. An absent key meets NotIn."""
    value = labels.get(requirement.key)
    if requirement.operator == "In":
        return value is not None and value in requirement.values
    if requirement.operator == "NotIn":
        return value is None or value not in requirement.values
    if requirement.operator == "Exists":
        return value is not None
    if requirement.operator == "DoesNotExist":
        return value is None
    return None
