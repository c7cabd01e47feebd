"""A command where memory is limited (`ulimit -v`). A library that finds none left often raises nothing: it aborts,
crashes, or ends the process, with pages about its own stack. So the command runs in a child, and its parent, which
needs next to nothing, says in one line what has ended it.
"""

import contextlib
import importlib
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterable

from twinscale.common.errors import MISSING, MissingEnvironment

LEAST = 256 << 20  # bytes of addresses; Python and NumPy alone have 140 MB
FATAL = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGTRAP)
# How a library takes leave: glog's last line and the stack after it, C++'s, the loader's, LLVM's and OpenBLAS'.
LAST_WORDS = re.compile(rb"F\d{4} |\*\*\* |PC: @|\s+@ +0x|\[failure_signal|terminate called|  what\(\):|libgcc_s|"
                        rb"LLVM ERROR|OpenBLAS|Fatal Python error")
ENDED = re.compile(rb"OpenBLAS error: Memory|bad_alloc|LLVM ERROR: out of memory")  # whatever the exit code


def limit() -> int | None:
    """Bytes of addresses that this process may have, None where nothing limits them."""
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def lack(code: int, words: Iterable[bytes]) -> MissingEnvironment | None:
    """The MissingEnvironment that a child's exit code and its last words, lines of bytes, amount to where memory is
    limited; None where they say nothing of it."""
    found = next(filter(None, map(ENDED.search, words)), None)
    if limit() is None or not (-code in FATAL or code and found):
        return None
    return _ended(found[0].decode() if found and code > 0 else signal.Signals(-code).name)


def is_last_word(line: bytes) -> bool:
    """Whether a line of a child is a library's about its own end, where memory is limited."""
    return limit() is not None and bool(LAST_WORDS.match(line))


def guarded(run: Callable[[], int]) -> int:
    """The exit code of `run()`, which runs in a child: what ends it for want of memory is one line on stderr, and the
    code of what is missing."""
    most = limit()
    if most is not None and most < LEAST:
        print(f"twinscale: {_ended('too little for Python and NumPy')}", file=sys.stderr)
        return MISSING
    sys.stdout.flush()
    out, into = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if not child:
        os.close(out)
        return _in_child(run, into, parent)
    os.close(into)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: _send(child, number))
    words = _passed_on(out)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if lacking := lack(code, words):
        print(f"twinscale: {lacking}", file=sys.stderr)
        return lacking.exit_code
    os.write(2, b"".join(words))
    return code if code >= 0 else 128 - code


def _in_child(run, into, parent):
    """What the child does: it hears signals from its parent alone, and is told when that is gone."""
    import ctypes

    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        return 128 + signal.SIGTERM
    os.dup2(into, 2)
    os.close(into)
    take_room()
    return run()


def take_room() -> None:
    """Loads what has an OpenBLAS of its own while there is room: later it may look for it in circles for ever."""
    for module in ("numpy", "scipy.linalg"):
        with contextlib.suppress(Exception):  # which comes again
            importlib.import_module(module)


def _passed_on(out):
    """Writes the lines of a pipe to stderr, but for a library's last words, which are returned."""
    words = []
    with open(out, "rb") as lines:
        for line in lines:
            if LAST_WORDS.match(line):
                words.append(line)
            else:
                with contextlib.suppress(OSError):
                    os.write(2, line)
    return words


def _send(child, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)


def _ended(how):
    return MissingEnvironment(f"memory has ended ({how}, under ulimit -v {limit() >> 10:,} kB): raise the limit, or "
                              "take a smaller model or train.global_batch")
