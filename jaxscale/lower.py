"""The train step as the TPU's compiler sees it, from shapes alone: no TPU is there and no tensor is made.

As a process (`python -m twinscale.jaxscale.lower`) it answers the calls of `benchmarks/preflight/`.
"""

import os
import re
import time
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax._src.core import ShapedArray  # what `jax.export.Exported` is made of
from jax._src.interpreters import mlir
from jax._src.lib import xla_client
from jax._src.lib.mlir import ir
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from twinscale.common.calls.worker import serve
from twinscale.common.errors import MissingEnvironment
from twinscale.common.families.parameters import is_trained
from twinscale.common.machine.refused import refusal
from twinscale.common.machine.topology import libtpu_version
from twinscale.common.recipe.schema import AXES, Recipe, master_dtype, mesh_shape
from twinscale.jaxscale.devices import Devices, arranged, rules_of
from twinscale.jaxscale.devices_compile import compiler_options, compiling
from twinscale.jaxscale.framework import FLAX, Framework
from twinscale.jaxscale.room import ROOM, numerics
from twinscale.jaxscale.train import State, beside, compiled_step, state_shardings

DTYPES = {"i1": np.bool_, "i8": np.int8, "i32": np.int32, "i64": np.int64, "ui8": np.uint8, "ui32": np.uint32,
          "ui64": np.uint64, "bf16": jnp.bfloat16, "f16": np.float16, "f32": np.float32, "f64": np.float64}


def open_topology(recipe: Recipe, options: Mapping[str, Any]) -> Devices:
    """The Devices of a slice that is not there: the mesh that a recipe shapes over all of its chips.

    Args:
      options: what `jax.experimental.topologies.get_topology_desc` takes besides the platform.
    Raises BadInput where the mesh does not divide what it shares.
    """
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    found = topologies.get_topology_desc(platform="tpu", **given).devices
    shape = mesh_shape(recipe, "the topology", len(found), "TPU")
    mesh = Mesh(arranged(shape, found), AXES, axis_types=(AxisType.Auto,) * len(AXES))
    return Devices(mesh, rules=rules_of(recipe), execution=recipe.jax)


def new_shapes(recipe: Recipe, classes: int, example_shape: Sequence[int], framework: Framework = FLAX) -> State:
    """The state before the first step as `jaxscale.train.new_state` makes it, of ShapeDtypeStructs."""
    graph, variables = framework.build(recipe, classes, example_shape)
    first = {path: jax.ShapeDtypeStruct(variable.shape, master_dtype(recipe)) for path, variable in variables.items()}
    weights = {path: x for path, x in first.items() if is_trained(path)}
    running = {path: x for path, x in first.items() if not is_trained(path)}
    return jax.eval_shape(partial(beside, recipe, framework, graph), weights).replace(weights=weights, running=running)


def lower_step(recipe: Recipe, classes: int, example_shape: Sequence[int],
               batch: Mapping[str, tuple[tuple[int, ...], str]], devices: Devices, framework: Framework = FLAX
               ) -> jax.stages.Lowered:
    """The step of `jaxscale.train.compiled_step`, lowered for the devices: a `jax.stages.Lowered`.

    Args:
      batch: {name: (shape (B, ...), dtype)} of a global batch.
    """
    state, parts = new_shapes(recipe, classes, example_shape, framework), recipe.train.accumulate
    state = jax.tree.map(lambda x, lying: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=lying), state,
                         state_shardings(state, devices))
    inside = compiled_step(recipe, state, devices)
    cut = (lambda shape: (parts, shape[0] // parts, *shape[1:])) if parts > 1 else tuple
    inputs = {name: jax.ShapeDtypeStruct(cut(shape), dtype) for name, (shape, dtype) in batch.items()}
    return inside.lower(state, jax.ShapeDtypeStruct((), jnp.int32), inputs,
                        jax.ShapeDtypeStruct((devices.mesh.size, 3), jnp.float32))


def step_compiler(framework: Framework) -> Callable[..., dict[str, Any]]:
    """The call that compiles a framework's step of a recipe for a slice; see `lower_step` and `compiled_as`."""

    def compile_step(recipe: Any, classes: int, example_shape: Sequence[int],
                     batch: Mapping[str, tuple[tuple[int, ...], str]], options: Mapping[str, Any], module: str
                     ) -> dict[str, Any]:
        recipe, example_shape = Recipe.model_validate(recipe), tuple(example_shape)
        with numerics(recipe):
            devices, start = open_topology(recipe, options), time.perf_counter()
            lowered = lower_step(recipe, classes, example_shape, batch, devices, framework)
            flags, own = compiler_options(recipe, devices), recipe.jax.xla_options
            return compiled_as(lowered, devices, flags, time.perf_counter() - start, module, own)

    return compile_step


def compile_module(recipe: Any, lowered: str, rows: Collection[int], options: Mapping[str, Any], module: str
                   ) -> dict[str, Any]:
    """Compiles a step that another framework has lowered for one device and the global batch, for a slice: the rows
    split over all chips, all else whole on each, its results in the memory of what they replace.

    Args:
      lowered: path of a serialized HLO module.
      rows: numbers of its arguments that are a batch's, of shape (B, ...).
      options: as `open_topology`; module: as `compiled_as`. No micro-batch is split over fewer chips than another.
    """
    recipe, start, content = Recipe.model_validate(recipe), time.perf_counter(), Path(lowered).read_bytes()
    header = xla_client.hlo.HloModule.from_serialized_hlo_module_proto(content).to_string()
    donated = tuple(sorted(set(aliases(header).values())))
    with jax.enable_x64(True):  # other frameworks count in int64
        devices, called, parts = open_topology(recipe, options), exported(content), recipe.train.accumulate
        split = {number for number in rows if parts > 1}

        def step(*arguments):
            return called.call(*(x.reshape(-1, *x.shape[2:]) if n in split else x for n, x in enumerate(arguments)))

        def given(number, x):
            shape = (parts, x.shape[0] // parts, *x.shape[1:]) if number in split else x.shape
            lying = (devices.micro_batches if number in split else devices.rows) if number in rows else devices.whole
            return jax.ShapeDtypeStruct(shape, x.dtype, sharding=lying)

        arguments = [given(number, x) for number, x in enumerate(called.in_avals)]
        made = jax.jit(step, donate_argnums=donated, out_shardings=devices.whole).lower(*arguments)
        return compiled_as(made, devices, {}, time.perf_counter() - start, module)


def compiled_as(lowered: jax.stages.Lowered, devices: Devices, flags: Mapping[str, Any], seconds: float, module: str,
                own: Container[str] = ()) -> dict[str, Any]:
    """What the compiler says of a lowered step; its optimised module is written as text to the path `module`.

    Args:
      flags: XLA's options, of which those in `own` are the user's; see `jaxscale.devices.compiling`.
    Returns: {"compiles", "error", "over_bytes", "capacity_bytes": what the compiler says where it does not fit,
      "memory": {"arguments", "temporaries", "output", "alias", "code", "host"} in bytes of a device, "compiler_flops":
      XLA's own count, "mesh": {axis: size}, "kind", "xla_flags": those that it took, "lower_seconds",
      "compile_seconds"}.
    """
    report = {"compiles": True, "error": None, "over_bytes": None, "capacity_bytes": None, "memory": None,
              "compiler_flops": None, "mesh": dict(devices.mesh.shape), "kind": devices.kind, "xla_flags": flags,
              "lower_seconds": seconds}

    def attempt(options):
        report["xla_flags"] = options
        return lowered.compile(compiler_options=options)

    start = time.perf_counter()
    try:
        compiled = compiling(attempt, flags, own)
    except jax.errors.JaxRuntimeError as error:
        return report | {"compiles": False, "compile_seconds": time.perf_counter() - start} | refusal(str(error))
    found, analysis = compiled.memory_analysis(), compiled.cost_analysis() or {}
    Path(module).write_text(text_of(compiled))
    memory = {"arguments": found.argument_size_in_bytes, "temporaries": found.temp_size_in_bytes,
              "output": found.output_size_in_bytes, "alias": found.alias_size_in_bytes,
              "code": found.generated_code_size_in_bytes,
              "host": found.host_argument_size_in_bytes + found.host_temp_size_in_bytes}
    return report | {"memory": memory, "compiler_flops": analysis.get("flops"),
                     "compile_seconds": time.perf_counter() - start}


def text_of(compiled: jax.stages.Compiled) -> str:
    """The optimised module. Raises MissingEnvironment where jaxlib cannot read what a libtpu much newer than it has
    made, which is so of a TPU7x's decoder: jaxlib 0.10.2 reads what 0.0.45 makes, and not what 0.0.46.3 does."""
    try:
        return compiled.as_text()  # type: ignore[return-value]  # which a TPU's always has
    except jax.errors.JaxRuntimeError as error:
        said = next(line.strip() for line in str(error).splitlines() if line.strip())
        raise MissingEnvironment(f"libtpu {libtpu_version(os.environ)}: jaxlib {jax.lib.__version__} cannot read the "
                                 f"module that it has made ({said[:200]}): take one that is less new, as "
                                 f"requirements-tpu.lock has it, or a newer JAX") from None


def exported(content: bytes) -> jax.export.Exported:
    """A serialized HLO module as a `jax.export.Exported`, which other jitted functions may call."""
    with mlir.make_ir_context():
        parsed = ir.Module.parse(xla_client._xla.mlir.hlo_to_stablehlo(content))
        copies = []
        parsed.operation.walk(
            lambda op: copies.append(op)  # type: ignore[func-returns-value]  # that it is None is what `or` goes by
            or ir.WalkResult.ADVANCE if op.name == "mhlo.copy" else ir.WalkResult.ADVANCE)
        for copy in copies:  # the TPU's compiler takes none, and makes its own
            copy.results[0].replace_all_uses_with(copy.operands[0])
            copy.erase()
        main = next(op for op in parsed.body.operations if str(op.attributes["sym_name"]).strip('"') == "main")
        signature = main.attributes["function_type"].value  # type: ignore[attr-defined]  # a TypeAttr
        taken, given = ([ShapedArray(tuple(kind.shape), np.dtype(DTYPES[str(kind.element_type)]))
                         for kind in map(ir.RankedTensorType, side)] for side in (signature.inputs, signature.results))
        bytecode = mlir.module_to_bytecode(parsed)
    known = jax.export.Exported.__dataclass_fields__  # jax 0.12 asks the shardings themselves whether they have names
    named = {"_has_named_shardings": False} if "_has_named_shardings" in known else {}
    return jax.export.Exported(
        fun_name="step", in_tree=jax.tree.structure((tuple(taken), {})), in_avals=tuple(taken),
        out_tree=jax.tree.structure(list(given)), out_avals=tuple(given), **named,
        _in_named_shardings=(None,) * len(taken), _out_named_shardings=(None,) * len(given),
        in_shardings_hlo=(None,) * len(taken), out_shardings_hlo=(None,) * len(given), nr_devices=1,
        platforms=("tpu",), ordered_effects=(), unordered_effects=(), disabled_safety_checks=(),
        mlir_module_serialized=bytecode, calling_convention_version=9, module_kept_var_idx=tuple(range(len(taken))),
        uses_global_constants=False, _get_vjp=None)


def aliases(text: str) -> dict[int, int]:
    """{index of a result: number of the argument whose memory it takes} of a module's header."""
    header = text[:text.find("\n\n")]
    return {int(out or 0): int(number) for out, number in re.findall(r"\{(\d*)\}: \((\d+), \{\}", header)}


if __name__ == "__main__":
    serve(ROOM, {}, {"compile_step": step_compiler(FLAX), "compile_module": compile_module})
