"""Errors that end a command: one clear line (place, value, fix) and an exit code."""

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


class HostLost(TwinscaleError):
    """Another host of the training is gone."""

    exit_code = LOST


class CannotSave(TwinscaleError):
    """A checkpoint could not be written; the one before is there."""

    exit_code = CANNOT_SAVE


class NoCheckpoint(TwinscaleError):
    """A run has checkpoints, and none of them is whole."""
