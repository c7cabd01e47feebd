"""Loads exports that JAX reads, for a process that may know no more than the file."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax import export  # which jax itself does not bring

from twinscale.common.errors import BadInput
from twinscale.common.export import hugging_face

if TYPE_CHECKING:
    from twinscale.common.export.formats import Shape
    from twinscale.common.recipe.schema import Recipe

# What a program may call beside StableHLO's own operations: how arrays lie, what it asks of their shapes before it
# runs, and functions that XLA itself expands.
KNOWN = (r"shape_assertion|Sharding|SPMD(FullToShard|ShardToFull)Shape|(mhlo|chlo|stablehlo)\.[a-z_]+|"
         r"annotate_device_placement")


def strange(name: str, path: Path) -> list[str]:
    """The operations of a format's file that could do more than compute, sorted; it is not run for that. Safetensors
    hold none."""
    if name == "safetensors":
        return []
    check_format(name)
    program = export.deserialize(bytearray(path.read_bytes())).mlir_module()
    called = re.findall(r'custom_call @(?:"([^"]*)"|([\w.$-]+))|call_target_name = "([^"]*)"', program)
    return sorted({name for names in called for name in names if name and not re.fullmatch(KNOWN, name)})


def check_format(name: str) -> None:
    """Raises BadInput for a format that is not StableHLO."""
    if name != "stablehlo":
        raise BadInput(f"format {name}: nothing here reads it")


def load(name: str, path: Path, recipe: "Recipe | None" = None, shape: "Shape | None" = None, threads: int | None = None
         ) -> Callable[[np.ndarray], np.ndarray]:
    """A function from inputs to logits, NumPy arrays both, of a format's file or directory.

    Args:
      name: the format.
      recipe, shape: of the model, and its data's `classes` and `example_shape`; safetensors alone need them.
      threads: JAX takes what there are.
    """
    if name == "safetensors":
        from twinscale.jaxscale.export import logits
        from twinscale.jaxscale.room import numerics

        # Whoever asks for safetensors gives both.
        tensors = hugging_face.read(recipe.model, path)  # type: ignore[union-attr]

        def compute(inputs):
            with numerics(recipe):
                return logits(recipe, shape, tensors, inputs)

        return compute
    check_format(name)
    exported = export.deserialize(bytearray(path.read_bytes()))
    kind = exported.in_avals[0].dtype

    def call(inputs):
        with jax.enable_x64(kind == np.float64 or exported.out_avals[0].dtype == np.float64):
            return np.asarray(exported.call(inputs.astype(kind)))

    return call
