"""`twinscale schema`: the JSON schema of what a command leaves as JSON."""

from typing import Annotated

import typer

from twinscale.common.verbs import shared


def schema(name: Annotated[str, typer.Argument(metavar="NAME", help="verdict, compression, audit, clean, bench, plan, "
                                               "preflight, search, options, tune, study, export or run, as its "
                                               ".json file is called.")]
           ) -> None:
    """Print the JSON schema of what a command leaves as JSON: every key, its type and meaning.

    \b
    Example:
      twinscale schema verdict > verdict.schema.json
    """
    shared.print_json(shared.room("benchmarks.results").schema(name))
    shared.suggest("compare", shared.shipped(), "--out", "build/demo")
