"""Giving up capabilities, as far as anybody can try it, in processes of their own."""

from __future__ import annotations

import subprocess
import sys

from fathom.agent import privilege


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


def test_beside_another_thread_it_refuses() -> None:
    program = """
import threading, time
from fathom.agent import privilege
from fathom.errors import PrivilegeError
threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
try:
    privilege.drop([])
except PrivilegeError as error:
    print(error)
"""
    assert "1 other threads run already" in run(program).stdout


def test_permitted_is_what_the_kernel_says() -> None:
    with open("/proc/self/status") as status:
        word = next(int(line.split()[1], 16) for line in status if line.startswith("CapPrm"))
    assert sum(1 << number for number in privilege.permitted()) == word


def test_without_any_all_are_missing() -> None:
    program = """
from fathom.agent import privilege
privilege.drop([])
print(privilege.permitted(), privilege.missing() == tuple(privilege.NEEDED))
"""
    assert run(program).stdout.strip() == "frozenset() True"
