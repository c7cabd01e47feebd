"""`twinscale predict`: an export runs on a file."""

from typing import Annotated

import typer


def predict(
    exported: Annotated[str, typer.Argument(metavar="EXPORT", help="An export's directory, or one of its formats.")],
    *,
    file: Annotated[str, typer.Option("--input", metavar="FILE", help=".txt, .jsonl; .png; .npy, .npz, .safetensors")],
    name: Annotated[str | None, typer.Option("--format", metavar="F", help="The first that agrees.")] = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write all logits there, as safetensors.")] = None,
    top: Annotated[int, typer.Option(metavar="K", min=1, help="How many to print of each.")] = 5,
    trust: Annotated[bool, typer.Option("--trust", help="Run it whatever its operations may do.")] = False,
) -> None:
    """Run an export on text, images or arrays: a JSON line for each, with the likeliest next tokens, or classes.

    A model is a program: a SavedModel, LiteRT or StableHLO file may have operations that read and write files. One with
    any that is not known as arithmetic is refused before it is loaded, unless --trust is given.

    \b
    Examples:
      twinscale predict build/export --input prompt.txt
      twinscale predict build/export --format litert-int8 --input images.npy --out logits.safetensors
      twinscale predict build/export/model.keras --input digit.png --top 3
    """
    from twinscale.common.export.predict import predict as run

    run(exported, file, name, out, top, trust)
