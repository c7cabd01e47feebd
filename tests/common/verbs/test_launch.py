"""Launch targets as verbs of their own: each has the options that it takes, and no other's."""

import shlex

import pytest
import typer

from twinscale.common import cli
from twinscale.common.launch.plan import NEEDED, OPTIONS
from twinscale.common.verbs.launch import app

ALL_HAVE = {"recipe", "overrides", "backend", "runtime", "run", "hosts", "go"}
TARGETS = typer.main.get_command(app).commands
SLURM = ["launch", "slurm", "mlp-digits", "devices.data=0", "--backend", "jax", "--run", "runs/a b", "--hosts", "2"]


@pytest.mark.parametrize("target", OPTIONS)
def test_a_target_has_the_options_that_it_takes(target):
    parameters = {parameter.opts[0].removeprefix("--").replace("-", "_"): parameter
                  for parameter in TARGETS[target].params}
    assert TARGETS.keys() == OPTIONS.keys()
    assert set(parameters) == ALL_HAVE | set(OPTIONS[target])
    asked = {name for name in OPTIONS[target] if parameters[name].required}
    assert asked == set(OPTIONS[target][:NEEDED[target]])


@pytest.mark.parametrize("words, said", [
    (["launch", "local", "mlp-digits", "--backend", "jax", "--run", "r", "--hosts", "2", "--zone", "z"], "--zone"),
    (["launch", "tpu", "mlp-digits", "--backend", "jax", "--run", "gs://b/r", "--hosts", "2"], "--name"),
    (["launch", "mlp-digits", "--backend", "jax", "--target", "local"],
     "launch mlp-digits: no such target; there are local, tpu, slurm, gke, which come before the recipe"),
    (["launch"], "Missing command"),
])
def test_another_targets_option_and_no_target_are_refused_in_one_line(words, said, capsys):
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and said in err


def test_what_comes_next_is_the_same_launch_with_go(capsys):
    asked = [*SLURM, "--gpus-per-host", "4", "--no-requeue", "--time", "8:00:00"]
    assert cli.main(asked) == 0
    out, err = capsys.readouterr()
    again = shlex.split(err.removeprefix("twinscale: next: twinscale "))
    assert out.startswith("#!/bin/bash") and again[-1] == "--go" and sorted(again[:-1]) == sorted(asked)
    assert cli.main(again[:-1]) == 0
    assert capsys.readouterr().out == out
