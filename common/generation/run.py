"""A run's decoder writes text, and what it wrote is held to the trainer's forward pass.

What it gives, as JSON too: {"run", "backend", "step", "precision", "cached", "drawing", "rows": [{"prompt", "text",
"ids", "logprobs" (nats), "margins" (of logits), "ended": "tokens", "end" or "stop"}], "tokens", "seconds",
"near_ties", "moves" (what rounding may make of a logit), "trainer": [{"cached", "worst", "allowed" (nats),
"bound_from", "holds"}]}.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.compress.recipes import dense_recipe
from twinscale.common.data.tokenizers import Tokenizer, byte_tokenizer, kept_bpe
from twinscale.common.errors import DID_IT, NO, BadInput
from twinscale.common.export.formats import Shape
from twinscale.common.families import family_of
from twinscale.common.families.decoder import Decoder
from twinscale.common.files.access import escaped_lines, shown
from twinscale.common.files.run_files import StateFiles
from twinscale.common.files.tensors import load_tensors
from twinscale.common.generation.check import Trainer, apart, near_ties, trained
from twinscale.common.generation.loop import Asked, Row, Sampler, check_room, generate
from twinscale.common.generation.sample import Drawing
from twinscale.common.generation.text import ending, saying, text_of
from twinscale.common.recipe.file import load
from twinscale.common.recipe.schema import master_dtype
from twinscale.common.registry import short
from twinscale.common.training.canonical import converted, kept_of, read_index, shipped

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe
    from twinscale.common.training.room import Room

TOKENS = 64  # that are generated unless more or fewer are asked for, or fit


@dataclass(frozen=True)
class Wanted:
    """What a person asks for: texts to go on from, at most how many tokens each (None: TOKENS, or what fits), texts
    that end a row, how tokens are drawn, whether keys and values are kept, and whether both ways are checked."""

    prompts: tuple[str, ...]
    tokens: int | None = None
    stops: tuple[str, ...] = ()
    drawing: Drawing = Drawing()
    cached: bool = True
    check: bool = False


@dataclass(frozen=True)
class Opened:
    """A run's decoder: {canonical name: array} and what its builder and its text need."""

    recipe: "Recipe"
    shape: Shape
    tensors: dict[str, np.ndarray]
    tokenizer: Tokenizer
    step: int


def write(room: "Room", generator: ModuleType, path: Path, wanted: Wanted, precision: str | None = None,
          say: Callable[[str], Any] | None = None) -> dict[str, Any]:
    """What this module's docstring says, of a run of either backend, or of what `convert` has made of one.

    Args:
      room: the Room of the backend that generates. generator: its module `generate`.
      path: the run's directory, or the state's.
      precision: to compute in; None: the run's.
      say: gets the text of the rows, and their prompts, in pieces as it comes.
    Raises BadInput where the run is no decoder's or has no checkpoint, or prompts do not fit.
    """
    opened = open_run(room, path, precision)
    length, tokenizer = opened.shape.example_shape[0], opened.tokenizer
    prompts = [encoded(tokenizer, prompt, number) for number, prompt in enumerate(wanted.prompts, 1)]
    longest = max(map(len, prompts), default=0)
    tokens = wanted.tokens or max(1, min(TOKENS, length - longest))
    check_room(prompts, tokens, length)
    asked = Asked(tokens, length, wanted.drawing, wanted.cached, ending(tokenizer, wanted.stops))
    tell = saying(lambda ids: text_of(tokenizer, wanted.stops, ids), wanted.stops, wanted.prompts,
                  say or (lambda text: None))
    with room.numerics(opened.recipe):
        sampler: Sampler = generator.sampler(opened.recipe, opened.shape, opened.tensors)
        start = time.perf_counter()
        rows = generate(sampler, prompts, asked, tell)
        seconds = time.perf_counter() - start
        trainer = trained(generator.trainer(opened.recipe, opened.shape), opened.tensors, rows, length,
                          opened.recipe.train.precision)
        held = [held_to(trainer, rows, wanted.cached)]
        if wanted.check:
            held.append(held_to(trainer, followed(sampler, rows, replace(asked, cached=not wanted.cached)),
                                not wanted.cached))
    return {"run": shown(path), "backend": room.backend, "step": opened.step,
            "precision": opened.recipe.train.precision, "cached": wanted.cached, "drawing": asdict(wanted.drawing),
            "rows": [said(row, prompt, text_of(tokenizer, wanted.stops, row.ids))
                     for row, prompt in zip(rows, wanted.prompts, strict=True)],
            "tokens": sum(len(row.ids) for row in rows), "seconds": seconds, "near_ties": near_ties(trainer, rows),
            "moves": trainer.moves, "trainer": held}


def encoded(tokenizer: Tokenizer, prompt: str, number: int) -> np.ndarray:
    """The ids int32 (T,) of a prompt, that of a number; raises BadInput where it is no text: bytes of an argument that
    are no UTF-8 are lone surrogates in Python, for which tokenizers have errors of their own."""
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"--prompt: number {number} is no UTF-8 from character {error.start + 1} on: write it as "
                       "UTF-8") from None
    return tokenizer.encode(prompt)


def followed(sampler: Sampler, rows: Sequence[Row], asked: Asked) -> list[Row]:
    """Rows of the same tokens, with their log-probabilities as another way of asking has them."""
    forced = [row.ids for row in rows]
    again = replace(asked, tokens=max(map(len, forced)), forced=forced, done=lambda ids: "")
    return generate(sampler, [row.prompt for row in rows], again)


def held_to(trainer: Trainer, rows: Sequence[Row], cached: bool) -> dict[str, Any]:
    """The rows' log-probabilities beside the trainer's."""
    worst = apart(trainer, rows)
    return {"cached": cached, "worst": worst, "allowed": trainer.allowed, "bound_from": trainer.bound_from,
            "holds": bool(worst <= trainer.allowed)}


def said(row: Row, prompt: str, text: str) -> dict[str, Any]:
    """A row as JSON has it; a margin that nothing can close is None."""
    return {"prompt": prompt, "text": text, "ids": row.ids, "logprobs": [choice.logprob for choice in row.choices],
            "margins": [choice.margin if np.isfinite(choice.margin) else None for choice in row.choices],
            "ended": row.ended}


# ---- the run

def open_run(room: "Room", path: Path, precision: str | None = None) -> Opened:
    """The Opened decoder of a run, in the precision that is asked for or its own; raises BadInput for other models."""
    recipe = load(StateFiles(path).recipe, []) if StateFiles(path).recipe.exists() else None
    if recipe is not None:  # before a framework computes anything
        check_decoder(path, recipe)
    with converted(room, path) as at:
        recipe = load(StateFiles(at).recipe, [])
        tensors = shipped(recipe, load_tensors(StateFiles(at).tensors))
        step, kept = read_index(at)["step"], kept_of(at)
    check_decoder(path, recipe)
    if kept is None:
        raise BadInput(f"{shown(path)}: keeps nothing of its data, and so no tokenizer; convert the run again")
    recipe = dense_recipe(recipe)
    if precision:
        recipe = recipe.with_values(train={"precision": precision})
    tensors = {name: x.astype(master_dtype(recipe)) for name, x in tensors.items()}  # whose last place a twin dithers
    known = kept.manifest["tokenizer"]
    tokenizer = byte_tokenizer() if kept.tokenizer is None else kept_bpe(kept.tokenizer, known["vocabulary"])
    return Opened(recipe, Shape(tokenizer.vocabulary, (recipe.data.sequence,)), tensors, tokenizer, step)


def check_decoder(path: Path, recipe: "Recipe") -> None:
    """Raises BadInput unless a recipe's model is a decoder, whose options say how its cache lies."""
    if family_of(recipe.model).options is not Decoder:
        raise BadInput(f'{shown(path)}: model.family = "{short(recipe.model.family)}": only decoders of our own go on '
                       "from a prompt; `twinscale export` and `twinscale predict` run any model")




# ---- what is said

def streamed(text: str) -> None:
    """Says a piece of text on stdout at once; control characters but tabs and line ends are escaped."""
    if text:
        print("\t".join(map(escaped_lines, text.split("\t"))), end="", flush=True, file=sys.stdout)


def lines(found: Mapping[str, Any]) -> list[str]:
    """What is said of the text besides itself."""
    rate, ties = found["tokens"] / max(found["seconds"], 1e-9), found["near_ties"]
    return [f"{found['backend']}, step {found['step']}, {found['precision']}: {found['tokens']} tokens in "
            f"{found['seconds']:.3g} s, compiling included ({rate:.3g} a second)",
            f"near ties: {ties} of {found['tokens']} tokens, whose margin is within {found['moves']:.2g}, what "
            "rounding may make of a logit",
            *(f"sampler against trainer, {'with' if held['cached'] else 'without'} cache: {held['worst']:.2g} of "
              f"{held['allowed']:.2g} nats allowed ({held['bound_from']}): "
              f"{'holds' if held['holds'] else 'does not hold'}" for held in found["trainer"])]


def exit_code(found: Mapping[str, Any]) -> int:
    """0 where the sampler is the trainer in every way that was looked at, else 1."""
    return DID_IT if all(held["holds"] for held in found["trainer"]) else NO
