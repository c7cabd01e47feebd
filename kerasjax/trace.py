"""What a comparison asks of this backend alone, where `jaxscale.trace` would answer with its own."""

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from twinscale.common.numbers.bits import name_word
from twinscale.common.recipe.schema import Recipe, master_dtype
from twinscale.jaxscale.devices_compile import jit_once
from twinscale.tfscale import bits, optimizer

if TYPE_CHECKING:
    from twinscale.common.training.room import Tensors


def shared_tensors(recipe: Recipe) -> "Tensors":
    """{what: NumPy array} of what the program draws and looks up by itself and must share bit for bit."""
    @jit_once
    def compute():
        key = bits.fold_in(bits.step_key(recipe.seed, 1), name_word("contract"))
        drawn = bits.draw(key, jnp.arange(recipe.train.global_batch, dtype=jnp.uint32), 1000)
        return optimizer.rates(recipe)(jnp.arange(recipe.train.steps)), drawn

    table, drawn = compute()
    return {"learning rates": np.asarray(table, master_dtype(recipe)), "random bits": np.asarray(drawn)}
