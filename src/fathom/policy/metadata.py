"""The head of a Kubernetes document: kind, name and namespace, checked."""

from __future__ import annotations

import re

from fathom.policy.fields import Field

_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\Z")
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")


def name_of(document: Field) -> str:
    """metadata.name. Raises Refused if it is absent or not a name."""
    field = document.get("metadata").get("name")
    text = field.text()
    if not _SUBDOMAIN.match(text):
        raise field.refuse(f"{text[:80]!r} is not a name")
    return text


def namespace_of(document: Field) -> str:
    """metadata.namespace; empty or absent is ``default``. Raises Refused if it is not a name."""
    field = document.get("metadata").get("namespace")
    text = field.text(default="") or "default"
    if not _LABEL.match(text):
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
