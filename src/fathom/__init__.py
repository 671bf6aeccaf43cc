"""Fathom: what every workload on a Linux host really does, measured from the kernel."""

__version__ = "0.1.0"
