"""`twinscale export`: a run's model in formats of other programs."""

from typing import Annotated

import typer

from twinscale.common.verbs import shared


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run with a checkpoint, or what convert made of one.")],
    *,
    to: Annotated[str, typer.Option(metavar="DIR", help="Where the formats and export.json go.")],
    formats: Annotated[str, typer.Option(metavar="F,F", help="savedmodel, keras, stablehlo, litert-float, "
                                         "litert-dynamic, litert-int8, safetensors; all that apply.")] = "",
    overwrite: shared.Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print export.json in place of the table.")] = False,
    accept_data: shared.AcceptData = False,
) -> None:
    """Write a run's model in formats that other programs load. Each is loaded again in a process of its own, and what
    it computes on held-out rows is held to the trainer, within a bound that export.json states.

    \b
    Exit code: 0 all agree, 1 one does not, or cannot be written, 4 one needs a package that is not installed.
    \b
    Examples:
      twinscale export runs/keras --to build/export
      twinscale export runs/jax --to build/jax --formats stablehlo,safetensors
    """
    from twinscale.common.export.formats import check_request, lines, made_by, read_export
    from twinscale.common.export.write import export as written
    from twinscale.common.files.access import escaped_lines, place
    from twinscale.common.files.output import answer

    path, out, names = place(run), place(to), tuple(name for name in formats.split(",") if name)
    backend = made_by(path)
    check_request(backend, out, names, overwrite)  # before seconds go into loading a framework
    room = shared.room(shared.ROOMS[backend]).ROOM
    code = written(room, shared.room(shared.ROOMS[backend].replace("room", "export")), path, out, names, overwrite,
                   accept_data)
    answer(read_export(out), lambda about: print(escaped_lines("\n".join(lines(about)))), json)
    shared.suggest("predict", "--help")  # which file, only its owner knows
    raise typer.Exit(code)
