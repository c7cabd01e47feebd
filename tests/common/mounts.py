"""Disks that a command finds in its way: mounts in a namespace of its own, of which nothing is left mounted."""

import os
import subprocess
import sys

import pytest

from twinscale.common import process

RECIPE = """
name = "faults"
[data]
source = "digits"
held_out = 0.2
[model]
family = "mlp"
hidden = [32]
[train]
steps = 20
global_batch = 16
save_every = 5
"""
COMPRESSED = RECIPE + """
[[compress.stages]]
kind = "prune"
sparsity = 0.5
steps = 20
every = 5
learning_rate = 1e-3
[[compress.stages]]
kind = "quantize"
steps = 20
learning_rate = 1e-3
"""
ALLOWED = not subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode
may_mount = pytest.mark.skipif(not ALLOWED, reason="mounting is not allowed here")


def twinscale(mount, *words, after=()):
    """A finished `twinscale WORDS`, with what it said.

    Args:
      mount: (a shell command, the arguments that it takes as "$1" and so on), run first in the command's namespace.
      after: words before the command, that run it and look at what it leaves.
    """
    shell, given = mount
    command = [*after, sys.executable, "-P", "-m", "twinscale.common.cli", *words]
    return subprocess.run(["unshare", "-m", "sh", "-c", f'{shell} && shift {len(given)} && exec "$@"', "sh",
                           *map(str, given), *map(str, command)], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(process.ROOT)})
