"""MaxText's train step, compiled for a slice that is not there by MaxText's own `train_compile`.

A job, the one line on stdin, is {"config": {MaxText's key: value}, "shape": the slice's, such as "4x4", "module": path
for the text of what the compiler has made}; the one line on stdout is {"versions": {package: version}, "compiles",
"error": what the compiler said, "memory": bytes of a device, "mesh": {axis: size}, "compiler_flops",
"lower_seconds", "compile_seconds", "kind"}, which `benchmarks/preflight/peers.py` reads. It imports the standard
library and what it measures alone.
"""

import importlib.util
import os
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from twinscale.benchmarks.peers.serve import opened

PACKAGES = ("maxtext", "jax", "jaxlib", "libtpu", "flax", "optax")
# No part of Google Cloud is asked for, nor a model's files; XLA is called by what MaxText's own main sets.
ALONE = {"DECOUPLE_GCLOUD": "TRUE", "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def words(config: Mapping[str, Any]) -> list[str]:
    """MaxText's command line of a configuration; the first word is the program's name."""
    return ["train_compile", *(f"{key}={value}" for key, value in config.items())]


def checked(shape: str, found: str) -> None:
    """Raises ValueError where MaxText has another slice, `found`, under the name that it was given."""
    if found.partition(":")[2] != shape:
        raise ValueError(f"MaxText's slice of that name is {found}, and not of {shape}: take another --topology")


def figures(compiled: Any, module: str) -> dict[str, Any]:
    """What the compiler says of a `jax.stages.Compiled`, whose text is written to the path `module`."""
    Path(module).write_text(compiled.as_text())
    found, analysis = compiled.memory_analysis(), compiled.cost_analysis() or {}
    return {"compiles": True, "error": None, "compiler_flops": analysis.get("flops"), "memory": {
        "arguments": found.argument_size_in_bytes, "temporaries": found.temp_size_in_bytes,
        "output": found.output_size_in_bytes, "alias": found.alias_size_in_bytes,
        "code": found.generated_code_size_in_bytes,
        "host": found.host_argument_size_in_bytes + found.host_temp_size_in_bytes}}


def compile_step(job: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of MaxText's step; its own main makes the model, the optimizer, the mesh and the program, and what
    it gives the compiler is looked at on its way."""
    import jax
    from maxtext.trainers.pre_train import train_compile
    from maxtext.utils.accelerator_to_spec_map import get_system_characteristics

    checked(job["shape"], get_system_characteristics(job["config"]["compile_topology"]).topology_name)
    own, seen, start = train_compile.jit_and_compile, {}, time.perf_counter()

    def watched(function, arguments, options, mesh, *others):
        seen.update(mesh=dict(mesh.shape), kind=mesh.devices.flat[0].device_kind)
        begun = time.perf_counter()
        compiled = own(function, arguments, options, mesh, *others)
        seen.update(compiled=compiled, compile_seconds=time.perf_counter() - begun)
        return compiled

    train_compile.jit_and_compile = watched
    try:
        train_compile.main(words(job["config"]))
    except jax.errors.JaxRuntimeError as error:
        seen.update(compiles=False, error=str(error), memory=None, compiler_flops=None)
    finally:
        train_compile.jit_and_compile = own
    took = time.perf_counter() - start
    compiled = seen.pop("compiled", None)
    found = {"compile_seconds": took} | seen | (figures(compiled, job["module"]) if compiled is not None else {})
    return found | {"lower_seconds": max(0.0, took - found["compile_seconds"])}


def library() -> dict[str, str]:
    """Where the compiler of this environment lies, for JAX loads none by itself where no TPU is."""
    found = importlib.util.find_spec("libtpu")
    return {"TPU_LIBRARY_PATH": str(Path(found.origin).parent / "libtpu.so")} if found and found.origin else {}


if __name__ == "__main__":
    os.environ.update(ALONE | library())
    asked, reply = opened()
    reply({"versions": {package: version(package) for package in PACKAGES}} | compile_step(asked))
    sys.exit()
