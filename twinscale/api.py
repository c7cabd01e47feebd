"""Twinscale from Python: what the commands do, for a notebook, a script or a test.

What goes wrong is raised as the command line says it: a TwinscaleError with one clear line, and the `exit_code` that
the command would have ended with. Words on how far something is go to stderr, and nothing to stdout. Trainers are
processes of their own, which import nothing of the script that asked for them: it needs no `if __name__ == "__main__"`.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from twinscale.common import process
from twinscale.common.errors import BadInput, Disagreement, TwinscaleError, error_of, known
from twinscale.common.files.access import escaped_lines, exists, write_text
from twinscale.common.files.access import place as at

if TYPE_CHECKING:
    import numpy as np

    from twinscale.benchmarks.columns_result import Columns
    from twinscale.benchmarks.results import Compression, Differences
    from twinscale.benchmarks.verdict import Verdict
    from twinscale.common.data import Dataset
    from twinscale.common.pairs.judge import PairVerdict
    from twinscale.common.recipe.schema import Recipe

__all__ = ["Disagreement", "LoadedRun", "TwinscaleError", "check", "compare", "compare_runs", "load_run",
           "load_verdict", "match", "open_dataset", "recipe", "train"]

Where = str | os.PathLike[str]
Overrides = Mapping[str, Any] | Sequence[str]
OWN = "twinscale: "  # so begins what a command says last, where an error ends it


# ---- programs of one's own

def check(a: Any, b: Any, inputs: Any, **options: Any) -> "PairVerdict":
    """Whether two programs, such as a Keras model and its port to JAX, are one function; `twinscale.pairs.check`, whose
    options it takes."""
    from twinscale import pairs

    return pairs.check(a, b, inputs, **options)


def match(source: "Where | Recipe", *, overrides: Overrides = (), overwrite: bool = False,
          checkpoint: Where | None = None, of: Literal["keras", "flax"] = "keras",
          runtime: Literal["tensorflow", "jax"] | None = None) -> dict[str, Any]:
    """Finds which tensors of the two programs of a recipe's pair are one another's, and writes it, with the first
    weights, where the recipe says `model.match`.

    Args:
      source: as `recipe` takes it; `overrides` too.
      overwrite: replace the match and the weights there.
      checkpoint: make the first weights of this one's, `of` one of the two programs.
      runtime: what the Keras side runs on; TensorFlow unless said.
    Returns: what `twinscale match --json` prints: {"match", "weights": the files, "from", "keras", "flax": what was
    found of each side, "exit_code": 0 where outputs agree under the match, else 1}. Raises BadInput where the model is
    no pair, the match is there already, or a tensor has no partner.
    """
    from twinscale.benchmarks import matching

    described = recipe(source, overrides)
    with _ours(), process.interruptible():
        return matching.match(described, overwrite, None if checkpoint is None else at(checkpoint), of, runtime)


# ---- what is trained

def recipe(source: "Where | Recipe", overrides: Overrides = ()) -> "Recipe":
    """The validated recipe of a TOML file, or of one of ours by its name.

    Args:
      source: the file, a name such as "mlp-digits", or a recipe to change.
      overrides: {"train.steps": 200}, or texts as on the command line, ["train.steps=200"].
    The code that the recipe names is trusted from now on, but not that of a recipe in a directory that a command has
    filled. Raises BadInput, which names the key, its value and what was expected.
    """
    from twinscale.common.recipe.file import given

    with _file_of(source) as file:
        return given(file, _words(overrides))


def open_dataset(source: "Where | Recipe", overrides: Overrides = ()) -> "Dataset":
    """The data that a recipe trains on, as both trainers read it; `overrides` as `recipe` takes them.

    Raises BadInput or MissingEnvironment where the data is not there.
    """
    from twinscale.common import data

    with _ours():
        return data.open_dataset(recipe(source, overrides))


def train(source: "Where | Recipe", *, backend: Literal["keras", "jax"], run: Where, overrides: Overrides = (),
          overwrite: bool = False, runtime: Literal["tensorflow", "jax"] | None = None, **options: Any) -> "LoadedRun":
    """Trains a recipe with one backend, in a process of its own, and returns its run. An unfinished run in the
    directory is gone on with, as the command does; where this process is interrupted, the training saves and leaves.

    Args:
      source: as `recipe` takes it; `overrides` too.
      backend: the trainer.
      run: the run's directory, local or in a bucket.
      overwrite: remove what an earlier training left there.
      runtime: of backend "keras", what it runs on; unless said, TensorFlow.
      options: further ones of `twinscale train` by their names, trace="full", trace_every=10, twin_steps=50, stop=100,
        accept_data=True, supervise=True; for `--from` origin="runs/first".
    Raises TwinscaleError, BadInput before anything is loaded or written.
    """
    from twinscale.common.recipe.runtime import check_runtime
    from twinscale.common.training.run import check_run
    from twinscale.common.verbs.shared import backend_of

    described = recipe(source, overrides)
    if described.compress.stages:  # which are no part of a training
        described = described.with_values(compress={"stages": ()})
    trainer = backend_of(backend, runtime)
    check_runtime(described, trainer)
    check_run(at(run), described, trainer, overwrite=overwrite)
    given = {"backend": backend, "run": os.fspath(run), "overwrite": overwrite, **options}
    if runtime:
        given["runtime"] = runtime
    with _file_of(described) as file:
        _command("train", str(file), *_options(given))
    return load_run(run)


# ---- what is compared

def compare(source: "Where | Recipe", *, out: Where, overrides: Overrides = (), overwrite: bool = False,
            operations: bool = False, seeds: int | None = None, place: bool = False, swap: bool = False,
            meshes: bool = False, columns: Sequence[str] | None = None) -> "Verdict | Compression | Columns":
    """Trains a recipe with both backends and returns the Verdict; of a recipe with stages in [compress] a Compression,
    of three columns a Columns. Verdict, report and runs are in the directory `out` besides.

    Args:
      source: as `recipe` takes it; `overrides` too.
      out: the directory, which is new, empty, or holds an unfinished comparison of the same.
      overwrite: remove what an earlier comparison left there.
      operations: measure every operation by itself too (P1).
      seeds: train from so many seeds, and test the final metrics for equivalence (P7).
      place: where they disagree, look for the first operation that does.
      swap: run each program under the other's runtime too.
      meshes: train each backend on several devices and hosts too (P6).
      columns: two or three of "keras", "keras-jax", "jax", the Keras program on TensorFlow and on JAX, and Flax.
    Raises TwinscaleError where there is no verdict. One that says no is none: ask `verdict.agrees`, or in a test let
    `verdict.raise_if_not()` raise Disagreement.
    """
    described, asked = recipe(source, overrides), (_named(source), *_words(overrides))
    with _ours(), process.interruptible():
        if described.compress.stages:
            _only_stages(operations=operations, seeds=seeds, place=place, swap=swap, meshes=meshes, columns=columns)
            from twinscale.benchmarks.compression.compare import compared_stages

            return compared_stages(described, at(out), overwrite=overwrite)
        from twinscale.benchmarks.columns import compared_columns
        from twinscale.benchmarks.columns_asked import parse_columns
        from twinscale.benchmarks.compare import compared

        several = parse_columns(columns)
        verb = compared_columns if len(several) > 2 else compared
        return verb(described, at(out), columns=several, overwrite=overwrite, operations=operations,
                    seeds=_seeds(seeds), place=place, swap=swap, meshes=meshes, asked=asked if asked[0] else ())


def compare_runs(a: Where, b: Where, *, out: Where, overwrite: bool = False, **foreign: Any
                 ) -> "Verdict | Differences":
    """The Verdict on two finished runs, of any machine, version, backend or mesh, that were trained with a trace. They
    are read, and not trained again; verdict and report are in the directory `out` besides.

    Where one of them is the loss curve of a training that Twinscale never ran (a CSV, JSON lines, TensorBoard's
    events), there is no verdict but the Differences, which nothing bounds. Then `foreign` may say what the fields of
    `twinscale.benchmarks.foreign.Asked` are: the columns `step` and `loss`, as tuples of one name or one for each side,
    `shift`, `weights`, the paths of two checkpoints, and `match`.

    Raises BadInput where a directory holds no finished run with a trace, or neither has a twin; or a file is no curve.
    """
    from twinscale.benchmarks.foreign import Asked, compared_foreign
    from twinscale.benchmarks.runs import compared
    from twinscale.common.foreign.curves import is_foreign

    with _ours():
        if is_foreign(at(a)) or is_foreign(at(b)):
            return compared_foreign(at(a), at(b), at(out), Asked(**foreign), overwrite=overwrite)
        if foreign:
            raise BadInput(f"{', '.join(foreign)}: not for two runs of Twinscale, whose traces hold their losses")
        return compared(at(a), at(b), at(out), overwrite=overwrite)


def load_verdict(path: Where) -> "Verdict | Columns":
    """The Verdict in the directory of a comparison, or in a verdict.json; of three columns the Columns, or those in a
    columns.json, whose `pairs` name the directory of each pair's own Verdict. Raises BadInput where there is none."""
    from twinscale.benchmarks.columns_result import read_comparison

    return read_comparison(at(path))


# ---- what a run left

def load_run(path: Where) -> "LoadedRun":
    """The run in a directory, whatever state it is in; raises BadInput where there is none."""
    from twinscale.common.training.run import read_run

    found = at(path)
    return LoadedRun(found, read_run(found))


@dataclass(frozen=True)
class LoadedRun:
    """What a training left in its directory: `path`, and `info`, what its run.json holds (state, versions, devices,
    data, seconds, final metrics). The rest is read when it is asked for."""

    path: Path
    info: dict[str, Any] = field(repr=False)

    @property
    def backend(self) -> str:
        """ "keras", "keras-jax" or "jax"."""
        return self.info["backend"]

    @property
    def state(self) -> str:
        """ "running", "finished", "failed", "interrupted" or "stopped"."""
        return self.info["state"]

    @property
    def final(self) -> dict[str, float | None]:
        """The metrics of the evaluation at its end by name; None is one that was not finite."""
        return self.info["final"]

    @cached_property
    def recipe(self) -> "Recipe":
        """The recipe that it was trained by."""
        from twinscale.common.files.run_files import RunFiles
        from twinscale.common.recipe.file import load

        return load(RunFiles(self.path).recipe)

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """A dict for each step that was logged, such as {"step": 7, "train/loss": 2.5}; None is what was not finite."""
        from twinscale.common.training.run_metrics import read_metrics

        return read_metrics(self.path)

    def series(self, name: str) -> "tuple[np.ndarray, np.ndarray]":
        """(steps, values) of one metric: integers (n,) and float64 (n,), NaN what was not finite. Raises KeyError, with
        the names that there are, where it was not logged."""
        import numpy as np

        lines = [line for line in self.metrics if name in line]
        if not lines:
            names = sorted({key for line in self.metrics for key in line} - {"step"})
            raise KeyError(f"{name}: not logged; there are {', '.join(names)}")
        return (np.array([line["step"] for line in lines], np.int64),
                np.array([line[name] for line in lines], np.float64))

    @cached_property
    def tensors(self) -> "dict[str, np.ndarray]":
        """The final tensors by name, "weights/NAME" and the optimizer's slots; read when they are first asked for.

        Raises BadInput where the run left none: `twinscale train ... --trace full` and `twinscale convert` do.
        """
        from twinscale.common.files.run_files import RunFiles
        from twinscale.common.files.tensors import load_tensors

        files = RunFiles(self.path)
        left = [files.final] if self.info.get("trace") == "full" else []
        found = next((file for file in [*left, files.state.tensors] if exists(file)), None)
        if found is None:
            raise BadInput(f'run {self.path}: has left no whole tensors; train it with trace="full", or let `twinscale '
                           f"convert {shlex.quote(str(self.path))} --to DIR` write its last checkpoint")
        return load_tensors(found)


# ---- how it is asked for

@contextmanager
def _ours() -> Iterator[None]:
    """Lets what Python or a library raises come as the TwinscaleError that the command line would say."""
    try:
        yield
    except Exception as error:
        said = known(error)
        if said is None or said is error:
            raise
        raise said from error


def _words(overrides: Overrides) -> list[str]:
    """Overrides as the command line has them."""
    from twinscale.common.recipe.file import as_override

    if isinstance(overrides, str):
        raise BadInput(f'overrides: a text: expected {{"train.steps": 200}}, or a list, ["{overrides[:60]}"]')
    if isinstance(overrides, Mapping):
        return [as_override(key, value) for key, value in overrides.items()]
    return list(overrides)


@contextmanager
def _file_of(source: "Where | Recipe") -> Iterator[Path | str]:
    """The file of a recipe, or the name of ours; of one that is no file, a file as long as this is open."""
    from twinscale.common.recipe.file import dumps
    from twinscale.common.recipe.schema import Recipe

    if not isinstance(source, Recipe):
        yield os.fspath(source)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recipe.toml"
        write_text(file, dumps(source))
        yield file


def _named(source: "Where | Recipe") -> str | None:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else None


def _seeds(seeds: int | None) -> int | None:
    from twinscale.benchmarks.rungs.outcome import parse_seeds

    return None if seeds is None else parse_seeds(f"SEEDS={seeds}")


def _only_stages(**options: Any) -> None:
    for name, value in options.items():
        if value:
            raise BadInput(f"{name}: not for a recipe with stages in [compress]; compare it with compress.stages=[]")


def _options(given: Mapping[str, Any]) -> Iterator[str]:
    """Options of a command by their names in Python."""
    for name, value in given.items():
        option = "--" + {"origin": "from"}.get(name, name.replace("_", "-"))
        if value is True:
            yield option
        elif value not in (None, False):
            yield from (option, str(value))


def _command(*words: str) -> None:
    """Runs a `twinscale` of its own, which says on our stderr how far it is; raises what ended it. Where we are
    interrupted it is told to save and to leave."""
    last, held = "", None  # what it says last of an error that ends it is said once, as the exception
    with ExitStack() as stack:
        child = stack.enter_context(subprocess.Popen(
            process.training(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, encoding="utf-8", errors="replace", env={**os.environ, process.CHILD: "1"}))
        try:
            for line in child.stdout or ():
                _say(held)
                held = line if line.startswith(OWN) else None
                if not (held or line.startswith(process.STARTUP)):
                    _say(line)
                last = line if line.strip() else last
        except BaseException:
            with suppress(OSError):
                child.terminate()
            raise  # and Popen, as it is left, waits
    if not child.returncode:
        _say(held)
    else:
        said = re.sub(f"^{OWN}", "", last.strip()) or f"twinscale {words[0]} ended with {child.returncode}"
        raise error_of(child.returncode, said)


def _say(line: str | None) -> None:
    if line:
        print(escaped_lines(line), end="", file=sys.stderr, flush=True)
