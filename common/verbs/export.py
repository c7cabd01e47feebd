"""`twinscale export`: a run's model in formats of other programs."""

from typing import Annotated, Literal

import typer

from twinscale.common.verbs import shared


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run with a checkpoint, or what convert made of one.")],
    *,
    to: Annotated[str, typer.Option(metavar="DIR", help="Where the formats and export.json go.")],
    formats: Annotated[str, typer.Option(metavar="F,F", help="savedmodel, keras, stablehlo, litert-float, "
                                         "litert-dynamic, litert-int8, safetensors; all that apply.")] = "",
    backend: Annotated[Literal["jax", "keras"] | None, typer.Option(help="Whose formats; the run's own unless said.")
                       ] = None,
    runtime: shared.Runtime = None,
    overwrite: shared.Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print export.json in place of the table.")] = False,
    accept_data: shared.AcceptData = False,
) -> None:
    """Write a run's model in formats that other programs load. Each is loaded again in a process of its own, and what
    it computes on held-out rows is held to the trainer, within a bound that export.json states.

    Weights are of no backend: with --backend another's program writes and checks them. Those of Keras on JAX the Keras
    program writes on TensorFlow, and the JAX one as StableHLO.

    \b
    Exit code: 0 all agree, 1 one does not, or cannot be written, 4 one needs a package that is not installed.
    \b
    Examples:
      twinscale export runs/keras --to build/export
      twinscale export runs/jax --to build/jax --formats stablehlo,safetensors
      twinscale export runs/keras-jax --to build/stablehlo --backend jax
    """
    from twinscale.common.backends import BACKENDS
    from twinscale.common.export.formats import check_request, lines, made_by, read_export
    from twinscale.common.export.write import export as written
    from twinscale.common.files.access import escaped_lines, place
    from twinscale.common.files.output import answer

    path, out, names = place(run), place(to), tuple(name for name in formats.split(",") if name)
    named = shared.backends_of(backend, runtime, {})
    owner = named[0] if named else made_by(path)
    check_request(owner, out, names, overwrite)  # before seconds go into loading a framework
    module = shared.ROOMS[BACKENDS[owner].exporter]
    code = written(shared.room(module).ROOM, shared.room(module.replace("room", "export")), path, out, names, overwrite,
                   accept_data, owner)
    answer(read_export(out), lambda about: print(escaped_lines("\n".join(lines(about)))), json)
    shared.suggest("predict", "--help")  # which file, only its owner knows
    raise typer.Exit(code)
