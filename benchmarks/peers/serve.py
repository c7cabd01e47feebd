"""How a peer's process answers: one JSON object a line on stdin, one on stdout. It imports the standard library and
NumPy alone, for a peer's environment may hold nothing else of ours.

A job, the first line, is {"causal", "layers", "width", "heads", "hidden", "vocabulary", "positions", "types",
"classes", "activation", "dropout", "epsilon", "tied", "pooler", "frozen": whether tables are, "batch",
"length", "precision", "rate", "decay"}; it is answered with {"versions": {package: version}}, and "device" of a peer
that says what it trains on. Then each {"count": N} is answered with {"seconds": of N steps}.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

# Words that a peer's module may be started with in place of a job: to say what is here and train nothing, and to try
# torch.compile too.
SEEN, COMPILE = "--seen", "--compile"


def opened() -> tuple[Any, Callable[[Any], None]]:
    """(the job, what sends a reply); what is printed from here on goes to stderr."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def reply(value):
        replies.write(json.dumps(value) + "\n")
        replies.flush()

    return json.loads(sys.stdin.readline()), reply


def serve(prepared: Callable[[Mapping[str, Any]], Callable[..., float]], packages: tuple[str, ...],
          device: str | None = None) -> None:
    """Answers till stdin ends. `prepared` makes of a job what trains so many steps, its `count`, and says the seconds
    that they took; what is printed meanwhile goes to stderr. `device` is what it trains on, where it says so."""
    asked, reply = opened()
    train = prepared(asked)
    reply({"versions": {package: version(package) for package in packages}} | ({"device": device} if device else {}))
    for line in sys.stdin:
        reply({"seconds": train(**json.loads(line))})


def batch(job: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A batch of tokens drawn evenly, none of them padding: {"ids", "labels"} int32 (B, L), labels (B,) where one class
    of a row is asked for; `mask` of ones and `types` of zeros as ids."""
    rng, shape = np.random.default_rng(0), (job["batch"], job["length"])
    labels = rng.integers(0, job["classes"], shape if job["causal"] else shape[:1])
    return {"ids": rng.integers(0, job["vocabulary"], shape).astype(np.int32), "labels": labels.astype(np.int32),
            "mask": np.ones(shape, np.int32), "types": np.zeros(shape, np.int32)}
