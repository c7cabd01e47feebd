"""`twinscale match`: asks both rooms which tensors of a pair's programs are one another's."""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscale.benchmarks.sides import ColumnPair, labelled, rooms_of
from twinscale.benchmarks.workers import open_workers
from twinscale.common.data import open_dataset
from twinscale.common.errors import DID_IT, NO, BadInput, one_of
from twinscale.common.families.pair import Pair, refuse_of_one, sides_of, whence
from twinscale.common.files.access import check_regular, exists, read_bytes, read_text, shown, write_bytes, write_text
from twinscale.common.files.pins import unpinned
from twinscale.common.foreign.taken import first_of
from twinscale.common.pairs.first import CAME, SECOND, first_draws, is_checkpoint, read_first, write_first
from twinscale.common.pairs.match import with_computes
from twinscale.common.pairs.sides import NAMED

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe



def match(recipe: "Recipe", overwrite: bool = False, checkpoint: Path | None = None, of: str | None = None,
          runtime: str | None = None) -> dict[str, Any]:
    """Finds the match of a pair, and writes it and the first weights where the recipe has them.

    Args:
      recipe: one whose model is a pair.
      overwrite: replace files that are there.
      checkpoint: of whose weights the first ones are made; None for the first program's own initial values.
      of: whose checkpoint it is, "keras" or "flax", or "a" or "b": the match carries one of the second's back. Unless
        said, the first's.
      runtime: what the Keras side runs on, "tensorflow" or "jax", of a pair of two frameworks.
    Returns: {"match", "weights": their files, "from": where the first weights come from, "keras", "flax", or "a", "b":
    what was found of each side, "exit_code": 0 where outputs agree under the match, 1 where they do not}. Raises
    BadInput where the model is no pair, a file is there already, or a tensor has no partner or is not in the
    checkpoint.
    """
    if not isinstance(recipe.model, Pair):
        raise BadInput(f'model.family = "{recipe.model.family}": its tensors have one name in both backends; a pair is '
                       'matched, model.family = "pair"')
    first_side, second = sides_of(recipe.model)
    columns = columns_on(recipe.model, runtime)
    whose = one_of({side: NAMED.get(side, side) for side in (first_side, second)}, of or first_side, "--of")
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
    with tempfile.TemporaryDirectory() as folder, labelled(recipe.model, columns):
        first, outputs, out = (Path(folder) / name for name in (
            "first.safetensors", "outputs.safetensors", "match.toml"))
        with open_workers(rooms=rooms_of(recipe.model, columns), anew=True, model=recipe.model) as workers:
            given_out = {"first": first, "outputs": outputs, "out": out}
            found = {first_side: workers["keras"].ask("leave_program", loose, first=first, outputs=outputs),
                     second: workers["jax"].ask("match_program", loose, **given_out)}
            if "unmatched" in found[second]:
                idle = workers["keras"].ask("idle_program", loose, names=found[second]["unmatched"])
                found[second] = workers["jax"].ask("match_program", loose, **given_out, idle=idle)
        came = f"{NAMED.get(first_side, first_side)}'s initial values"
        if given:  # which is read anew each time
            came = whence(recipe.model)
            first_of(read_first(str(first))[0], given, out if recipe.model.weights_of in SECOND else None)
        elif checkpoint is not None:
            came = f"the checkpoint {checkpoint}, of {whose}"
            start_from(first, out, checkpoint, of or first_side)
        text = read_text(out).replace("[tensors]", f"{CAME}{shown(came)}.\n[tensors]", 1)
        narrow = [f"{NAMED.get(side, side)} computes in less than float64 whatever comes in, first at "
                  f"{found[side]['lower']}" for side in found if found[side]["lower"]]
        write_text(out, with_computes(text, narrow) if narrow else text)
        for made, path in zip((out, first), files, strict=True):
            write_bytes(path, read_bytes(made, most=None))
    return {"match": str(files[0]), "weights": str(files[1]), "from": came, **found,
            "narrow": narrow, "exit_code": DID_IT if found[second]["agrees"] else NO}


def columns_on(model: Pair, runtime: str | None) -> ColumnPair:
    """The columns that a pair is matched as, where its Keras side runs on a runtime that is named; () of the usual
    ones. Raises BadInput where both programs are of one framework, for one that is not theirs."""
    if runtime != "jax":
        return ()
    refuse_of_one(model, "--runtime jax", "`twinscale compare` trains them on their framework's own; leave it out")
    return ("keras-jax", "jax")


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
    """Replaces the values in a file of first weights by a checkpoint's: `of` "keras" or "a" by its own
    names, of "flax" or "b" what the match takes back of it. Raises BadInput, by name, where they do not fit."""
    tensors, _ = read_first(str(first))
    values = first_of(tensors, checkpoint, match if of in SECOND else None)
    write_first(first, tensors, values, first_draws(str(first)))


def sentence(found: dict[str, Any]) -> str:
    """What was found, for a person."""
    of = of_second(found)
    trials = f"{of['tried']} trial{'s' * (of['tried'] != 1)}"
    how = f"{of['lines']} tensors matched in {trials} and {of['seconds']:.1f} s"
    if of["agrees"]:
        return f"{how}: outputs differ by {of['difference']:.1e}."
    return (f"{how}, but outputs still differ by {of['difference']:.1e}: the programs are not one function, or the "
            "match of their names is not theirs. Look at it; `twinscale compare` says where they part.")


def of_second(found: dict[str, Any]) -> dict[str, Any]:
    """What was found of the side whose tensors the match makes: the port, or b."""
    return next(found[side] for side in SECOND if side in found)


def said(found: dict[str, Any]) -> None:
    """Says it on stderr."""
    narrow = [f"{line}: the ladder is climbed in float32" for line in found.get("narrow", ())]
    for line in (*of_second(found).get("told", ()), *narrow):
        print(f"twinscale: {shown(line)}", file=sys.stderr)
    print(f"twinscale: {sentence(found)} First weights: {shown(found['from'])}.", file=sys.stderr)
