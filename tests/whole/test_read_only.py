"""A run that can only be read, by a read-only bind mount in a mount namespace of its own: nothing is left mounted."""

import pytest

from tests.common.mounts import RECIPE, may_mount, twinscale

READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"'
pytestmark = [pytest.mark.slow, may_mount]


@pytest.mark.parametrize("backend", ["jax", "keras"])
def test_a_run_that_can_only_be_read_is_gone_on_from_and_exported_but_not_resumed(tmp_path, backend):
    recipe, run = tmp_path / "r.toml", tmp_path / "run"
    recipe.write_text(RECIPE)
    ours = ("train", recipe, "--backend", backend, "--run")
    assert twinscale(("true", ()), *ours, run, "--stop", "10").returncode == 0
    for words in ((*ours, tmp_path / "next", "--from", run),
                  ("export", run, "--to", tmp_path / "export", "--formats", "safetensors")):
        done = twinscale((READ_ONLY, (run,)), *words)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    done = twinscale((READ_ONLY, (run,)), *ours, run)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Read-only file system" in done.stderr
