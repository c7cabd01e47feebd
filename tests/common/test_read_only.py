"""A run that can only be read, by a read-only bind mount in a mount namespace of its own: nothing is left mounted."""

import os
import subprocess
import sys

import pytest

from common import process

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
"""
READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"'
ALLOWED = not subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not ALLOWED, reason="mounting is not allowed here")]


def twinscale(mounted, folder, *words):
    """(exit code, stderr) of the command with a folder mounted in its way."""
    words = [sys.executable, "-P", "-m", "common.cli", *map(str, words)]
    done = subprocess.run(["unshare", "-m", "sh", "-c", f'{mounted} && shift && exec "$@"', "sh", folder, *words],
                          capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(process.ROOT)})
    return done.returncode, done.stderr


@pytest.mark.parametrize("backend", ["jax", "keras"])
def test_a_run_that_can_only_be_read_is_gone_on_from_and_exported_but_not_resumed(tmp_path, backend):
    recipe, run = tmp_path / "r.toml", tmp_path / "run"
    recipe.write_text(RECIPE)
    ours = ("train", recipe, "--backend", backend, "--run")
    assert twinscale("true", run, *ours, run, "--stop", "10")[0] == 0
    for words in ((*ours, tmp_path / "next", "--from", run),
                  ("export", run, "--to", tmp_path / "export", "--formats", "safetensors")):
        code, said = twinscale(READ_ONLY, run, *words)
        assert code == 0 and "Traceback" not in said, said
    code, said = twinscale(READ_ONLY, run, *ours, run)
    assert code == 2 and said.count("\n") == 1 and "Read-only file system" in said
