"""The command line, the one door: each verb loads what it needs, and only then, so that `--help` stays fast.

What the verbs are is in `common/verbs`; here is what holds of all of them: exits, signals and errors.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from twinscale.common import process
from twinscale.common.errors import DID_IT, INTERRUPTED, BadInput
from twinscale.common.verbs import Door
from twinscale.common.verbs.shared import NO_CONVERSION, failed, say

app = typer.Typer(name="twinscale", cls=Door, rich_markup_mode=None, pretty_exceptions_enable=False,
                  context_settings=NO_CONVERSION,
                  help="One recipe, two independent trainers (Keras on TensorFlow, Flax on JAX), one verdict.")


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """What holds before there is a verb: `--version`, and the help where none is named. The app's own help, which is
    shown, goes before this text. Raises typer.Exit after the version."""
    if version:
        from importlib.metadata import PackageNotFoundError
        from importlib.metadata import version as installed

        try:
            print(installed("twinscale"))
        except PackageNotFoundError:
            print("not installed, run from its source")
        raise typer.Exit()
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line (`sys.argv` by default) and returns its exit code; talks on stderr, one line a failure."""
    if arguments is not None:
        return _ran(arguments)
    process.open_standard()  # this process is ours alone
    process.keep_out_here()
    process.collect_rarely()
    process.quieten_failures(os.environ.get("TWINSCALE_TRACEBACK"))
    from twinscale.common import limited

    return _ran() if limited.limit() is None else limited.guarded(_ran)


def _ran(arguments=None):
    try:
        _check_words(sys.argv[1:] if arguments is None else arguments)
        with process.interruptible():
            code = app(arguments, prog_name="twinscale", standalone_mode=False)
            sys.stdout.flush()
        if code == INTERRUPTED:  # typer has caught the KeyboardInterrupt
            say("interrupted")
        return code if isinstance(code, int) else DID_IT
    except (Exception, KeyboardInterrupt) as error:
        return failed(error)


def _check_words(words):
    """Raises BadInput for an empty word, which a variable that is not set leaves: `--from "$RUN"` would start anew."""
    for number, word in enumerate(words):
        option = word[:-1] if word.startswith("--") and word.endswith("=") else None
        if word == "" or option:
            before = option or (words[number - 1] if number else "")
            raise BadInput(f"{before if before.startswith('--') else f'argument {number + 1}'}: empty: name what is "
                           "meant, or leave it out")


if __name__ == "__main__":
    sys.exit(main())
