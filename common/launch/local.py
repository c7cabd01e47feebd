"""The hosts of a training as processes of this machine, watched side by side: one that dies ends the others."""

import ctypes
import math
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from twinscale.common.errors import CANNOT_SAVE, DID_IT, HUNG, LOST, RESUMABLE, MissingEnvironment
from twinscale.common.process import CHILD

PAUSE = 0.1  # seconds between looks at the processes
LAST_GRACE = 10.0  # seconds at most from SIGTERM to SIGKILL
LONGEST_LINE = 1 << 16  # bytes that are held back for the end of a line
MEANINGS = {RESUMABLE: "stopped early, saved", HUNG: "its watchdog fired", LOST: "another host is gone",
            CANNOT_SAVE: "it could not save"}


def free_ports(count: int) -> list[int]:
    """`count` ports of the loopback interface that nothing listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@dataclass
class Host:
    """A process that stands for a host; `rest` is the line that it has begun, `code` None while it lives."""

    number: int
    process: subprocess.Popen
    rest: bytes = b""
    code: int | None = None


def run_local(commands: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]], grace: float,
              say: Callable[[str], None]) -> int:
    """Runs commands (lists of words) side by side, each with its dict of further environment, until all have ended.

    `say(line)` gets each line of their output behind the host's number, and what happens to them. SIGINT, SIGTERM and
    SIGHUP are passed on, at the third of them all are killed. Once one has ended badly, the others have `grace`
    seconds, then get SIGTERM, then SIGKILL; no process is left behind. Returns 0 if all did, RESUMABLE if those that
    did not did that, else the code of the first that did neither (128 + number if by a signal).
    """
    hosts = []
    with _signals() as caught, selectors.DefaultSelector() as output:
        try:
            for number, (command, environment) in enumerate(zip(commands, environments, strict=True)):
                hosts.append(_start(number, command, environment))
                output.register(hosts[-1].process.stdout, selectors.EVENT_READ, hosts[-1])
            ended = _watch(hosts, output, caught, grace, say)
        finally:
            for host in hosts:
                if host.code is None:
                    _end(host)
                host.process.stdout.close()
    bad = [host.code for host in ended if host.code]
    return next((code for code in bad if code != RESUMABLE), RESUMABLE if bad else DID_IT)


def _start(number, command, environment):
    """A Host in a process group of its own, which a terminal's Ctrl-C does not reach but ours does."""
    prctl = ctypes.CDLL(None).prctl

    def end_with_parent():  # also where this process is killed and cannot tell
        prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

    try:
        process = subprocess.Popen(command, env={**os.environ, CHILD: "1", **environment},
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   start_new_session=True, preexec_fn=end_with_parent)
    except OSError as error:
        raise MissingEnvironment(f"host {number}: {command[0]} cannot be run: {error.strerror}") from None
    os.set_blocking(process.stdout.fileno(), False)
    return Host(number, process)


def _watch(hosts, output, caught, grace, say):
    """The hosts in the order in which they ended."""
    ended, passed_on, steps, deadline = [], 0, [signal.SIGTERM, signal.SIGKILL], math.inf
    while living := [host for host in hosts if host.code is None]:
        for key, _ in output.select(PAUSE):
            if not _read(key.data, say):
                output.unregister(key.fileobj)
        while caught:
            number, passed_on = caught.pop(0), passed_on + 1
            how = "passed on to" if passed_on < 3 else "the third signal, SIGKILL for"
            say(f"twinscale: {_name(number)}: {how} {_named(living)}")
            _send(living, number if passed_on < 3 else signal.SIGKILL)
        for host in living:
            if not _gone(host):
                continue
            ended.append(host)
            _last_words(host, say)
            if host.code:
                left = [other for other in living if other.code is None]
                first = left and deadline == math.inf and len(steps) == 2
                deadline = time.monotonic() + grace if first else deadline
                rest = f"; {grace:g} s for {_named(left)} to leave too" if first else ""
                say(f"twinscale: host {host.number} {_how(host)}{rest}")
        living = [host for host in living if host.code is None]
        if living and time.monotonic() >= deadline:
            step = steps.pop(0)
            say(f"twinscale: {_named(living)} did not leave: {_name(step)}")
            _send(living, step)
            deadline = time.monotonic() + min(grace, LAST_GRACE) if steps else math.inf
    return ended


def _read(host, say):
    """Says the whole lines of what a host has written; False once it has closed its output."""
    try:
        chunk = os.read(host.process.stdout.fileno(), LONGEST_LINE)
    except BlockingIOError:
        return True
    *lines, host.rest = (host.rest + chunk).split(b"\n")
    if len(host.rest) >= LONGEST_LINE or not chunk and host.rest:
        lines, host.rest = [*lines, host.rest], b""
    for line in lines:
        say(f"[{host.number}] {line.decode(errors='replace').rstrip()}")
    return bool(chunk)


def _last_words(host, say):
    """Says what is still in the pipe of a host that has ended; bounded, as a stranger may hold its other end."""
    for _ in range(8):
        if not _read(host, say):
            return
    if host.rest:
        say(f"[{host.number}] {host.rest.decode(errors='replace').rstrip()}")


def _gone(host):
    """Whether a host has ended; if so, ends what it left behind, and sets its code."""
    # Not reaped yet, so that its number is still its group's.
    if os.waitid(os.P_PID, host.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        return False
    _end(host)
    return True


def _end(host):
    """Kills a host's group, whatever is left of it, and sets the host's code."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(host.process.pid, signal.SIGKILL)
    code = host.process.wait()
    host.code = code if code >= 0 else 128 - code


def _send(hosts, number):
    """Sends a signal to hosts that are not reaped yet: to them alone, unless it kills."""
    for host in hosts:
        with suppress(ProcessLookupError):
            (os.killpg if number == signal.SIGKILL else os.kill)(host.process.pid, number)


@contextmanager
def _signals():
    """A list of the signals to pass on, as they come; those that are ignored stay so."""
    caught, before = [], {}

    def catch(number, _):
        caught.append(signal.SIGTERM if number == signal.SIGHUP else number)  # a terminal that is gone

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, catch)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _how(host):
    code = host.process.returncode
    if code < 0:
        return f"was killed by {_name(-code)}"
    return f"left with exit code {code}" + (f" ({MEANINGS[code]})" if code in MEANINGS else "")


def _name(number):
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _named(hosts):
    numbers = [str(host.number) for host in hosts]
    return f"host {numbers[0]}" if len(numbers) == 1 else f"hosts {', '.join(numbers[:-1])} and {numbers[-1]}"
