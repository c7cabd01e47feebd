"""Errors that end a command: one clear line (place, value, fix) and an exit code."""

DID_IT, NO, BAD_INPUT, INCONCLUSIVE, MISSING, INTERRUPTED = 0, 1, 2, 3, 4, 130


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
