"""Trainings on several hosts: the commands, the script or the manifest that start them.

`launch` prints what would run or, with `go`, runs it. Every value is checked before anything runs, and quoted where it
is written.
"""

import json
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from twinscale.common.backends import BACKENDS, on_jax, options_of
from twinscale.common.errors import DID_IT, RESUMABLE, BadInput, MissingEnvironment, TwinscaleError
from twinscale.common.files.access import escaped_lines, place
from twinscale.common.launch.local import free_ports, run_local
from twinscale.common.machine.chips import CHIPS, FLAT, of_accelerator
from twinscale.common.process import printed
from twinscale.common.recipe.file import did_you_mean, given
from twinscale.common.recipe.runtime import check_runtime
from twinscale.common.recipe.schema import AXES, mesh_shape
from twinscale.common.training.run import check_run

TEMPLATES = Path(__file__).parent / "templates"
GRACE = {"local": 30, "slurm": 60, "gke": 120}  # seconds

OPTIONS = {  # of each target, those that it needs first
    "local": ("grace",),
    "tpu": ("name", "zone", "project", "workdir", "env", "shared"),
    "slurm": ("name", "partition", "time", "account", "gpus_per_host", "cpus_per_host", "requeue", "grace", "workdir",
              "env"),
    "gke": ("name", "image", "accelerator", "topology", "slices", "namespace", "service_account", "max_restarts",
            "grace"),
}
NEEDED = {"local": 0, "tpu": 4, "slurm": 0, "gke": 4}

WORDS = {  # what an option may be, and what that is in words; the first entry that is there of TARGET.OPTION and OPTION
    "tpu.name": (r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", "a TPU's name: small letters, digits and '-', 63 at most"),
    "gke.name": (r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", "a JobSet's name: small letters, digits and '-', 40 at most"),
    "slurm.name": (r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a job's name: letters, digits, '.', '_' and '-', 64 at most"),
    "zone": (r"[a-z]+(-[a-z0-9]+){2,3}", "a zone, such as us-central2-b"),
    "project": (r"([a-z0-9.-]{1,253}:)?[a-z][-a-z0-9]{4,28}[a-z0-9]", "a project's id, such as my-project"),
    "partition": (r"[A-Za-z0-9][A-Za-z0-9_.,-]{0,127}", "names of partitions: letters, digits, '.', '_', '-' and ','"),
    "account": (r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}", "an account's name: letters, digits, '.', '_', '@' and '-'"),
    "time": (r"[0-9]{1,6}(:[0-5]?[0-9]){0,2}|[0-9]{1,4}-[0-9]{1,2}(:[0-5]?[0-9]){0,2}", "minutes, H:M:S or D-H:M:S"),
    "image": (r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}", "an image, such as us-docker.pkg.dev/my-project/images/train:1"),
    "namespace": (r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", "a namespace: small letters, digits and '-', 63 at most"),
    "service_account": (r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", "a service account: small letters, digits, '.', '-'"),
}
LEAST = {"slices": 1, "gpus_per_host": 1, "cpus_per_host": 1, "max_restarts": 0, "grace": 0}
MOST = 65535  # hosts, and each of the options above: what SLURM takes for the seconds
MOST_LOCAL = 256  # hosts on one machine


class Plan(NamedTuple):
    """What is printed, and what runs: `commands` (lists of words), each under its dict of `environments`; `text` goes
    to the command's stdin where `piped`."""

    text: str
    commands: list
    environments: list
    piped: bool = False


def launch(recipe: str, overrides: Sequence[str] = (), *, backend: str, run: str, target: str, hosts: int,
           options: Mapping[str, Any] | None = None, go: bool = False) -> int:
    """Prints what would train a recipe on `hosts` hosts or, with `go`, runs it; returns an exit code.

    `options` are the target's own, by name. Raises BadInput before anything has run, MissingEnvironment where a
    command that it takes is not there, TwinscaleError where sbatch or kubectl refuse.
    """
    made = plan(recipe, overrides, backend=backend, run=run, target=target, hosts=hosts, options=options,
                ports=free_ports(hosts) if go and target == "local" and 1 <= hosts <= MOST_LOCAL else None)
    if not go:
        print(made.text, end="", flush=True)
        return DID_IT
    if target == "local":
        check_run(place(run), given(recipe, overrides), backend)  # or each host would refuse it
        return run_local(made.commands, made.environments, (options or {}).get("grace", GRACE["local"]), _say)
    return _hand_over(made, target)


def plan(recipe: str, overrides: Sequence[str] = (), *, backend: str, run: str, target: str, hosts: int,
         options: Mapping[str, Any] | None = None, ports: Sequence[int] | None = None,
         python: str = sys.executable) -> Plan:
    """The Plan of a launch; runs nothing. Raises BadInput."""
    overrides, options = list(overrides), dict(options or {})
    _check_options(target, options)
    most = MOST_LOCAL if target == "local" else MOST
    if not 1 <= hosts <= most:
        raise BadInput(f"--hosts {hosts}: expected {'1 or more' if hosts < 1 else f'{most} or less'}")
    for what, value in (("RECIPE", recipe), ("--run", run), *(("override", text) for text in overrides)):
        _check_path(what, value)
    if backend not in BACKENDS:
        raise BadInput(f"--backend {_shown(backend)}: expected keras or jax")
    added = {"devices.hosts": hosts, **_tpu_strategy(backend, target, hosts, options)}
    for text in overrides:
        if (key := text.partition("=")[0].strip()) in added:
            raise BadInput(f"override {_shown(text)}: {key} follows from the target and --hosts: leave it out")
    _check_place(run, backend, target, hosts, options)
    # Which also checks the recipe: a slice is not to be paid for a typing error.
    described = given(recipe, [*overrides, *(f"{key}={value}" for key, value in added.items())])
    check_runtime(described, backend)
    _check_mesh(described, backend, target, hosts, options)
    words = ["train", recipe, *overrides, *(f"{key}={value}" for key, value in added.items()), *options_of(backend),
             "--run", run]
    if target == "local":
        return _local(printed(python, "twinscale.common.cli", *words), backend, hosts, ports)
    if target == "tpu":
        return _tpu(words, backend, hosts, options)
    if target == "slurm":
        return _slurm(words, described, backend, hosts, options)
    if target == "gke":
        return _gke(words, hosts, options)
    raise BadInput(f"launch {_shown(target)}: nothing is written for it")


# ---- targets

def _local(command, backend, hosts, ports):
    """Processes of this machine over loopback; `command` is (its words, its environment). Without ports, some that
    stand for the free ones of a real start."""
    stand_in, (command, needed) = ports is None, command
    addresses = [f"127.0.0.1:{port}" for port in ports or range(12345, 12345 + hosts)]
    environments = [needed | _environment(backend, addresses, index) for index in range(hosts)]
    lines = ["# Free ports take the place of these when it runs."] * (stand_in and hosts > 1)
    for environment in environments:
        lines.append(" ".join([*(f"{key}={shlex.quote(value)}" for key, value in environment.items()),
                               shlex.join(command), "&"]))
    return Plan("\n".join([*lines, "wait"]) + "\n", [command] * hosts, environments)


def _environment(backend, addresses, index):
    """What tells a process that it is host `index` of those at `addresses`; nothing where it is alone."""
    if len(addresses) == 1:
        return {}
    if on_jax(backend):
        return {"JAX_COORDINATOR_ADDRESS": addresses[0], "JAX_NUM_PROCESSES": str(len(addresses)),
                "JAX_PROCESS_ID": str(index)}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})}


def _tpu(words, backend, hosts, options):
    """The hosts of one Cloud TPU slice, over ssh: all of them for JAX, which finds its cluster from the metadata of
    each; for TPUStrategy the first, from which TensorFlow drives the servers that run on all."""
    driven = backend == "keras" and hosts > 1
    name, pid = options["name"], f"/tmp/twinscale-{options['name']}.pid"
    # Google's tests of TensorFlow on slices of several hosts (ml-auto-solutions) set just these, on one host: the
    # name, and that the library is left to the TPU's server.
    variables = {"TPU_NAME": name, "TPU_LOAD_LIBRARY": "0"} if driven else {}
    start = [f"{key}={shlex.quote(value)}" for key, value in variables.items()]
    start += ["exec", shlex.join([f"{options.get('env', '.venv').rstrip('/')}/bin/twinscale", *words])]
    steps = [f"cd {shlex.quote(options['workdir'])}", f"echo $$ > {pid}", " ".join(start)]
    reach = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", name, "--zone", options["zone"], "--project",
             options["project"], f"--worker={0 if driven or hosts == 1 else 'all'}", "--command"]
    command, stop = [*reach, " && ".join(steps)], [*reach, f"kill -TERM $(cat {pid})"]
    text = (f"{shlex.join(command)}\n\n# To stop it early; it saves, and the same command goes on:\n"
            f"# {shlex.join(stop)}\n")
    return Plan(text, [command], [{}])


def _slurm(words, described, backend, hosts, options):
    """A script for sbatch. JAX finds its cluster from SLURM's variables, TF_CONFIG is made of them."""
    program = f"{options['env'].rstrip('/')}/bin/twinscale" if "env" in options else "twinscale"
    values = dict.fromkeys(OPTIONS["slurm"]) | {"name": described.name, "requeue": True, "grace": GRACE["slurm"]}
    script = _render("slurm.sh.j2", **values | options, hosts=hosts, runtime=BACKENDS[backend].runtime,
                     resumable=RESUMABLE, command=shlex.join([program, *words]))
    return Plan(script, [["sbatch"]], [{}], piped=True)


def _gke(words, hosts, options):
    """A JobSet, whose jobs are slices and whose pods are hosts. JAX finds its cluster from GKE's variables."""
    slices = options.get("slices", 1)
    values = {"slices": slices, "namespace": "default", "service_account": None, "max_restarts": 10,
              "grace": GRACE["gke"]}
    chips = slice_hosts(options["accelerator"], options["topology"])[hosts // slices]
    # A container's command expands $(NAME), and $$ is what it has for $.
    command = [word.replace("$", "$$") for word in ["twinscale", *words]]
    manifest = _render("jobset.yaml.j2", **values | options, hosts=hosts, chips=chips, command=command,
                       resumable=RESUMABLE)
    return Plan(manifest, [["kubectl", "apply", "-f", "-"]], [{}], piped=True)


def slice_hosts(accelerator: str, topology: str) -> dict[int, int]:
    """{hosts: chips a host} of a TPU slice on GKE, such as {4: 4} of a v6e slice of 4x4; few shapes allow two numbers.

    Raises BadInput where there is no such accelerator or shape.
    """
    chip, known = of_accelerator(accelerator), [chip.accelerator for chip in CHIPS.values()]
    if chip is None:
        raise BadInput(f"--accelerator {_shown(accelerator)}: expected one of {', '.join(known)}"
                       f"{did_you_mean(accelerator, known)}")
    if chip.flat:
        if topology not in FLAT:
            raise BadInput(f"--topology {_shown(topology)}: no slice of {accelerator}: expected one of "
                           f"{', '.join(FLAT)}")
        return FLAT[topology]
    shape = [int(size) for size in topology.split("x")] if re.fullmatch(r"[1-9]\d?(x[1-9]\d?\d?){2}", topology) else []
    chips = math.prod(shape)
    grown = shape == sorted(shape) and all(size == 2 or size % 4 == 0 for size in shape)
    if not shape or not (grown or shape == [2, 2, 1]) or chips > chip.largest:
        raise BadInput(f"--topology {_shown(topology)}: no slice of {accelerator}: expected AxBxC with A <= B <= C, "
                       f"each 2 or a multiple of 4, of {chip.largest} chips at most, or 2x2x1")
    return {chips // 4: 4}


def as_options(options: Mapping[str, Any]) -> list[str]:
    """The words of a command line that mean `options`."""
    words = []
    for option, value in options.items():
        words += [_flag(option), str(value)] if not isinstance(value, bool) else [
            _flag(option) if value else _flag(f"no_{option}")]
    return words


def _render(template, **values):
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"quote": shlex.quote, "text": lambda value: json.dumps(value, ensure_ascii=False)}
    return environment.get_template(template).render(values)


# ---- what is refused

def _check_options(target, options):
    """Raises BadInput for a target or option that is not there, is missing or has a value that it cannot have."""
    if target not in OPTIONS:
        raise BadInput(f"launch {_shown(target)}: expected one of {', '.join(OPTIONS)}"
                       f"{did_you_mean(target, OPTIONS)}")
    for option, value in options.items():
        flag = _flag(option)
        if option not in OPTIONS[target]:
            known = ", ".join(map(_flag, OPTIONS[target]))
            raise BadInput(f"{flag}: no option of launch {target}, which has {known}: leave it out")
        if option in LEAST and not LEAST[option] <= value <= MOST:
            raise BadInput(f"{flag} {value}: expected {LEAST[option]} to {MOST}")
        if option in ("workdir", "env"):
            _check_path(flag, value)
        pattern, meaning = WORDS.get(f"{target}.{option}", WORDS.get(option, (None, None)))
        if pattern and not re.fullmatch(pattern, value):
            raise BadInput(f"{flag} {_shown(value)}: expected {meaning}")
    if missing := [_flag(option) for option in OPTIONS[target][:NEEDED[target]] if option not in options]:
        raise BadInput(f"launch {target} needs {', '.join(missing)}: add {'it' if len(missing) == 1 else 'them'}")


def _check_path(what, value):
    """Raises BadInput for text that no quoting makes safe to read, or that a program takes for something else."""
    if not value.strip():
        raise BadInput(f"{what}: empty: name one")
    if not value.isprintable():
        raise BadInput(f"{what} {_shown(value)}: holds a character that does not print: take it out")
    if value[0] in "-~":
        fix = "put ./ before it" if value[0] == "-" else "write the path in full, since '~' is quoted"
        raise BadInput(f"{what} {_shown(value)}: begins with '{value[0]}': {fix}")


def _check_place(run, backend, target, hosts, options):
    """Raises BadInput for a run's directory that not all hosts of a target reach."""
    if "://" in run or target in ("local", "slurm") or (target == "tpu" and options.get("shared")):
        return
    if target == "gke":
        raise BadInput(f"--run {_shown(run)}: the disk of a pod ends with it: name a place such as gs://bucket/run")
    if hosts > 1:
        raise BadInput(f"--run {_shown(run)}: {hosts} hosts write it: name a place such as gs://bucket/run or, if all "
                       "of them mount that path from one server, pass --shared")


def _tpu_strategy(backend, target, hosts, options):
    """{key: value} of `devices` that Keras needs on a target's TPUs. Raises BadInput where it cannot have them."""
    if on_jax(backend) or target not in ("tpu", "gke"):
        return {}
    chip = of_accelerator(options.get("accelerator"))
    if chip and not chip.tensorflow:
        raise BadInput(f"--accelerator {options['accelerator']}: TensorFlow does not run on it: pass --runtime jax, or "
                       "--backend jax")
    if target == "gke" and hosts > 1:
        raise BadInput(f"--hosts {hosts}: on GKE the Keras backend reaches the TPUs of its own host alone, since no "
                       "TensorFlow server runs on the others: pass --hosts 1 and a topology of one host (2x4 at most), "
                       "--runtime jax, or --backend jax")
    # One process drives all hosts.
    return {"devices.hosts": 1, "devices.strategy": "tpu", "devices.tpu": "local" if hosts == 1 else options["name"]}


def _check_mesh(described, backend, target, hosts, options):
    """Raises BadInput where the mesh of a validated recipe does not fit what is launched."""
    devices, slices = described.devices, options.get("slices", 1)
    if target == "gke":
        known = slice_hosts(options["accelerator"], options["topology"])
        what = f"--topology {options['topology']} of {options['accelerator']}"
        right = [slices * number for number in known]
        if hosts not in right:
            each = f"{slices} slices of {what} have" if slices > 1 else f"{what} has"
            raise BadInput(f"--hosts {hosts}: {each} {' or '.join(map(str, right))} hosts: pass "
                           f"--hosts {' or '.join(map(str, right))}")
        if slices > 1 and hosts == slices:
            raise BadInput(f"--slices {slices}: GKE joins slices of several hosts only, but {what} is one host: take "
                           "a larger topology")
    if on_jax(backend) and target in ("tpu", "gke") and devices.replica != slices:
        raise BadInput(f"devices.replica={devices.replica}: it counts slices, and this launch has {slices}: set "
                       f"devices.replica={slices}")
    if on_jax(backend) and target == "gke":
        try:
            found = hosts * known[hosts // slices] * of_accelerator(options["accelerator"]).devices
            mesh_shape(described, "the launch", found, what)
        except MissingEnvironment as error:
            raise BadInput(str(error)) from None
    count = math.prod(getattr(devices, axis) for axis in AXES)
    if count % hosts:  # never of data=0, which takes what is there
        raise BadInput(f"devices: {count} device{'s' if count > 1 else ''} in all cannot be shared evenly by {hosts} "
                       f"hosts: set devices.data=0 for all that there are, or to a multiple of {hosts}")


def _flag(option):
    return "--" + option.replace("_", "-")


def _shown(value):
    """Text that is safe on a terminal."""
    return json.dumps(str(value)[:80])


def _say(text):
    with suppress(OSError):  # whoever read it is gone, the hosts are not
        print(escaped_lines(text), file=sys.stderr, flush=True)


# ---- running it

def _hand_over(made, target):
    """The exit code of a plan's one command."""
    (command,) = made.commands
    try:
        done = subprocess.run(command, input=made.text if made.piped else None, text=True)
    except OSError as error:
        raise MissingEnvironment(f"{command[0]}: cannot be run ({error.strerror}): install it, or leave --go out and "
                                 "take what is printed to where it is") from None
    except KeyboardInterrupt:
        if target == "tpu":
            _say("twinscale: the hosts may train on: without --go, this command prints the one that stops them")
        raise
    if made.piped and done.returncode:
        raise TwinscaleError(f"{command[0]} failed with exit code {done.returncode}; its message is above")
    return done.returncode if done.returncode >= 0 else 128 - done.returncode
