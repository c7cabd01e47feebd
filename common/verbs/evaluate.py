"""`twinscale evaluate`: a run's model on held-out rows, those for a test, or a file's."""

from typing import Annotated, Any, Literal

import typer

from twinscale.common.verbs import shared


def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's directory, or what convert made of one.")],
    *,
    on: Annotated[str, typer.Option(metavar="ROWS", help="held_out; test, the file for it in the folder of "
                                                         "data.source; or a file of the same kind.")] = "held_out",
    backend: Annotated[Literal["jax", "keras", "both"] | None, typer.Option(help="The run's own unless said.")] = None,
    runtime: shared.Runtime = None,
    accept_data: shared.AcceptData = False,
    json: Annotated[bool, typer.Option("--json", help="Print {backend: {metric: value}} in place of lines.")] = False,
) -> None:
    """Evaluate a run's model once more: what sums it up on a line, and a table of classes or of entities where
    train.metrics asks for them. A state is of no backend: any evaluates it, and both one after another.

    \b
    Examples:
      twinscale evaluate runs/jax --on test
      twinscale evaluate runs/keras --on test --backend both
      twinscale evaluate runs/keras --backend keras --runtime jax
      twinscale evaluate runs/jax --on more.txt --json
    """
    from twinscale.common.backends import BOTH
    from twinscale.common.files.access import place
    from twinscale.common.files.run_files import StateFiles
    from twinscale.common.recipe.file import load
    from twinscale.common.recipe.runtime import check_runtime
    from twinscale.common.training.canonical import read, state_of
    from twinscale.common.training.evaluating import evaluate_state

    named = shared.backends_of(backend, runtime, {"both": BOTH})
    with state_of(place(run)) as state:
        described = load(StateFiles(state).recipe, [])
        begun = read(state, described)
        found = {}
        for name in named or (begun["origin"]["backend"],):
            check_runtime(described, name)
            room = shared.room(shared.ROOMS[name]).ROOM
            found[name] = evaluate_state(room, described, begun, on, accept_data)
    if json:
        shared.print_json({name: metrics for name, (metrics, _) in found.items()})
    else:
        tell(found)


def tell(found: dict[str, Any]) -> None:
    """Prints what each backend says, and the table of the last."""
    from twinscale.common.metrics.words import line, tables

    for name, (metrics, _) in found.items():
        print(f"{name}: {line(metrics)}")
    if len(found) == 2:
        first, second = (metrics for metrics, _ in found.values())
        print(f"largest difference: {max(abs(first[name] - second[name]) for name in first):.2g}")
    print("".join(f"{one}\n" for one in tables(*list(found.values())[-1])), end="")
