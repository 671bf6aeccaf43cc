"""The head of a Kubernetes document: kind, name and namespace, checked."""

from __future__ import annotations

import re

from fathom.policy.fields import Field

_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\Z")
#: As the API server checks kinds of custom resources (apiextensions.k8s.io/v1, names.kind).
_KIND = re.compile(r"[A-Za-z](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?\Z")
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")


def name_of(document: Field) -> str:
    """metadata.name. Raises Refused if it is absent or not a name."""
    return _name(document.get("metadata").get("name"))


def _name(field: Field) -> str:
    text = field.text()
    if not valid_name(text):
        raise field.refuse(f"{text[:80]!r} is not a name")
    return text


def valid_name(text: str) -> bool:
    """Whether ``text`` can be the name of most objects, policies among them: a subdomain (RFC 1123)."""
    return bool(_SUBDOMAIN.match(text))


def valid_namespace(text: str) -> bool:
    """Whether ``text`` can be the name of a namespace: a label (RFC 1123)."""
    return bool(_LABEL.match(text))


def valid_kind(text: str) -> bool:
    """Whether ``text`` can be a kind of objects."""
    return bool(_KIND.match(text))


def owner_of(reference: Field) -> tuple[str, str]:
    """(kind, name) of an element of metadata.ownerReferences. Raises Refused if one of them is none."""
    kind = reference.get("kind")
    if not valid_kind(kind.text()):
        raise kind.refuse(f"{kind.text()[:80]!r} is not a kind")
    return kind.text(), _name(reference.get("name"))


def namespace_of(document: Field) -> str:
    """metadata.namespace; empty or absent is ``default``. Raises Refused if it is not a name."""
    field = document.get("metadata").get("namespace")
    text = field.text(default="") or "default"
    if not valid_namespace(text):
        raise field.refuse(f"{text[:80]!r} is not a namespace's name")
    return text


def head(document: Field) -> tuple[str, str]:
    """(API group, kind); the group of the core API is empty. Raises Refused if there is none."""
    version = document.get("apiVersion").text(default="")
    group, slash, _ = version.partition("/")
    return (group if slash else ""), document.get("kind").text()


def labels_of(document: Field) -> dict[str, str]:
    """metadata.labels. Raises Refused if one is not a string."""
    field = document.get("metadata").get("labels")
    return {key: field.get(key).text() for key in field.mapping()}
