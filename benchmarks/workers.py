"""Trainers as processes that answer calls; the other end is `common/worker.py`."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Thread

from common.errors import BAD_INPUT, MISSING, BadInput, MissingEnvironment, TwinscaleError

ROOMS = {"keras": "tfscale", "jax": "jaxscale"}
SWAPPED = {"keras on jax": "swap.keras_on_jax", "flax on tensorflow": "swap.flax_on_tensorflow"}
# Keras on TensorFlow and quiet; and on a GPU, two processes that leave each other room.
ENVIRONMENT = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_FORCE_GPU_ALLOW_GROWTH": "true",
               "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
STARTUP = ("WARNING: All log messages before absl", "I0000", "W0000")


class Worker:
    """One backend's process: its name, and the module that runs."""

    def __init__(self, backend, environment=None, module=None):
        self.backend = backend
        self.process = subprocess.Popen([sys.executable, "-m", module or ROOMS[backend]], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env={**os.environ, **ENVIRONMENT, **(environment or {})})
        self.messages = Thread(target=self.forward, daemon=True)
        self.messages.start()

    def forward(self):
        """What the process says, on our stderr under its name; not what TensorFlow's start-up always says."""
        for line in self.process.stderr:
            if line.strip() and not line.startswith(STARTUP):
                print(f"{self.backend:>5}  {line}", end="", file=sys.stderr, flush=True)

    def ask(self, call, recipe=None, **arguments):
        """The value of a call; raises the TwinscaleError that the trainer raised, or one that it died."""
        if recipe is not None:
            arguments["recipe"] = recipe.model_dump(mode="json")
        self.process.stdin.write(json.dumps({"call": call, "arguments": arguments}, default=str) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise TwinscaleError(f"the {self.backend} trainer died during {call} (exit code {self.process.wait()}); "
                                 "its messages are above; `twinscale doctor` says what this machine offers")
        reply = json.loads(line)
        if "error" in reply:
            kinds = {BAD_INPUT: BadInput, MISSING: MissingEnvironment}
            raise kinds.get(reply["exit_code"], TwinscaleError)(f"{self.backend}: {reply['error']}")
        return reply["value"]

    def close(self):
        """Ends the process."""
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.messages.join(1)


def each(workers, function):
    """{backend: function(worker)} of every worker, side by side."""
    with ThreadPoolExecutor(len(workers)) as pool:
        return dict(zip(workers, pool.map(function, workers.values()), strict=True))


@contextmanager
def open_workers(environment=None, rooms=ROOMS):
    """{backend: Worker} of both backends, or of other `rooms` by name, with more of an environment where it is given;
    the frameworks are imported side by side."""
    workers = {backend: Worker(backend, environment, module) for backend, module in rooms.items()}
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.close()
