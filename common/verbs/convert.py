"""`twinscale convert`: a run's state for any backend."""

from typing import Annotated

import typer

from twinscale.common.verbs import shared


def convert(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The directory of a run with a checkpoint; or "
                                  "hub:ORG/NAME.")],
    *,
    to: Annotated[str, typer.Option(metavar="DIR", help="Where the state goes.")],
    hugging_face: Annotated[bool, typer.Option("--hugging-face", help="The model alone, as that library has it.")
                            ] = False,
    best: Annotated[bool, typer.Option("--best", help="The best checkpoint by train.watch, in place of the newest.")
                    ] = False,
) -> None:
    """Write the state of a run's newest checkpoint in no backend's format: safetensors by canonical name, weights
    and optimizer slots, with an index. Any backend goes on from it with `train --from`. Of hub:ORG/NAME it is the
    model as the hub has it, in a directory that `train --from` begins with on any machine.

    \b
    Examples:
      twinscale convert runs/keras --to build/state
      twinscale convert runs/keras --to build/model --hugging-face
      twinscale convert runs/keras --to build/best --best
      twinscale convert hub:ORG/NAME@REVISION --to build/model
    """
    from twinscale.common.backends import BOTH
    from twinscale.common.errors import BadInput
    from twinscale.common.files.access import place
    from twinscale.common.files.hub import copied, is_hub
    from twinscale.common.recipe.file import load
    from twinscale.common.training.canonical import check_target
    from twinscale.common.training.canonical import convert as written
    from twinscale.common.training.run import follow_run

    if is_hub(run):
        shared.only("a model of a hub, which is in that library's layout", best=best or None,
                    **{"hugging-face": hugging_face or None})
        shared.say(f"the model is in {to}: {copied(run, place(to))}")
        return
    if hugging_face and best:
        raise BadInput("--best --hugging-face: `convert --best` first, then that library's layout of what it has made")
    if hugging_face:
        save_model(run, to)
        return
    opened, described = follow_run(run), load(place(run) / "recipe.toml", [])
    check_target(place(to), described, opened)  # before seconds go into loading a framework
    step = written(shared.room(shared.ROOMS[opened.info["backend"]]).ROOM, described, opened, place(to), best)
    shared.say(f"the state after {step} updates is in {to}")
    other = next(backend for backend in BOTH if backend != opened.info["backend"])
    shared.suggest("train", str(place(run) / "recipe.toml"), "--from", to, "--backend", other, "--run", "runs/next")


def save_model(run: str, to: str) -> None:
    """Writes the model of a run, or of what convert has made of one, in the layout of the Hugging Face library."""
    from twinscale.common.export.hugging_face import save
    from twinscale.common.files.access import place
    from twinscale.common.training.canonical import model_of

    recipe, tensors = model_of(place(run))
    found = save(recipe, tensors, place(to))
    shared.say(f"the model is in {to}: {found['note']}, {len(tensors)} tensors, read again bit for bit")
