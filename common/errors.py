"""Errors that end a command: one clear line (place, value, fix) and an exit code."""

import errno
import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from twinscale.common.need import lacking, missing

Entry = TypeVar("Entry")
HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # where our packages lie

DID_IT, NO, BAD_INPUT, INCONCLUSIVE, MISSING, INTERRUPTED = 0, 1, 2, 3, 4, 130
HUNG, LOST, CANNOT_SAVE, RESUMABLE = 70, 71, 74, 75  # the last run's work is kept: the same command goes on


class TwinscaleError(Exception):
    """An error whose message is meant for the person at the terminal; `exit_code` is what the process returns."""

    exit_code = NO


class BadInput(TwinscaleError):
    """The recipe, its data or an argument is wrong: nothing was compiled or written."""

    exit_code = BAD_INPUT


class MissingEnvironment(TwinscaleError):
    """A package, device or file of the environment is missing."""

    exit_code = MISSING


class NonFinite(TwinscaleError):
    """The loss became NaN or infinite."""


class Stopped(TwinscaleError):
    """The training was asked to end early; it has saved its state."""

    exit_code = RESUMABLE


class Hung(TwinscaleError):
    """A watchdog ended the training."""

    exit_code = HUNG


class HostLost(TwinscaleError):
    """Another host of the training is gone."""

    exit_code = LOST


class CannotSave(TwinscaleError):
    """A checkpoint could not be written; the one before is there."""

    exit_code = CANNOT_SAVE


class NoCheckpoint(TwinscaleError):
    """A run has checkpoints, and none of them is whole."""


class Disagreement(TwinscaleError, AssertionError):
    """A verdict that says no, or nothing: `verdict.raise_if_not()` in a test."""

    def __init__(self, message: str, verdict: Any) -> None:
        super().__init__(message)
        self.verdict, self.exit_code = verdict, verdict.exit_code


def error_of(code: int, message: str) -> TwinscaleError:
    """The error that another process of ours ended with, by its exit code."""
    kinds = (BadInput, MissingEnvironment, Stopped, Hung, HostLost, CannotSave)
    return next((kind for kind in kinds if kind.exit_code == code), TwinscaleError)(message)


def one_of(known: Mapping[Any, Entry], name: object, key: str) -> Entry:
    """What the dict `known` has for a name that the recipe's `key`, or an argument, may have. A name that is only in
    the schema must not do what another one does, which both backends would agree on.

    Raises BadInput for any other name.
    """
    if name not in list(known):  # which may be a list, read from a file
        raise BadInput(f"{key}={repr(name)[:80]}: nothing here is called so; known are {', '.join(map(str, known))}")
    return known[name]


def did_you_mean(word: object, choices: Iterable[str]) -> str:
    """The end of an error line that offers the nearest of `choices`, or nothing."""
    near = get_close_matches(str(word)[:80], list(choices), 1)
    return f'; did you mean "{near[0]}"?' if near else ""


# ---- what Python and the libraries raise

NO_MEMORY = ("RESOURCE_EXHAUSTED", "OOM when allocating", "bad_alloc", "Cannot allocate memory", "Out of memory",
             "failed to map segment", "can't start new thread",  # by which the frameworks and the loader say so
             "MemoryError", "memory has ended")  # and other processes of ours
NO_WRITING = {  # what keeps a file from being written, and what helps
    errno.ENOSPC: "make room", errno.EDQUOT: "make room", errno.EFBIG: "raise the limit (ulimit -f)",
    errno.EROFS: "choose a directory that can be written", errno.EIO: "look at the disk"}
NO_DEVICE = ("Unable to initialize backend", "Unknown backend")  # of JAX
NO_TEMPORARY = "No usable temporary directory"  # of Python's tempfile, which tries TMPDIR, /tmp and others


def need(*modules: str, why: str | None = None) -> None:
    """Raises MissingEnvironment where one of some modules is not installed; `why` says what for."""
    if module := lacking(modules):
        raise MissingEnvironment(missing(module, why))


def known(error: BaseException) -> TwinscaleError | None:
    """The TwinscaleError that an exception of Python or of a library amounts to, None where nobody expected it."""
    said, unwritten = first_line(error, 300), no_writing(error)
    if isinstance(error, TwinscaleError):
        return error
    if unwritten:  # before memory: TensorFlow and TensorStore call both a resource that is exhausted
        return CannotSave(f"{getattr(error, 'filename', None) or 'output'}: {unwritten[0]}: {unwritten[1]}, then run "
                          "the same command again")
    if isinstance(error, ModuleNotFoundError):
        return MissingEnvironment(missing(error.name or "a package"))
    if is_memory(error):
        return MissingEnvironment(f"memory has ended ({said}): take a smaller train.global_batch, more of "
                                  "train.accumulate, or a machine with more")
    if isinstance(error, ImportError):
        return MissingEnvironment(f"{error.name or 'a package'} cannot be imported ({said}); `twinscale doctor` says "
                                  "what this machine offers")
    if isinstance(error, RuntimeError) and any(sign in said for sign in NO_DEVICE):
        return MissingEnvironment(no_devices(said))
    if isinstance(error, FileNotFoundError) and NO_TEMPORARY in said:
        return MissingEnvironment("no directory for temporary files can be written: set TMPDIR to one that can "
                                  f"({error.strerror or said})")
    if isinstance(error, OSError):
        return CannotSave(f"{error.filename or 'input or output'}: {error.strerror or error}")
    return None


def no_devices(said: str = "") -> str:
    """One line on a JAX that finds no devices, and what helps, by what it said, which may be nothing: where the
    platform that JAX_PLATFORMS names is not there, it is but an AssertionError without a word."""
    named = os.environ.get("JAX_PLATFORMS")
    words = named and f"JAX_PLATFORMS={named}", said or not named and "without a word"
    why = ": ".join(part for part in words if part)
    asked = named or any(sign in said for sign in NO_DEVICE)
    return f"JAX gives no devices ({why}): " + ("unset JAX_PLATFORMS, or set JAX_PLATFORMS=cpu" if asked else
                                                "run `twinscale doctor`")


def is_memory(error: BaseException) -> bool:
    """Whether an exception says that there is no memory left."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in NO_MEMORY)


def no_writing(error: BaseException) -> tuple[str, str] | None:
    """(Why a file could not be written, what helps), by an OSError or what a library says of one; else None."""
    return next(((os.strerror(code), helps) for code, helps in NO_WRITING.items()
                 if getattr(error, "errno", None) == code or os.strerror(code) in str(error)), None)


def of_machine(error: BaseException) -> TwinscaleError | None:
    """The TwinscaleError of an exception that is no matter of what was tried but of the machine: its memory or its disk
    has ended. Else None."""
    return known(error) if is_memory(error) or no_writing(error) else None


def first_line(error: BaseException, most: int | None = None) -> str:
    """The first line of what an exception says, of at most `most` characters, or its type's name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]


def unexpected(error: BaseException) -> str:
    """One line on an exception that nobody expected: what it is, and where it came from."""
    frames, trace = [], error.__traceback__
    while trace:
        frames.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    ours = [frame for frame in frames if frame[0].startswith(HERE)] or frames
    place = f" ({os.path.relpath(ours[-1][0], HERE)}:{ours[-1][1]})" if ours else ""
    return (f"internal error: {type(error).__name__}: {first_line(error, 300)}{place}; TWINSCALE_TRACEBACK=1 shows how "
            "it came to it")


def show_traceback(error: BaseException) -> None:
    """Prints an exception's whole way where TWINSCALE_TRACEBACK asks for it."""
    if os.environ.get("TWINSCALE_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
