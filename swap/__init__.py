"""Each program under the other's runtime, so that what belongs to a program can be told from what belongs to a runtime.

The only package that knows both trainers; no other imports it. `benchmarks/rungs/swap.py` starts its modules as
processes.
"""
