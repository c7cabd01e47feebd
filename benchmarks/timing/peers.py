"""Peers: the same layers on a batch of the same shape as others train them, in the rounds of a `bench`.

Each is a file of `benchmarks/peers/`, run by a Python that has what it imports: this one, or that of the environment
that `make peers` makes, or the one that TWINSCALE_PEERS names. A peer reads one batch that lies in memory, so that it
has no data pipeline to wait for, and trains from weights of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.report.words import interval
from twinscale.benchmarks.rounds import median_interval, ratio_interval
from twinscale.common import process
from twinscale.common.data import Dataset
from twinscale.common.errors import BadInput, MissingEnvironment, TwinscaleError, one_of
from twinscale.common.families.decoder import Decoder
from twinscale.common.families.encoder import Encoder, length_of, outputs_of
from twinscale.common.need import lacking
from twinscale.common.recipe.schema import Recipe
from twinscale.common.registry import short

# {peer: (its module, what that imports, whether it trains decoders)}
PEERS = {"keras-fit": ("keras_fit", ("keras", "tensorflow"), True), "torch": ("torch_loop", ("torch",), True),
         "hf-trainer": ("hf_trainer", ("torch", "transformers", "accelerate"), False),
         "torch-compile": ("torch_compile", ("torch",), True)}
NARROW = ("torch", "torch-compile")  # those that train in bfloat16 too, beside float32 weights
COMPILED = ("maxtext-compile",)  # of `benchmarks/preflight/peers.py`, which trains nothing that a clock could time
VARIABLE, ELSEWHERE = "TWINSCALE_PEERS", ".venv-layouts/bin/python"
TABLES = ("embedding.embedding", "position.embedding", "token_type.embedding")
PLAIN = {"norm": "layer", "positions": "learned", "kv_heads": 0, "bias": True}  # the decoders that peers have


# ---- what is trained

def job(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """What `benchmarks/peers/serve.py` calls a job. Raises BadInput, with the key, for what peers do not train."""
    m: Any = recipe.model
    causal = isinstance(m, Decoder)
    if not causal and not (isinstance(m, Encoder) and m.head == "sequence" and m.post):
        raise BadInput(f'model.family = "{short(m.family)}": peers train decoders and post-norm encoders with '
                       'model.head = "sequence"; leave --peers out')
    wanted = PLAIN if causal else {}
    for key, value in wanted.items():
        if getattr(m, key) != value:
            raise BadInput(f"model.{key} = {getattr(m, key)!r}: peers have {value!r} alone; leave it out, or --peers")
    if m.bottleneck:
        raise BadInput(f"model.bottleneck={m.bottleneck}: peers have no adapters; leave it out, or --peers")
    if m.activation not in ("gelu", "gelu_tanh"):
        raise BadInput(f'model.activation = "{m.activation}": peers have "gelu" and "gelu_tanh"')
    if recipe.train.precision == "float64":
        raise BadInput('train.precision = "float64": peers train in float32 or bfloat16; leave --peers out')
    length = dataset.example_shape[0] if causal else length_of(dataset.example_shape)
    sizes = ({"vocabulary": dataset.classes, "positions": length, "types": 0, "classes": dataset.classes,
              "tied": m.tied, "pooler": False} if causal else
             {"vocabulary": m.vocabulary, "positions": m.positions, "types": m.types, "tied": False,
              "classes": outputs_of(m, dataset.classes), "pooler": m.pooler})
    optimizer = recipe.optimizer
    return {"causal": causal, "layers": m.layers, "width": m.width, "heads": m.heads, "hidden": m.feedforward,
            "activation": m.activation, "dropout": m.dropout, "epsilon": m.norm_epsilon, **sizes,
            "frozen": frozen(optimizer.freeze), "batch": recipe.train.global_batch, "length": length,
            "precision": recipe.train.precision,
            "rate": optimizer.learning_rate, "decay": getattr(optimizer, "weight_decay", 0.0)}


def frozen(patterns: Sequence[str]) -> bool:
    """Whether patterns freeze the tables. Raises BadInput where they freeze anything else, or some of the tables."""
    if not patterns:
        return False
    if (all(any(fnmatchcase(name, pattern) for pattern in patterns) for name in TABLES)
            and all(any(fnmatchcase(name, pattern) for name in TABLES) for pattern in patterns)):
        return True
    raise BadInput(f"optimizer.freeze = {list(patterns)}: peers train everything, or everything but the tables "
                   "(embedding.*, position.*, token_type.*)")


# ---- processes

class Peer:
    """A peer's process, which its first answer has made ready, and the seconds a step of each round but the first."""

    def __init__(self, name: str, command: Sequence[str], given: Mapping[str, Any], said: Any) -> None:
        self.name, self.seconds, self.warm = name, list[float](), False
        environment = os.environ | process.QUIET | {"PYTHONPATH": str(process.ROOT)}
        self.said = said  # a file, for a pipe that nobody reads would stop it once full
        self.process: Any = process.start(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                          stderr=self.said, env=environment)
        ready = self.ask(given)
        self.versions: dict[str, str] = ready["versions"]
        self.device: str | None = ready.get("device")

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What it answers; raises TwinscaleError, with its last line, where it has ended."""
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        if line := self.process.stdout.readline():
            return json.loads(line)
        self.said.seek(0)
        said = self.said.read().strip().splitlines() or ["it said nothing"]
        raise TwinscaleError(f"peer {self.name} died: {said[-1]}")

    def train(self, count: int) -> float:
        """Seconds of so many steps; of the first call, which compiles, they are not kept."""
        seconds = self.ask({"count": count})["seconds"]
        if self.warm:
            self.seconds.append(seconds / count)
        self.warm = True
        return seconds

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.communicate()


def commands(names: Sequence[str], recipe: Recipe, dataset: Dataset) -> dict[str, tuple[list[str], dict[str, Any]]]:
    """{peer: (its command, its job)}. Raises BadInput for a name or a recipe that is none of theirs, and
    MissingEnvironment where no Python has what a peer imports."""
    found = {}
    for name in names:
        if name in COMPILED:
            raise BadInput(f"--peers {name}: it is compiled for a TPU slice, and not timed: ask `twinscale preflight "
                           f"RECIPE --topology v5e:4x4 --backend jax --peers {name}`")
        module, imports, causal = one_of(PEERS, name, "--peers")
        given = job(recipe, dataset)
        if given["causal"] and not causal:
            raise BadInput(f"--peers {name}: it trains encoders alone, and this is a decoder; leave it out")
        if given["precision"] != "float32" and name not in NARROW:
            raise BadInput(f'--peers {name}: train.precision = "{given["precision"]}": it trains in float32; leave it '
                           "out")
        if name == "hf-trainer" and not given["pooler"]:
            raise BadInput(f"--peers {name}: model.pooler = false: its encoder has a pooler; leave either out")
        found[name] = ([python_of(name, imports), "-P", "-m", f"twinscale.benchmarks.peers.{module}"], given)
    return found


def python_of(name: str, imports: Sequence[str], variable: str = VARIABLE, elsewhere: str = ELSEWHERE,
              target: str = "peers") -> str:
    """A Python that has what a peer imports: this one, the one that the environment's `variable` names, or that of the
    environment that `make` makes of its `target`, which lies `elsewhere`. Raises MissingEnvironment with how one is
    made."""
    if lacking(imports) is None:
        return sys.executable
    there = os.environ.get(variable) or str(process.ROOT / elsewhere)
    program = f"import importlib.util, sys; sys.exit(not all(map(importlib.util.find_spec, {list(imports)!r})))"
    if Path(there).exists() and process.run([there, "-c", program]).returncode == 0:
        return there
    raise MissingEnvironment(f"--peers {name}: {', '.join(imports)}: not all of them are here, nor in {there}: "
                             f"`make {target}` makes such an environment; {variable} names the Python of another")


@contextmanager
def opened(given: Mapping[str, tuple[list[str], dict[str, Any]]]) -> Iterator[list[Peer]]:
    """The Peers of what `commands` gave, while open."""
    with ExitStack() as stack:
        beside = []
        for name, (command, wanted) in given.items():
            said = stack.enter_context(tempfile.TemporaryFile("w+"))
            beside.append(peer := Peer(name, command, wanted, said))
            stack.callback(peer.close)
        yield beside


# ---- what is said

def figures(beside: Sequence[Any], sides: Mapping[str, Any], examples: int) -> dict[str, Any]:
    """{peer: its figures for bench.json}, of backends' `sides` in the same rounds; a step is of so many `examples`."""
    return {peer.name: {
        "versions": peer.versions, **({"device": peer.device} if peer.device else {}), "step_ms": timed(peer.seconds),
        "throughput": examples / float(median_interval(peer.seconds)[1]),
        "times": {backend: times(peer.seconds, [x / 1e3 for x in side["loop_ms"]["rounds"]])
                  for backend, side in sides.items()}} for peer in beside}


def timed(seconds: Sequence[float]) -> dict[str, Any]:
    """Milliseconds of each round's step, their median and its interval."""
    low, median, high = (1e3 * x for x in median_interval(seconds))
    return {"median": median, "interval": [low, high], "rounds": [1e3 * x for x in seconds]}


def times(theirs: Sequence[float], ours: Sequence[float]) -> dict[str, Any]:
    """How many times the throughput of a peer ours is; of one round there is no interval."""
    found = ratio_interval(theirs, ours)
    assert found is not None  # rounds are pairs
    return {"ratio": found[1], "interval": [found[0], found[2]] if len(theirs) > 1 else None}


def lines(peers: Mapping[str, Any], unit: str) -> list[str]:
    """A line for each backend beside each peer."""
    return [f"{name} ({', '.join(f'{package} {version}' for package, version in peer['versions'].items())}"
            f"{', on ' + peer['device'] if 'device' in peer else ''}): "
            f"{sig(peer['step_ms']['median'], 3)} ms a step, {peer['throughput']:,.0f} {unit}; "
            + "; ".join(f"{backend} has {sig(each['ratio'], 3)}{spread(each['interval'])} times its throughput"
                        for backend, each in peer["times"].items()) for name, peer in peers.items()]


def spread(found: Sequence[float] | None) -> str:
    """An interval in brackets."""
    return f" [{interval(found)}]" if found else ""
