"""`twinscale train`: one backend trains a recipe into a run directory."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from twinscale.common.errors import NO, BadInput
from twinscale.common.verbs import shared

if TYPE_CHECKING:
    from pathlib import Path

    from twinscale.common.recipe.schema import Recipe
    from twinscale.common.training.loop import Probe


def train(
    recipe: shared.Recipe,
    overrides: shared.Overrides = None,
    *,
    backend: Annotated[Literal["keras", "jax"], typer.Option(help="The trainer.")],
    runtime: shared.Runtime = None,
    run: Annotated[str, typer.Option(metavar="DIR", help="The run's directory; an unfinished run there is resumed.")],
    overwrite: shared.Overwrite = False,
    precision: shared.Precision = None,
    trace: Annotated[Literal["sketch", "full"] | None, typer.Option(help="Leave what compare-runs reads.")] = None,
    trace_every: Annotated[int, typer.Option(metavar="N", min=0, help="Steps between; 0: train.log_every.")] = 0,
    twin_steps: Annotated[int, typer.Option(metavar="N", min=1, help="Steps of the twin that a trace has.")] = 50,
    origin: Annotated[str | None, typer.Option("--from", metavar="DIR", help="Go on from a run, or convert's state of "
                                               "one; or begin with Hugging Face's directory, or hub:ORG/NAME.")] = None,
    stop: Annotated[int | None, typer.Option(metavar="STEP", min=1, help="End after so many updates for now.")] = None,
    accept_data: shared.AcceptData = False,
    supervise: Annotated[bool, typer.Option("--supervise", help="Start it again when it dies.")] = False,
    restarts: Annotated[int, typer.Option(metavar="N", min=0, help="At most, without a new checkpoint.")] = 5,
) -> None:
    """Train a recipe with one backend and leave a run directory.

    \b
    Examples:
      twinscale train recipes/decoder-stdlib.toml --backend jax --run runs/jax
      twinscale train recipes/decoder-stdlib.toml train.steps=200 model.dropout=0.1 --backend keras --run runs/keras
      twinscale train recipes/decoder-stdlib.toml --backend keras --runtime jax --run runs/keras-jax
      twinscale train recipes/decoder-stdlib.toml devices.data=4 --backend jax --run runs/four --trace sketch
      twinscale train recipes/decoder-stdlib.toml --stop 100 --backend keras --run runs/first
      twinscale train recipes/decoder-stdlib.toml --from runs/first --backend jax --run runs/second
      twinscale train my-encoder.toml --from build/minilm/model --backend jax --run runs/tuned
      twinscale train recipes/decoder-stdlib.toml train.save_every=50 --supervise --backend jax --run runs/jax

    \b
    Exit code: 0 it is done, 75 it was asked to end (SIGTERM) and has saved: the same command goes on; 70 it hung, 71
    another host is gone, 74 it could not save; 1 the loss is not finite, or no checkpoint is whole.
    """
    from twinscale.common.files.access import place
    from twinscale.common.training.run import check_run

    asked, state = shared.with_weights(shared.with_precision(overrides, precision), origin)
    trainer = shared.backend_of(backend, runtime)
    described = trained_by(trainer, recipe, asked)
    directory = place(run)
    old = check_run(directory, described, trainer, overwrite=overwrite)  # before seconds go into loading a framework
    if stop is not None and stop > described.train.steps:
        raise BadInput(f"--stop {stop}: past the end, train.steps={described.train.steps}")
    if supervise:
        raise typer.Exit(supervised(run, restarts, overwrite))
    tell_begin(described, directory, trainer)
    with leaving_at_once(described.devices.hosts != 1):
        room = shared.room(shared.ROOMS[trainer])
        probe = probe_of(described, trace, trace_every, twin_steps, stop, accept_data)
        begun = begun_from(state, described) if state and (overwrite or (old or {}).get("saved") is None) else None
        final = room.train(described, run_dir=directory, overwrite=overwrite, probe=probe, begun=begun)
    if described.devices.hosts == 1:  # else each of many would say so
        tell_end(directory, final)
        shared.suggest("compare", recipe, *(overrides or []), *shared.precision_words(precision),
                       *shared.given("from", None if state else origin), "--out", f"build/{described.name}")


def trained_by(backend: str, recipe: str, overrides: Sequence[str]) -> "Recipe":
    """The recipe as a backend trains it. Raises BadInput where it asks for what that backend does not have."""
    from twinscale.common.families.pair import check_backend
    from twinscale.common.recipe.file import given
    from twinscale.common.recipe.runtime import check_runtime

    described = given(recipe, overrides)
    if described.compress.stages:  # which `compress` trains
        described = described.with_values(compress={"stages": ()})
    check_backend(described.model, backend)
    check_runtime(described, backend)
    return described


def tell_begin(recipe: "Recipe", run: "Path", backend: str) -> None:
    """Says what of the recipe the backend does not read, what rules remove of the texts, what the recipe's arrays have
    that its objective does not read, and what its first weights are where they are a file's. Raises MissingEnvironment
    where a tracker's package is missing."""
    from twinscale.common.data import open_dataset
    from twinscale.common.data.arrays import unread
    from twinscale.common.data.quality.verdicts import often
    from twinscale.common.families import reads_arrays
    from twinscale.common.recipe.runtime import unread as of_no_use
    from twinscale.common.trackers import check_trackers

    check_trackers(recipe, run)
    if ignored := of_no_use(recipe, backend):
        shared.say(ignored)
    if reads_arrays(recipe.model) or recipe.data.chooses:
        manifest = open_dataset(recipe).manifest
        for said in filter(None, (unread(manifest), often(recipe, manifest))):
            shared.say(said)
    shared.tell_weights(recipe)


def tell_end(directory: Any, final: Mapping[str, float] | None) -> None:
    """Says what the evaluation at the end says, with a table of classes or of entities where these were measured."""
    from twinscale.common.metrics.words import line, tables
    from twinscale.common.training.run import read_run

    if final:
        lines = [f"held out: {line(final)}", *tables(final, read_run(directory).get("sums") or {})]
        print("\n".join(lines), file=sys.stderr)


def probe_of(recipe: "Recipe", trace: Literal["sketch", "full"] | None, trace_every: int, twin_steps: int,
             stop: int | None, accept_data: bool) -> "Probe":
    """What a training is to leave behind, and when it is to end, by the options."""
    from twinscale.common.training.loop import Probe, traced_steps

    traced = traced_steps(recipe, trace_every or recipe.train.log_every) if trace else ()
    return Probe(trace=trace, traced=traced, twin_steps=twin_steps if trace else 0, log_every=1 if trace else None,
                 stop=stop, accept_data=accept_data, resumable=stop is not None and stop < recipe.train.steps)


def supervised(run: str, restarts: int, overwrite: bool) -> int:
    """The exit code of the same command, started again whenever it dies. Raises BadInput with --overwrite."""
    from twinscale.common.training.supervise import supervise

    arguments = [word for word in sys.argv[1:] if word != "--supervise"]
    if overwrite:  # once
        raise BadInput("--overwrite with --supervise would remove what each start has saved: remove the run first")
    return supervise(arguments, run, restarts)


def begun_from(path: str, recipe: "Recipe") -> dict[str, Any]:
    """The state to go on from: of what --from names, or of what is made of the run there."""
    from dataclasses import replace

    from twinscale.common.files.access import place
    from twinscale.common.training.canonical import read, state_of

    if recipe.devices.hosts != 1 and not (place(path) / "index.json").exists():
        raise BadInput(f"--from {path}: several hosts would convert it at once; `twinscale convert {path} --to DIR` "
                       "first, then --from DIR")
    with state_of(path) as state:
        begun = read(state, recipe)
    kept = begun["kept"] and replace(begun["kept"], path=place(path))
    return begun | {"origin": begun["origin"] | {"path": path}, "kept": kept}


@contextlib.contextmanager
def leaving_at_once(several: bool) -> Iterator[None]:
    """Of several hosts that end in an error, each leaves without waiting for the others, which may be gone."""
    try:
        yield
    except BaseException as error:
        if not several:
            raise
        code = shared.failed(error) if isinstance(error, Exception | KeyboardInterrupt) else NO
        sys.stderr.flush()
        os._exit(code)
