"""Fathom: what every workload on a Linux host really does, measured from the kernel."""

import os as _os
import sys as _sys

__version__ = "0.1.0"

# By sudo in a user's own tree: bytecode of root's would be in that user's way.
if hasattr(_os, "geteuid") and _os.geteuid() == 0 and _os.environ.get("SUDO_UID", "0") != "0":
    _sys.dont_write_bytecode = True
