"""How programs are compiled: XLA's options for a device and a recipe, without those that the compiler refuses."""

import os
import re
import sys
from collections.abc import Callable, Collection, Container, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from twinscale.common.errors import BadInput
from twinscale.common.families import family_of, traits_of
from twinscale.common.machine.options import WISHES, chosen, is_refused
from twinscale.common.machine.topology import libtpu_version, numbers
from twinscale.common.objectives import described

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe
    from twinscale.jaxscale.devices import Devices

MOST_GENERAL = 3  # underscores of a name that others may refine: `xla_tpu` is no option


def compiler_options(recipe: "Recipe", devices: "Devices") -> dict[str, Any]:
    """XLA's options for a step. Raises BadInput where the recipe's kernel of attention cannot run on the devices, or
    the compiler refuses one of the recipe's own options."""
    device, execution = devices.mesh.devices.flat[0], recipe.jax
    if attention := traits_of(recipe.model).attention:  # here, before anything is compiled or written
        execution.kernel(recipe.train.precision, attention.width, recipe.data.sequence,
                         not recipe.data.cross_documents, device.platform,
                         getattr(device, "compute_capability", None), devices.mesh.shape["sequence"])
    chunks_of(recipe)
    wishes, there = [wish for wish in WISHES if getattr(execution, wish)], libtpu_version(os.environ)
    options: dict[str, Any] = {
        name: value for name, value in chosen(device.platform, device.device_kind, wishes).items()
        if value is False or not is_refused(name, device.device_kind, numbers(there) if there else None)}
    if execution.xla_options:
        nothing = jax.jit(lambda x: x).lower(jax.ShapeDtypeStruct((), np.float32, sharding=devices.whole))
        compiling(lambda own: nothing.compile(compiler_options=own), execution.xla_options, execution.xla_options)
    return options | execution.xla_options


def chunks_of(recipe: "Recipe") -> int:
    """The recipe's `jax.loss_chunks`; raises BadInput where it cannot have them."""
    whole = recipe.objective.name if described(recipe).whole else ""
    recipe.jax.check_chunks(family_of(recipe.model).name == "decoder", recipe.data.sequence, whole)
    return recipe.jax.loss_chunks


def compiling(attempt: Callable[[dict[str, Any]], Any], options: Mapping[str, Any], own: Container[str]) -> Any:
    """What `attempt(options)` returns, which compiles. Options that the compiler refuses are left out and said to be,
    a line each on stderr. Raises BadInput for one of the user's `own`, which are not left out in silence."""
    left = dict(options)
    while True:
        try:
            return attempt(dict(left))
        except (jax.errors.JaxRuntimeError, ValueError, TypeError) as error:
            name = refused_option(str(error), left)
            if name is None:
                raise
            said = next(line.strip() for line in str(error).splitlines() if line.strip())
            if name in own:
                raise BadInput(f"jax.xla_options.{name}: XLA refuses it: {said[:300]}; take it out") from None
            del left[name]
            print(f"XLA's option {name} is left out, which the compiler refuses: {said[:300]}", file=sys.stderr,
                  flush=True)


def refused_option(said: str, options: Collection[str]) -> str | None:
    """The option that a compiler's words are about, or None: one that they name, or rather one that refines what they
    name, for libtpu says to switch `..._fusion` off where `..._fusion_fuse_all_gather` is what it will not have."""
    named = [word for word in re.findall(r"\w+", said) if word in options or word.count("_") >= MOST_GENERAL]
    about = [name for name in options if any(name == word or name.startswith(f"{word}_") for word in named)]
    return max(about, key=len, default=None)


def haste() -> dict[str, bool | int]:
    """XLA's options that halve the time it takes for a CPU's program, and let it run the longer: kernels are emitted by
    the older way, which knows no MLIR, and all in one piece. Since jax 0.11.1 XLA has lost the older way, and a flag of
    that name would end the process."""
    older: dict[str, bool | int] = {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 11, 1) else {}
    return {**older, "xla_cpu_parallel_codegen_split_count": 1}


def jit(function: Callable[..., Any], options: dict[str, Any], own: Container[str], **how: Any) -> Any:
    """`jax.jit` of a function with XLA's options, of which it leaves out those that the compiler refuses when it
    compiles first; see `compiling`."""
    made = []
    if jax.config.read("jax_disable_most_optimizations") and jax.default_backend() == "cpu":
        options = haste() | options

    def call(*arguments):
        if made:
            return made[0](*arguments)

        def attempt(left):
            tried = jax.jit(function, compiler_options=left, **how)
            results = tried(*arguments)
            made.append(tried)
            return results

        return compiling(attempt, options, own)

    # Without options, which are for the compiler.
    call.lower = jax.jit(function, **how).lower  # type: ignore[attr-defined]  # as `jax.jit` gives it
    return call


def jit_once(function: Callable[..., Any], **how: Any) -> jax.stages.Wrapped:
    """`jax.jit` of a function that computes less than it compiles: on a CPU in haste. Last places may round otherwise
    than in a step that is compiled in full: both are float arithmetic of the same program."""
    hasty = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True, **haste()}
    return jax.jit(function, compiler_options=hasty if jax.default_backend() == "cpu" else None, **how)


def hasten() -> None:
    """Compiles as little as can be, for the life of the process: for programs that compile more than they compute. Call
    it before anything is compiled, as XLA reads its flags once."""
    jax.config.update("jax_disable_most_optimizations", True)
    flags = [f"--{name}={str(value).lower()}" for name, value in haste().items()]
    os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")]).strip()  # what comes last holds
