"""Each edge case and each mistake of other evaluators is a named test, and the reference stands by itself."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from edge_cases import CASES, MISTAKES

HERE = Path(__file__).parent
REFERENCE = ("reference.py", "reference_cluster.py", "reference_rules.py")


def names_in(name: str) -> list[str]:
    """Names of the test functions of a module."""
    tree = ast.parse((HERE / name).read_text())
    return [item.name for item in tree.body if isinstance(item, ast.FunctionDef) and item.name.startswith("test_")]


def test_each_edge_case_is_a_named_test() -> None:
    numbers = {
        int(found[1]) for name in names_in("test_edge_cases.py") if (found := re.match(r"test_case_(\d\d)_", name))
    }
    assert numbers == set(CASES) == set(range(1, 33))
    assert len(names_in("test_edge_cases.py")) == len(set(names_in("test_edge_cases.py")))


def test_each_mistake_of_other_evaluators_is_a_named_test() -> None:
    names = names_in("test_reference_mistakes.py")
    for mistake, test in MISTAKES.items():
        assert [name for name in names if name.startswith(f"test_{test}")], mistake
    kept = {name for name in names if name.startswith("test_kept_")}
    assert len(names) == len(MISTAKES) + len(kept)


def imports_of(name: str) -> set[str]:
    """First parts of the modules that a module imports."""
    found: set[str] = set()
    for item in ast.walk(ast.parse((HERE / name).read_text())):
        if isinstance(item, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in item.names}
        elif isinstance(item, ast.ImportFrom):
            assert not item.level, name
            found.add((item.module or "").partition(".")[0])
    return found


def test_the_reference_shares_no_code_with_the_engine() -> None:
    standard = {
        "__future__",
        "collections",
        "dataclasses",
        "datetime",
        "functools",
        "ipaddress",
        "itertools",
        "re",
        "typing",
    }
    for name in REFERENCE:
        assert imports_of(name) <= standard | {other.removesuffix(".py") for other in REFERENCE}, name
