"""The verbs of the command line, a module each: one is imported when it is called, and none for the list of them."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

VERBS = {  # verb: what `twinscale --help` says of it, in the order in which it does
    "train": "Train a recipe with one backend.",
    "match": "Find which tensors of a pair are one another's.",
    "compare": "Train it with both and say whether they agree.",
    "launch": "Train a recipe on several hosts.",
    "convert": "Write a run's state for the other backend.",
    "export": "Write a run's model for other programs.",
    "evaluate": "Measure a run's model on rows for a test.",
    "report": "Write the page of one run.",
    "predict": "Run an export on a file.",
    "generate": "Write text with a run's decoder.",
    "compress": "Prune, quantise, cluster or distil a run's model.",
    "tune": "Search for the best recipe of a space.",
    "study": "Train a design, to a scaling law.",
    "compare-runs": "Say whether two runs agree.",
    "bisect": "Say which operation parts them.",
    "audit": "Plant errors and see that they are caught.",
    "bench": "Measure step time and MFU here.",
    "preflight": "Ask the TPU's compiler, without a TPU.",
    "fit": "Fit a scaling law to results.",
    "predict-loss": "Say what a fitted law predicts.",
    "plan": "Chips, days and money of a training.",
    "plan-serving": "The best size, bits and sparsity to serve.",
    "trust": "Let code run that recipes of others name.",
    "schema": "Print the JSON schema of a result.",
    "doctor": "Say what this machine offers.",
    "check-device": "Check that this machine's GPU trains right.",
    "recipe": "Look at recipes.",
    "data": "Fetch data sets of others.",
}


class Commands(Mapping):
    """{verb: its command}, each made of its module when it is asked for."""

    def __getitem__(self, verb):
        if verb not in VERBS:
            raise KeyError(verb)
        return command(verb)

    def __iter__(self):
        return iter(VERBS)

    def __len__(self):
        return len(VERBS)


class Door(TyperGroup):
    """The group of all verbs."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = Commands()  # type: ignore[assignment]  # nobody adds a verb to it

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of verbs, for which none is imported."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


def command(verb: str) -> Any:
    """What typer makes of a verb's module: of the group `app` in it, or of the function that is called as the verb."""
    name = verb.replace("-", "_")
    module = import_module(f"{__name__}.{name}")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(rich_markup_mode=None, add_completion=False)
        app.command(verb, short_help=VERBS[verb])(getattr(module, name))
    made = typer.main.get_command(app)
    made.name = verb
    return made
