"""The drill of the drill: safeguards of the training are switched off one at a time, in the child alone. With each of
them the drill must go red, and for the reason that the safeguard is there for."""

import re
from dataclasses import dataclass

import numpy as np

from tests.drill.moments import runtime_module
from twinscale.common.backends import on_jax


def checksum_off(backend):
    from twinscale.common.training import checkpoints

    def trusting(self, step):
        return None

    checkpoints.Checkpoints.problem = trusting


def commit_first(backend):
    """The manifest is written as a save begins."""
    from twinscale.common.files.access import write_json
    from twinscale.common.training.checkpoints import Checkpoints

    save = Checkpoints.save

    def hasty(self, step, state, held_out=None, *rest):
        if self.run.writes:
            write_json(self.files.manifest(step), {
                "schema_version": 1, "step": step, "seed": self.recipe.seed, "backend": self.room.backend,
                "meaning": self.recipe.meaning, "held_out": held_out, "files": {}})
        listed = self.listed
        self.listed = lambda: [other for other in listed() if other != step]
        save(self, step, state, held_out, *rest)
        self.listed = listed

    Checkpoints.save = hasty


def sweep_off(backend):
    from twinscale.common.training.checkpoints import Checkpoints

    Checkpoints.sweep = lambda self: None


def watchdog_off(backend):
    from twinscale.common.training.pulse import Pulse

    Pulse.allow = lambda self, doing, patient=False: None


def position_off(backend, by=-1):
    """The weights are restored, and the data goes on a step earlier."""
    from twinscale.common.training import loop

    batches = loop.training_batches

    def moved(dataset, recipe, start, stop, **options):
        if not start:
            yield from batches(dataset, recipe, start, stop, **options)
            return
        for number, batch, digest in batches(dataset, recipe, start + by, stop + by, **options):
            yield number - by, batch, digest

    loop.training_batches = moved


def position_from_zero(backend):
    """The weights are restored, and the data begins again; so does the count of steps."""
    from twinscale.common.training import loop

    batches = loop.training_batches

    def again(dataset, recipe, start, stop, **options):
        for number, batch, digest in batches(dataset, recipe, 0, stop - start, **options):
            yield number + start, batch, digest

    loop.training_batches = again


def key_off(backend):
    """On resuming, the random bits are those of the step before."""
    bits = runtime_module(backend, "train").bits
    store = runtime_module(backend, "checkpoint").Store
    fold_in, read, resumed = bits.fold_in, store.read, []

    def noted(self, step, state):
        resumed.append(step)
        return read(self, step, state)

    store.read = noted
    bits.fold_in = lambda key, data: fold_in(key, data - 1 if resumed and not isinstance(data, int) else data)


def slots_off(backend):
    """The optimizer's slots begin at zero again."""
    store = runtime_module(backend, "checkpoint").Store
    read = store.read

    def forgetful(self, step, state):
        if on_jax(backend):
            import jax

            restored = read(self, step, state)
            fresh = jax.tree.map(lambda x: x * 0 if x.ndim else x, restored.optimizer)
            return restored.replace(optimizer=fresh)
        state = read(self, step, state)
        for variable in state.optimizer.variables:
            if len(variable.shape):
                variable.assign(np.zeros(variable.shape, "float32"))
        return state

    store.read = forgetful


def average_off(backend):
    """The averaged weights begin at the weights again."""
    store = runtime_module(backend, "checkpoint").Store
    read = store.read

    def forgetful(self, step, state):
        state = read(self, step, state)
        if on_jax(backend):
            import jax

            return state.replace(averages=jax.tree.map(lambda x: x + 0, state.weights))
        for average, variable in zip(state.averages, state.trained.values(), strict=True):
            average.assign(variable)
        return state

    store.read = forgetful


def files_first(backend):
    """Retention removes a checkpoint's files before its manifest."""
    from twinscale.common.training.checkpoints import Checkpoints

    expendable = Checkpoints.expendable

    def removing(self):
        found = expendable(self)
        for step in found:
            self.store.delete(step)
        return found

    Checkpoints.expendable = removing


def keep_none(backend):
    """Retention takes all that is there."""
    from twinscale.common.training.checkpoints import Checkpoints

    Checkpoints.expendable = lambda self: self.listed()


def lock_off(backend):
    import os

    from twinscale.common.training import run

    run._lock = lambda path: os.open(path / ".lock", os.O_RDWR | os.O_CREAT)


def agreement_off(backend):
    """Each host goes on from its own newest checkpoint."""
    from twinscale.common.training.checkpoints import Checkpoints

    Checkpoints.common = lambda self, steps: max(steps, default=-1)


def failure_swallowed(backend):
    """What goes wrong in the background is not looked at."""
    from twinscale.common.training.checkpoints import Checkpoints

    Checkpoints.finished = lambda self, begun: None


def refusal_off(backend):
    """A run is gone on with whatever its recipe."""
    import json

    from twinscale.common.training import run

    check_run = run.check_run

    def lenient(path, recipe, backend, **options):
        file = path / "run.json"
        if not file.exists():
            return check_run(path, recipe, backend, **options)
        return json.loads(file.read_text())

    run.check_run = lenient


def stop_off(backend):
    from twinscale.common.training.pulse import Pulse

    Pulse.listen = lambda self: None


def promotion_on(backend):
    """A loss that is not finite is no reason to stop."""
    import math
    from types import SimpleNamespace

    from twinscale.common.training import ledger as loop_ledger

    loop_ledger.math = SimpleNamespace(**{**vars(math), "isfinite": lambda x: True})


CONTROLS = {control.__name__: control for control in (
    checksum_off, commit_first, sweep_off, watchdog_off, position_off, position_from_zero, key_off, slots_off,
    average_off, files_first, keep_none, lock_off, agreement_off, failure_swallowed, refusal_off, stop_off,
    promotion_on)}


@dataclass(frozen=True)
class Control:
    """A safeguard that is off, the fault (by class and name) that must find it, and what the oracle must say."""

    name: str
    number: int
    fault: str  # a regular expression
    reason: str  # a regular expression
    longest: float = 60.0  # seconds until a process counts as hanging

    def tries(self, fault):
        return fault.number == self.number and re.search(self.fault, fault.name)


FOUND = (
    Control("checksum_off", 4, "a bit flipped, of the largest$", "is not named|ended with (1|74)"),
    Control("commit_first", 2, "SIGKILL between the weights and their manifest", "listed"),
    Control("sweep_off", 2, r"SIGKILL at os.remove checkpoints/step[-_]N", "holds files of the steps"),
    Control("watchdog_off", 8, "a step that never ends", "did not end within", 25.0),
    Control("position_off", 10, "going on in mid-epoch", "trained the steps 8 to 22"),
    Control("position_from_zero", 10, "going on at an epoch's edge", "trained the steps 0 to 11"),
    Control("key_off", 10, "going on in mid-epoch", "differ"),
    Control("slots_off", 10, "going on in mid-epoch", "differ"),
    Control("average_off", 10, "going on in mid-epoch", "final ema/.* differs|metrics differ"),
    Control("files_first", 2, "SIGKILL at os.remove checkpoints/manifests/step_N.json", "listed, but not whole"),
    Control("keep_none", 2, "SIGKILL between the weights and their manifest", "steps were lost"),
    Control("lock_off", 12, "a second process on the run", "ended with 0, not 2"),
    Control("agreement_off", 9, "worker 1 does not see the newest checkpoint", "ended with|trained|did not end", 30.0),
    Control("failure_swallowed", 3, "EIO in the background of save 12",
            "ended with 0, not 74|steps were trained after the error"),
    Control("refusal_off", 10, "with seed=12", "not 2"),
    Control("stop_off", 6, "SIGTERM in a step", "ended with -15"),
    Control("promotion_on", 11, "a last batch that is not finite, the best checkpoints kept", "ended with 0, not 1"),
)
