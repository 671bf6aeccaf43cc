"""What importing the agent brings in, and how much memory that is. In processes of their own, as the agent starts."""

from __future__ import annotations

import json
import subprocess
import sys

#: Resident MiB after the imports (measured: 35 without and 45 with the link), with a margin for other builds of numpy.
AGENT_MIB, LINK_MIB = 42, 54
FORBIDDEN = {
    *("fastapi", "pydantic", "starlette", "uvicorn", "httpx", "rich", "click", "yaml", "pandas", "prometheus_client"),
    *("ssl", "numpy.ma", "numpy.random", "unittest", "sqlite3", "email", "multiprocessing"),
}
AGENT = ("fathom.agent.agent", "fathom.agent.local_api", "fathom.identity", "fathom.probes.tcp", "fathom.probes.flow")

PROGRAM = """
import json, sys
from fathom.agent import frugal
frugal.settle()
import {modules}
resident = int(open("/proc/self/statm").read().split()[1]) * 4096
import numpy as np
from fathom.agent.reduce import Reducer
print(json.dumps([sorted(name for name, module in sys.modules.items() if module), resident]))
"""


def imported(*modules: str) -> tuple[set[str], float]:
    """Names of the modules that came, and resident MiB."""
    program = PROGRAM.format(modules=", ".join(modules))
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=60)
    names, resident = json.loads(result.stdout)
    return set(names), resident / 2**20


def test_the_agent_brings_in_nothing_heavy() -> None:
    names, resident = imported(*AGENT)
    assert not names & FORBIDDEN
    assert not {name for name in names if name.split(".")[0] in ("grpc", "google")}
    assert resident <= AGENT_MIB


def test_with_the_link_it_is_still_small() -> None:
    names, resident = imported(*AGENT, "fathom.link.client")
    assert not names & FORBIDDEN
    assert resident <= LINK_MIB


def test_giving_up_capabilities_needs_no_library() -> None:
    """numpy would start threads, which would keep their capabilities."""
    names, _ = imported("fathom.agent.privilege")
    before = {name for name in names if name.startswith("fathom.") and "reduce" not in name}
    assert "fathom.agent.privilege" in before
    program = "import fathom.agent.privilege, fathom.agent.frugal, sys; print('numpy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=60)
    assert result.stdout.strip() == "False"
