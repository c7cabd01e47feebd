"""The steps of a check, in their order: what each asks of the machine, and what it does."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from twinscale.benchmarks.compare import compared as compared_both
from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.device_check.desk import FRAMEWORKS, Desk, accelerators
from twinscale.benchmarks.device_check.trained import devices, trained, unequal
from twinscale.benchmarks.device_check.words import SPOKEN
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.peers.serve import COMPILE, SEEN
from twinscale.benchmarks.runs import compared as compared_runs
from twinscale.benchmarks.timing.bench import CONVENTIONS, FILE, benched
from twinscale.benchmarks.timing.peers import PEERS, python_of
from twinscale.benchmarks.verdict import Verdict
from twinscale.common import process
from twinscale.common.errors import DID_IT, INCONCLUSIVE, NO, BadInput, MissingEnvironment, TwinscaleError
from twinscale.common.files.access import write_json

STATES = {DID_IT: "holds", NO: "no", INCONCLUSIVE: "open"}  # by a verdict's exit code
ENVIRONMENT, COMPARED, BENCH = "environment.json", "compared", "bench"
PATIENCE = 900  # seconds that torch.compile may take for its first function
ROUNDS = {False: {"steps": 10, "rounds": 6}, True: {"steps": 2, "rounds": 2}}  # of a bench, by whether it is rehearsed
TORCH = {"torch": "peer-torch", "torch-compile": "peer-torch-compile"}  # {peer: the step that says whether it can run}


class Skip(Exception):
    """The machine lacks what a step is about; its text is the reason."""


@dataclass(frozen=True)
class Found:
    """What a step has seen: its state, in words, the files that it leaves below the check's directory, and figures."""

    state: str
    said: str
    files: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """A step: its name, what it is in words, the backends without which it is skipped, and what it does."""

    name: str
    title: str
    backends: tuple[str, ...]
    take: Callable[[Desk], Found]


def steps_of(desk: Desk) -> list[Step]:
    """All steps in their order, those too that this machine will skip."""
    names = {use: f"{desk.recipes[use].name} on the device against the CPU" for use in ("mlp", "decoder")}
    parity = [Step(f"parity-{use}-{backend}", f"{SPOKEN[backend]}, {title}", (backend,),
                   partial(parity_of, use=use, backend=backend)) for use, title in names.items()
              for backend in FRAMEWORKS]
    return [Step("environment", "versions and devices", (), environment), *parity,
            Step("bfloat16", "both backends in bfloat16, the whole ladder", tuple(FRAMEWORKS), bfloat16),
            Step("attention", "cuDNN's attention against einsum", ("jax",), attention),
            Step("determinism", "jax.deterministic=true, twice", ("jax",), determinism),
            Step(TORCH["torch"], "PyTorch beside us", (), partial(torch_seen, compiling=False)),
            Step(TORCH["torch-compile"], "torch.compile on the device", (), partial(torch_seen, compiling=True)),
            Step("bench", f"speed of {desk.recipes['bench'].name}", desk.usable or tuple(FRAMEWORKS), speed)]


def environment(desk: Desk) -> Found:
    """Leaves what doctor says."""
    write_json(desk.out / ENVIRONMENT, desk.environment)
    seen = {backend: kinds or ["CPU"] for backend, kinds in accelerators(desk.environment).items()
            if backend in desk.usable}
    said = "; ".join(f"{SPOKEN[backend]} on {', '.join(kinds)}" for backend, kinds in seen.items())
    return Found("holds", said, (ENVIRONMENT,), {"devices": seen})


# ---- what is computed

def parity_of(desk: Desk, use: str, backend: str) -> Found:
    """One backend from the same weights on the device and on the CPU, judged by each run's own twin."""
    name, recipe = f"parity-{use}-{backend}", desk.recipes[use]
    one = trained(desk.out, f"{name}-device", backend, recipe, desk.where)
    other = trained(desk.out, f"{name}-cpu", backend, recipe, "cpu")
    return judged(desk, name, one, other)


def bfloat16(desk: Desk) -> Found:
    """Both backends on the device, as `twinscale compare` has it."""
    out = desk.out / COMPARED / "bfloat16"
    verdict = compared_both(desk.recipes["bfloat16"], out, overwrite=True, asked=desk.words["bfloat16"])
    return of_verdict(desk, verdict, out)


def attention(desk: Desk) -> Found:
    """JAX with the fused kernel and with the reference."""
    kinds = ("cudnn", "einsum")
    recipes = {kind: desk.recipes["bfloat16"].with_values(jax={"attention": kind}) for kind in kinds}
    try:
        runs = [trained(desk.out, f"attention-{kind}", "jax", recipes[kind], desk.where) for kind in kinds]
    except BadInput as error:  # which names the first thing that the kernel wants and this machine has not
        raise Skip(str(error)) from None
    return judged(desk, "attention", *runs)


def determinism(desk: Desk) -> Found:
    """JAX twice with XLA's deterministic operations, each compiled anew in a process of its own. Attention is the
    reference's, of whose gradient the fused kernel has no deterministic kind on every chip."""
    recipe = desk.recipes["bfloat16"].with_values(jax={"deterministic": True, "attention": "einsum"})
    runs = [trained(desk.out, f"determinism-{which}", "jax", recipe, desk.where) for which in ("first", "again")]
    differing, count = unequal(*runs)
    files, figures = tuple(below(desk, run) for run in runs), {"looked_at": count, "unequal": len(differing)}
    if differing:
        return Found("no", f"{len(differing)} of {count} losses and tensors differ in their bits, first {differing[0]}",
                     files, figures)
    return Found("holds", f"all {count} losses and tensors are equal bit for bit", files, figures)


def judged(desk: Desk, name: str, a: Path, b: Path) -> Found:
    """What `twinscale compare-runs` says of two runs."""
    out = desk.out / COMPARED / name
    found = of_verdict(desk, compared_runs(a, b, out, overwrite=True), out)
    files = (below(desk, a), below(desk, b), *found.files)
    return Found(found.state, found.said, files, found.figures | {"devices": [devices(a), devices(b)]})


def of_verdict(desk: Desk, verdict: Verdict, out: Path) -> Found:
    """A verdict as a step's end."""
    rungs = {rung.name: {"worst": rung.worst, "bound": rung.bound} for rung in verdict.rungs}
    return Found(STATES[verdict.exit_code], verdict.sentence, (below(desk, ComparisonFiles(out).verdict),),
                 {"rungs": rungs, "horizon": verdict.horizon})


def below(desk: Desk, path: Path) -> str:
    """A path as it is called below the check's directory."""
    return path.relative_to(desk.out).as_posix()


# ---- how fast

def torch_seen(desk: Desk, compiling: bool) -> Found:
    """Whether there is a PyTorch for a peer, and it sees the device; and whether torch.compile works there."""
    if compiling and desk.rehearsed:
        raise Skip("torch.compile is tried on a GPU, and this is a rehearsal on the CPU")
    try:
        python = python_of("torch", PEERS["torch"][1])
    except MissingEnvironment as error:
        raise Skip(str(error)) from None
    seen = asked_of(python, compiling)
    on = f"torch {seen['version']} on {seen['kind']}"
    if seen["device"] == "cpu" and not desk.rehearsed:
        raise Skip(f"{on}: it sees no GPU, and beside ours its steps would be those of another machine")
    if seen["error"]:
        raise Skip(f"{on}: torch.compile does not work: {seen['error']}")
    return Found("holds", on, (), seen)


def asked_of(python: str, compiling: bool) -> dict[str, Any]:
    """What `benchmarks/peers/torch_compile.py` sees in a Python; raises TwinscaleError where it ends without a word."""
    words = [python, "-P", "-m", "twinscale.benchmarks.peers.torch_compile", SEEN, *([COMPILE] if compiling else [])]
    done = process.run(words, PATIENCE, env=os.environ | process.QUIET | {"PYTHONPATH": str(process.ROOT)}, text=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise TwinscaleError(f"{python}: torch ended with exit code {done.returncode}: {said}") from None


def speed(desk: Desk) -> Found:
    """A bench of the backends beside the peers that can run here."""
    peers = [peer for peer, step in TORCH.items() if step in desk.ended and desk.ended[step].state == "holds"]
    result = benched(desk.recipes["bench"], desk.out / BENCH, backends=desk.usable, peers=peers, overwrite=True,
                     **ROUNDS[desk.rehearsed])
    sides, words = {}, []
    for backend, side in result.sides.items():
        mfu = side.mfu[CONVENTIONS[0]]
        sides[backend] = {"step_ms": side.loop_ms.median, "throughput": side.throughput, "unit": side.unit, "mfu": mfu,
                          "mfu_convention": side.mfu_convention, "attention": side.attention}
        speed_of = "refused" if side.throughput is None else f"{side.throughput:,.0f} {side.unit}"
        words.append(f"{SPOKEN[backend]} {speed_of}" + (f", MFU {sig(100 * mfu, 3)} %" if mfu is not None else ""))
    beside = result.get("peers") or {}
    unit = next(iter(result.sides.values())).unit
    words += [f"{name} {peer.throughput:,.0f} {unit}" for name, peer in beside.items()]
    words += [reason for side in result.sides.values() for reason in side.refused]
    said = "; ".join(words) + f" ({next(iter(sides.values()))['mfu_convention']})"
    figures = {"sides": sides, "peers": {name: peer.throughput for name, peer in beside.items()}}
    return Found(STATES[result.exit_code], said, (f"{BENCH}/{FILE}",), figures)
