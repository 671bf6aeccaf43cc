from __future__ import annotations

import subprocess
import sys


def test_the_agents_process_never_loads_openssl() -> None:
    program = (
        "from fathom.agent.frugal import settle\nsettle()\n"
        "import asyncio, hashlib, hmac, secrets\n"
        "import fathom.agent.agent, fathom.agent.local_api, fathom.link.client\n"
        "assert hashlib.blake2b(b'x').digest() and hmac.new(b'k', b'x', 'sha256').digest()\n"
        "maps = open('/proc/self/maps').read()\n"
        "assert 'libcrypto' not in maps and 'libssl' not in maps, maps\n"
        "asyncio.run(asyncio.sleep(0))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_loaded_already_stays() -> None:
    program = (
        "import ssl\nfrom fathom.agent.frugal import settle\nsettle()\nimport ssl\nassert ssl.create_default_context()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
