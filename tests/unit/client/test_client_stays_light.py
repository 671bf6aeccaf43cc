"""The client runs anywhere from a pure wheel: it must not pull in the server, the link, or numpy."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("fastapi", "pydantic", "uvicorn", "grpc", "google.protobuf", "numpy", "fathom.store", "fathom.kernel")


def test_importing_the_client_imports_nothing_heavy() -> None:
    code = f"import sys, fathom.client; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
