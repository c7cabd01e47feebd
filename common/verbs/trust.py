"""`twinscale trust`: which code that recipes name is run on this machine."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated

import typer

from twinscale.common.errors import BadInput, CannotSave
from twinscale.common.verbs import shared


def trust(
    code: Annotated[list[str] | None, typer.Argument(metavar="FILE.py|MODULE:OBJECT", help="What is yours, or what you "
                                                     "have looked at.")] = None,
    *,
    listed: Annotated[bool, typer.Option("--list", help="Print what is trusted, and where it was then.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Trust it no longer.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """Say that code may run which recipes of others name: a file by its content, a module by its name.

    What you name yourself, in a recipe that you give to a command or in an override, needs none of this. A file that
    has changed is another file.

    \b
    Examples:
      twinscale trust theirs/bag.py
      twinscale trust their.package:RMSPROP
      twinscale trust --list
      twinscale trust --forget theirs/bag.py
    """
    from twinscale.common import trust as kept

    if forget and not code:
        raise BadInput("--forget: of what? name a FILE.py or a MODULE:OBJECT")
    if not (code or listed or json):
        raise BadInput("name a FILE.py or a MODULE:OBJECT, or ask for --list")
    if code:
        found = {} if forget else {key: where for name in code for key, where in keys_of(name).items()}
        try:
            kept.change(without(code) if forget else lambda old: old | found)
        except OSError as error:
            raise CannotSave(f"{kept.place()}: {error.strerror}: set XDG_CONFIG_HOME to a folder that can be written"
                             ) from None
    if listed or json:
        show(kept.kept(), json)


def keys_of(name: str) -> dict[str, str]:
    """By what `common.trust` knows what is named, {key: where}: a FILE's content, or a module. Raises BadInput where it
    is neither, or cannot be read."""
    from twinscale.common import registry
    from twinscale.common.files.access import quoted

    found = name if registry.is_reference(name) else f"{name}:OBJECT"
    if file := registry.file_of(found):
        return {f"sha256={registry.sha256_of(file)}": str(file)}
    if not registry.is_reference(found):
        raise BadInput(f"{quoted(name)}: expected FILE.py or MODULE:OBJECT")
    return registry.keys_of(found)


def without(code: Iterable[str]) -> Callable[[Mapping[str, str]], dict[str, str]]:
    """What takes out of {key: where} all that is named: also what a file's content was, and a file that is gone."""
    from twinscale.common import registry

    named = [name if registry.is_reference(name) else f"{name}:OBJECT" for name in code]
    keys = {key for name in named for key in registry.keys_of(name)}
    files = {str(registry.file_of(name)) for name in named}
    return lambda old: {key: where for key, where in old.items() if key not in keys and where not in files}


def show(trusted: Mapping[str, str], as_json: bool) -> None:
    """Prints {key: where}, in lines for people or as JSON."""
    from twinscale.common.files.access import shown

    if as_json:
        shared.print_json({"schema_version": 1, "trusted": trusted})
        return
    for key, where in trusted.items():
        kind, _, name = key.partition("=")
        print(f"{shown(where)}  {name[:12]}" if kind == "sha256" else f"{shown(name)}  module")
