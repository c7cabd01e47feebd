"""Starts a training again when it ends before its end: after a kill, a lost host, a hang or a full disk."""

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tenacity import Retrying, retry_if_result, wait_exponential

from twinscale.common.errors import CANNOT_SAVE, HUNG, LOST, RESUMABLE, TwinscaleError
from twinscale.common.files.access import place
from twinscale.common.process import training
from twinscale.common.training.run import RunInfo, read_run

AGAIN = {RESUMABLE, HUNG, LOST, CANNOT_SAVE}  # and every death by a signal
PAUSE = wait_exponential(multiplier=1, min=1, max=60)  # seconds


def supervise(arguments: Sequence[str], run: Path | str, restarts: int) -> int:
    """Runs `twinscale ARGUMENTS` until it ends for good, and returns its exit code.

    It is started again, after pauses that grow from 1 to 60 seconds, unless it has ended well or for a reason that
    would come again (bad input, a missing package, a loss that is not finite), or has been started `restarts` times
    without a new checkpoint. SIGTERM and SIGINT are passed on, and then nothing is started again.
    """
    told, woken, child, tries = [], threading.Event(), None, {"saved": saved(run), "vain": 0}

    def pass_on(number, _):
        told.append(number)
        woken.set()
        if child is not None:
            child.send_signal(number)

    def start():
        nonlocal child
        if told:  # in a pause
            return RESUMABLE
        child = subprocess.Popen(training(*arguments))
        if told:  # while it was being started
            child.send_signal(told[-1])
        code = child.wait()
        return 128 - code if code < 0 else code

    def slept(seconds):
        woken.wait(seconds)

    def worth_it(code):
        return not told and (code in AGAIN or code > 128)

    def enough(state):
        step = saved(run)
        tries.update(saved=step, vain=0 if step != tries["saved"] else tries["vain"] + 1)
        return tries["vain"] >= restarts

    def last(state):
        return state.outcome.result()

    def say(state):
        print(f"twinscale: the training ended with exit code {state.outcome.result()} after its checkpoint of step "
              f"{tries['saved']}; starting it again in {state.next_action.sleep:.0f} s", file=sys.stderr, flush=True)

    handlers = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return Retrying(retry=retry_if_result(worth_it), stop=enough, wait=PAUSE, before_sleep=say, sleep=slept,
                        retry_error_callback=last)(start)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def saved(run: Path | str) -> int | None:
    """The step of a run's last checkpoint, or None."""
    try:
        return read_run(place(run), RunInfo).get("saved")
    except TwinscaleError:
        return None
