"""Fuzzed policy documents and manifests: no crash, and nothing that is not understood passes in silence.

``FATHOM_FUZZED`` sets how many documents the quick run judges; the slow run judges a million.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from cores import shared
from fuzzing import fuzz

QUICK = int(os.environ.get("FATHOM_FUZZED", "6000"))
LONG = 1_000_000


def check(seen: Counter[str], count: int) -> None:
    """All were judged, and each kind of judgement was not seldom."""
    assert seen["documents"] == count
    for kind, least in {"refused": 0.2, "not understood in full": 0.1, "understood": 0.02, "text read": 0.02}.items():
        assert seen[kind] > least * count, (kind, seen)
    assert seen["compared"] > 0.05 * count, seen
    assert seen["strange"] > 0.01 * count, seen
    assert seen["manifest compared"] > 0.005 * count, seen


def test_fuzzed_documents_are_refused_or_unknown_or_mean_what_the_reference_says() -> None:
    check(fuzz(QUICK, 7), QUICK)


@pytest.mark.slow
def test_a_million_fuzzed_documents(tell: Callable[[str], None]) -> None:
    seen: Counter[str] = Counter()
    for part in shared(fuzz, LONG, 40):
        seen += part
    tell(f"fuzzed documents: {dict(seen)}")
    check(seen, LONG)


def guided(runs: int, folder: Path) -> str:
    """What the coverage-guided fuzzer says after so many texts. It fails on a crash or a wrong verdict, and on a text
    that takes 5 minutes or 2 GiB."""
    target = Path(__file__).with_name("fuzz_target.py")
    options = [f"-runs={runs}", "-seed=1", "-max_len=4096", "-timeout=300", "-rss_limit_mb=2048", str(folder)]
    done = subprocess.run(
        [sys.executable, str(target), *options], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    return done.stderr


def covered(told: str) -> int:
    """How many places in the readers were reached in the end."""
    return int(re.findall(r"DONE\s+cov: (\d+)", told)[-1])


@pytest.fixture
def fuzzer(require: Callable[[str, str], None]) -> None:
    if importlib.util.find_spec("atheris") is None:
        require("atheris", "atheris has no wheel for this platform")


@pytest.mark.usefixtures("fuzzer")
def test_texts_that_the_fuzzer_finds_crash_nothing(tmp_path: Path) -> None:
    told = guided(3_000, tmp_path)
    assert re.search(r"Done 3000 runs", told)
    assert covered(told) > 500


@pytest.mark.slow
@pytest.mark.usefixtures("fuzzer")
def test_many_texts_that_the_fuzzer_finds_crash_nothing(tmp_path: Path, tell: Callable[[str], None]) -> None:
    told = guided(200_000, tmp_path)
    tell(f"guided fuzzer: {told.splitlines()[-1]}, {covered(told)} places in the readers reached")
    assert re.search(r"Done 200000 runs", told)
    assert covered(told) > 600
