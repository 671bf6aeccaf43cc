"""Written profiles against strict schemas of what reads them, offline: OCI runtimes, the operator, CRI-O."""

from __future__ import annotations

import copy
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.events.syscalls import NUMBERS
from fathom.policy import seccomp
from fathom.policy.seccomp import SyscallSet, generate, to_crio_annotation, to_oci, to_spo

Schema = dict[str, Any]
ARCHITECTURES = [f"SCMP_ARCH_{word}" for word in ("X86", "X86_64", "X32", "ARM", "AARCH64")]
ACTIONS = [
    f"SCMP_ACT_{word}"
    for word in ("KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY")
]


def closed(required: tuple[str, ...], **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


RULE = closed(
    ("names", "action"),
    names={"type": "array", "items": {"type": "string", "pattern": "^[a-z0-9_]+$"}, "minItems": 1, "uniqueItems": True},
    action={"enum": ACTIONS},
)
FILTER: dict[str, Schema] = {
    "defaultAction": {"enum": ACTIONS},
    "architectures": {"type": "array", "items": {"enum": ARCHITECTURES}, "uniqueItems": True, "minItems": 2},
    "syscalls": {"type": "array", "items": RULE},
}
#: OCI runtime specification, config-linux.md, "Seccomp".
OCI = closed(("defaultAction",), **FILTER, defaultErrnoRet={"type": "integer", "minimum": 0, "maximum": 4095})
#: The operator's custom resource SeccompProfile, v1beta1: cluster-wide from its release 0.9 on, in a namespace before.
NAME: Schema = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"}
SPO = closed(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "security-profiles-operator.x-k8s.io/v1beta1"},
    kind={"const": "SeccompProfile"},
    metadata=closed(("name",), name=NAME, namespace=NAME),
    spec=closed(("defaultAction",), **FILTER),
)

architectures = st.sampled_from(sorted(seccomp.TOKENS))


@st.composite
def profiles(draw: st.DrawFn) -> seccomp.Profile:
    rows = [
        SyscallSet(
            workload="w",
            architecture=architecture,
            calls=tuple(draw(st.frozensets(st.sampled_from(sorted(NUMBERS[architecture])), max_size=40))),
        )
        for architecture in draw(st.lists(architectures, min_size=1, max_size=3))
    ]
    default: seccomp.Default = draw(st.sampled_from(("errno", "log", "kill")))
    return generate(rows, default=default)[0]


@given(profiles())
def test_every_profile_has_the_form_that_runtimes_and_the_operator_ask_for(profile: seccomp.Profile) -> None:
    jsonschema.Draft202012Validator(OCI).validate(to_oci(profile))
    for namespace in ("", "shop"):
        jsonschema.Draft202012Validator(SPO).validate(to_spo(profile, name="shop-web", namespace=namespace))


@given(profiles())
def test_every_call_exists_on_one_of_the_architectures(profile: seccomp.Profile) -> None:
    """Also the base: a call that only the other architecture has does not appear."""
    native = [name for name, tokens in seccomp.TOKENS.items() if tokens[0] in profile.architectures]
    known = {call for architecture in native for call in NUMBERS[architecture]}
    assert set(profile.calls) <= known
    assert len(native) * 2 <= len(profile.architectures)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("defaultAction",), "SCMP_ACT_NONE"),
        (("architectures", 0), "x86_64"),
        (("syscalls", 0, "action"), "ALLOW"),
        (("syscalls", 0, "names", 0), "READ"),
        (("syscalls", 0, "names"), []),
        (("syscalls", 0, "extra"), 1),
        (("extra",), 1),
    ],
)
def test_the_schemas_see_mistakes(path: tuple[str | int, ...], value: object) -> None:
    good = to_oci(generate([SyscallSet(workload="w", calls=("read",))])[0])
    operator = to_spo(generate([SyscallSet(workload="w", calls=("read",))])[0], name="w")
    for document, schema, inner in ((good, OCI, good), (operator, SPO, operator["spec"])):
        assert jsonschema.Draft202012Validator(schema).is_valid(document)
        before = copy.deepcopy(document)
        place: Any = inner
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        assert not jsonschema.Draft202012Validator(schema).is_valid(document)
        assert document != before


def test_the_operator_knows_no_errno() -> None:
    """Its schema has no defaultErrnoRet: an object with it would be refused; EPERM is what it uses."""
    profile = generate([SyscallSet(workload="w")])[0]
    assert to_oci(profile)["defaultErrnoRet"] == 1
    assert not jsonschema.Draft202012Validator(SPO).is_valid(
        {**to_spo(profile, name="w"), "spec": to_oci(profile)},
    )


@pytest.mark.parametrize(("container", "key"), [("", "POD"), ("web", "web")])
def test_crio_is_told_the_artifact_of_a_container_or_of_all(container: str, key: str) -> None:
    """An annotation's key is a DNS prefix and a name of at most 63 characters (Kubernetes API conventions)."""
    made = to_crio_annotation(artifact="registry.example/seccomp/web:1", container=container)
    assert made == {f"seccomp-profile.kubernetes.cri-o.io/{key}": "registry.example/seccomp/web:1"}
    prefix, _, name = next(iter(made)).partition("/")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", prefix)
    assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", name)
