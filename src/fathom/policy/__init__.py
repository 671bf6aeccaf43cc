"""Policy: what a set of network policies says about traffic. Pure functions over plain data: no I/O, no clock.

Read documents into a model (``policysets``), an inventory (``manifests``, ``inventory``) and flows (``flows``); then
``compile`` once and ``evaluate`` arrays.
"""
