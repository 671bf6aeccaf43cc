"""Benchmarks: pairs in one run (without, with), medians and spreads, never a timed assertion."""
