"""A JAX program that the user has written, as a model of a recipe: the canonical tensors are those of the pair's other
program, and this one is called with what the match makes of them; a, of two JAX programs, is called with its own."""

from functools import lru_cache

import jax
import jax.numpy as jnp
from flax import nnx

from twinscale.common.data import input_specs
from twinscale.common.families.pair import side_in
from twinscale.common.pairs.draws import draws_of
from twinscale.common.pairs.first import canonical_names, first_tensors
from twinscale.common.pairs.sides import (
    asked,
    built,
    check_draws,
    check_program,
    check_width,
    example,
    logits_of,
    match_in,
    specs_of,
    tensors_in,
    tensors_out,
    used_of,
)
from twinscale.jaxscale.programs import open_program
from twinscale.jaxscale.taps import tap


def build(recipe, classes, example_shape, kinds):
    """A module from a dict of inputs to logits (B, T, V), (B, classes) or of arrays (B, ...), by the user's own."""
    specs = specs_of(input_specs(recipe, example_shape))
    return Pair(recipe.model, specs, classes, kinds)


@lru_cache(4)
def opened(m, specs, precision, classes):
    """The Program of a pair's JAX side in a precision, called once. Raises BadInput where it breaks or gives no
    logits."""
    with jax.core.eval_context():  # a model of a recipe is built under a trace, of which a user's program knows nothing
        batch, side = example(specs, classes), side_in(m, "flax")
        program = open_program(built(m, side), asked(m, side, batch), getattr(m.outputs, side) or None, precision)
        check_program(m, side, program, batch, classes)
    return program


@lru_cache(2)
def matched(m, tensors):
    """The Match of a pair whose JAX side has some tensors; None where they are the canonical ones."""
    return match_in(m, side_in(m, "flax"), tensors)


@lru_cache(4)
def drawn(m, specs, precision, classes):
    """Raises BadInput where the dropout of a pair's JAX side is not that of the other side, as `check_draws` says."""
    with jax.core.eval_context():
        check_draws(m, side_in(m, "flax"), opened(m, specs, precision, classes), example(specs, classes))


class Pair(nnx.Module):
    """Holds the canonical tensors and calls the user's program with what they make of its own."""

    def __init__(self, m, specs, classes, kinds):
        self._twinscale = m, specs, classes, tuple(sorted(kinds.items()))  # all other names may be the user's layers'
        program_of(self)  # and its match, before anything is made
        drawn(m, specs, jnp.dtype(kinds["dtype"]).name, classes)
        tensors = first_tensors(m.start)
        names = canonical_names(tensors)
        for tensor in tensors:
            *above, leaf = names[tensor.path].split(".")
            holder = self
            for part in above:
                if part not in vars(holder):
                    setattr(holder, part, Holder())
                holder = getattr(holder, part)
            kind = nnx.Param if tensor.trained else nnx.BatchStat
            setattr(holder, leaf, kind(jnp.zeros(tensor.shape, kinds["param_dtype"])))

    def __call__(self, batch, training=False):
        m, _, _, kinds = self._twinscale
        (program, match), tensors, kinds = program_of(self), first_tensors(m.start), dict(kinds)
        held = {path: held_of(self, name) for path, name in canonical_names(tensors).items()}
        values = {path: x[...] for path, x in held.items()}
        made, moved = program.call(tensors_in(match, values, jnp), asked(m, side_in(m, "flax"), batch), training, None,
                                   draws_of(batch, match) if training else None)
        moved = moved if training else {}
        for path, value in tensors_out(match, tensors, program.tensors, moved, jnp).items():
            held[path][...] = value.astype(held[path].dtype)
        return tap("head", logits_of(made, jnp)).astype(kinds["param_dtype"])


class Holder(nnx.Module):
    """A part of a canonical name."""


def program_of(module):
    """(the user's program in the dtype that the recipe computes in, without what no output depends on, its match)."""
    m, specs, classes, kinds = module._twinscale
    program = opened(m, specs, jnp.dtype(dict(kinds)["dtype"]).name, classes)
    check_width(side_in(m, "flax"), program)
    match = matched(m, program.tensors)
    return used_of(match, program), match


def held_of(module, name):
    """The Variable of a canonical name."""
    found = module
    for part in name.split("."):
        found = getattr(found, part)
    return found
