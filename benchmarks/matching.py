"""`twinscale match`: asks both rooms which tensors of a pair's programs are one another's."""

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscale.benchmarks.workers import Worker
from twinscale.common.data import open_dataset
from twinscale.common.errors import DID_IT, NO, BadInput, one_of
from twinscale.common.families.pair import Pair, whence
from twinscale.common.files.access import check_regular, exists, read_bytes, read_text, shown, write_bytes, write_text
from twinscale.common.files.pins import unpinned
from twinscale.common.foreign.weights import first_of
from twinscale.common.pairs.first import CAME, is_checkpoint, read_first, write_first

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

OF = {"keras": "the Keras model", "flax": "its port"}


def match(recipe: "Recipe", overwrite: bool = False, checkpoint: Path | None = None, of: str = "keras"
          ) -> dict[str, Any]:
    """Finds the match of a pair, and writes it and the first weights where the recipe has them.

    Args:
      recipe: one whose model is a pair.
      overwrite: replace files that are there.
      checkpoint: of whose weights the first ones are made; None for the Keras model's own initial values.
      of: whose checkpoint it is, "keras" or "flax": the match carries one of the port's back.
    Returns: {"match", "weights": their files, "from": where the first weights come from, "keras", "flax": what was
    found of each side, "exit_code": 0 where outputs agree under the match, 1 where they do not}. Raises BadInput where
    the model is no pair, a file is there already, or a tensor has no partner or is not in the checkpoint.
    """
    if not isinstance(recipe.model, Pair):
        raise BadInput(f'model.family = "{recipe.model.family}": its tensors have one name in both backends; a pair is '
                       'matched, model.family = "pair"')
    whose = one_of(OF, of, "--of")
    if checkpoint is not None and not checkpoint.is_dir():
        check_regular(checkpoint)
    files, given = files_of(recipe.model, checkpoint)
    there = [path for path in files if exists(path)]
    if there and not overwrite:
        raise BadInput(f"{shown(there[0])}: is there already: `twinscale compare` reads it, and --overwrite "
                       "replaces it")
    loose = recipe.with_values(train={"precision": "float32"}, model={
        "match": str(files[0]), "weights": str(files[1])})
    open_dataset(loose)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as aside:
        first, outputs, out = (Path(folder) / name for name in (
            "first.safetensors", "outputs.safetensors", "match.toml"))
        starting = aside.submit(Worker, "jax")
        with closing(Worker("keras")) as keras, closing(starting.result()) as jax:
            found = {"keras": keras.ask("leave_program", loose, first=first, outputs=outputs)}
            found["flax"] = jax.ask("match_program", loose, first=first, outputs=outputs, out=out)
            if "unmatched" in found["flax"]:
                idle = keras.ask("idle_program", loose, names=found["flax"]["unmatched"])
                found["flax"] = jax.ask("match_program", loose, first=first, outputs=outputs, out=out, idle=idle)
        came = "the Keras model's initial values"
        if given:  # which is read anew each time
            came = whence(recipe.model)
            first_of(read_first(str(first))[0], given, out if recipe.model.weights_of == "flax" else None)
        elif checkpoint is not None:
            came = f"the checkpoint {checkpoint}, of {whose}"
            start_from(first, out, checkpoint, of)
        write_text(out, read_text(out).replace("[tensors]", f"{CAME}{shown(came)}.\n[tensors]", 1))
        for made, path in zip((out, first), files, strict=True):
            write_bytes(path, read_bytes(made, most=None))
    return {"match": str(files[0]), "weights": str(files[1]), "from": came, **found,
            "exit_code": DID_IT if found["flax"]["agrees"] else NO}


def files_of(model: Pair, checkpoint: Path | None) -> tuple[tuple[Path, Path], Path | None]:
    """((the match, the first weights beside it or where the recipe has them): what is to be written; the checkpoint
    that the recipe names in their place, which stays as it is, or None). Raises BadInput where two are named."""
    named = unpinned(model.weights)
    if not exists(named) and named.suffix != ".safetensors":  # which is what is written there
        raise BadInput(f"model.weights: {shown(named)}: no such checkpoint: leave it out to begin with the Keras "
                       "model's initial values")
    if not is_checkpoint(named) or named == model.start.beside:
        return (unpinned(model.match), named), None
    if checkpoint is not None:
        raise BadInput(f"--from: model.weights is a checkpoint already, {shown(named)}: leave out one of them")
    return (unpinned(model.match), model.start.beside), named


def start_from(first: Path, match: Path, checkpoint: Path, of: str) -> None:
    """Replaces the values in a file of first weights by a checkpoint's: `of` "keras" by its own names, of "flax" what
    the match takes back of it. Raises BadInput, by name, where they do not fit."""
    tensors, _ = read_first(str(first))
    write_first(first, tensors, first_of(tensors, checkpoint, match if of == "flax" else None))


def sentence(found: dict[str, Any]) -> str:
    """What was found, for a person."""
    of = found["flax"]
    how = f"{of['lines']} tensors matched in {of['tried']} trials and {of['seconds']:.1f} s"
    if of["agrees"]:
        return f"{how}: outputs differ by {of['difference']:.1e}."
    return (f"{how}, but outputs still differ by {of['difference']:.1e}: the programs are not one function, or the "
            "match of their names is not theirs. Look at it; `twinscale compare` says where they part.")


def said(found: dict[str, Any]) -> None:
    """Says it on stderr."""
    for line in found["flax"].get("told", ()):
        print(f"twinscale: {shown(line)}", file=sys.stderr)
    print(f"twinscale: {sentence(found)} First weights: {shown(found['from'])}.", file=sys.stderr)
