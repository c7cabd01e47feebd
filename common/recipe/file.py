"""Recipes as TOML files: `extends`, `key=value` overrides, where each value came from, and errors that say what to do.

Every failure is a `BadInput` with one line a problem: place (the file, or "override"), key, value, what was expected.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from twinscale.common import trust
from twinscale.common.errors import BadInput, did_you_mean
from twinscale.common.files.access import (
    checked,
    dotted,
    exists,
    parse_toml,
    plain,
    read_text,
    shown,
    toml_problem,
)
from twinscale.common.files.hub import PATTERNS, fetched, is_hub
from twinscale.common.files.run_files import is_filled
from twinscale.common.recipe.problems import BESIDE, DEEPEST, NAMED, brief, explained, hostile, origin_of, refuse
from twinscale.common.recipe.schema import Recipe
from twinscale.common.registry import anchored, is_reference, keys_of
from twinscale.common.sources import is_added

RECIPES = Path(__file__).parents[2] / "recipes"
LARGEST_FILE, MOST_PARENTS, MOST_AFTER = 1 << 20, 1000, 64  # bytes, files that one extends, and one after another
KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
# Values that are sure to be what TOML's own reader, which takes its time, would say; a script may have thousands.
WORD = re.compile(r"(?!(true|false|inf|nan)$)[A-Za-z][A-Za-z-]*")
NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})(?P<fraction>\.[0-9]{1,17})?")


def load(path: Path | str, overrides: Iterable[str] = ()) -> Recipe:
    """The validated recipe of a TOML file under `key=value` overrides; raises BadInput, also for code that it names and
    the user has not: the file may lie in what somebody else has made."""
    return resolve(path, overrides)[0]


def given(path: Path | str, overrides: Iterable[str] = ()) -> Recipe:
    """As `load`, of a file that the user has named, and overrides that he has written: the code that they name is
    trusted from now on. Not so what a file names that lies in a directory that a verb has filled."""
    return resolve(path, overrides, True)[0]


def resolve(path: Path | str, overrides: Iterable[str] = (), users: bool = False) -> tuple[Recipe, dict[str, str]]:
    """The recipe, and for each of its dotted keys the file it came from, "override" or "default". With `users` as
    `given`, else as `load`. Raises BadInput."""
    named = set()  # the plug-ins that the user names, as the recipe has them
    values, origins = _layers(file_of(path), (), {}, named)
    values, origins, problems = _copied(values), dict(origins), []
    for text in overrides:
        try:
            place, value = _override(text)
            nested = value
            for part in reversed(place):
                nested = {part: nested}
            _lay(values, nested)
            named.update(_plug_ins(nested))
            origins |= dict.fromkeys(flat(value, place), "override") if isinstance(value, dict) else {place: "override"}
        except BadInput as error:
            problems.append(str(error))
    refuse(problems)
    if users:
        for name in named.intersection(_plug_ins(values)):
            trust.remember(keys_of(name))
        _fetch(values)
    try:
        recipe = Recipe.model_validate(values)
    except trust.Untrusted as error:
        key = tuple(str(error).partition(" ")[0].split("."))
        raise trust.Untrusted(f"{origin_of(key, origins) or shown(path)}: {error}") from None
    except ValidationError as error:
        refuse((explained(e, values, origins, shown(path)) for e in error.errors(include_url=False)),
               error.error_count())
    origins = {("model", *key[1:]) if key[0] == "programs" else key: origin for key, origin in origins.items()}
    return recipe, {dotted(key): origins.get(key, "default") for key in flat(recipe.model_dump(mode="json"))}


def file_of(name: Path | str) -> Path:
    """The file of a recipe: a path, or the name of one that comes with Twinscale, as decoder-stdlib, where no file of
    the user's is called so."""
    path, ours = Path(name), RECIPES / f"{name}.toml"
    return ours if not path.suffix and not exists(path) and _is_file(ours) else path


def of_values(values: Any, label: str) -> Recipe:
    """The recipe in what a file holds as nested dicts; raises BadInput that names the `label`."""
    refuse(hostile(values, label))
    try:
        return checked(label, values, Recipe)
    except trust.Untrusted as error:
        raise trust.Untrusted(f"{label}: {error}") from None


def dumps(recipe: Recipe, origins: Mapping[str, str] | None = None) -> str:
    """The whole recipe as TOML text that loads to an equal hash; with origins, each line ends in the value's origin."""
    tables: dict[tuple, dict[str, Any]] = {(): {}}
    for (*within, key), value in flat(recipe.model_dump(mode="json")).items():
        tables.setdefault(tuple(within), {})[key] = value
    blocks = []
    for table, entries in tables.items():
        lines = [f"{_key(key)} = {_toml(value)}" for key, value in entries.items()]
        if origins is not None:
            width = min(40, max(map(len, lines)))
            comments = [shown(origins.get(dotted((*table, key)), "default")) for key in entries]
            lines = [f"{line:{width}}  # {comment}" for line, comment in zip(lines, comments, strict=True)]
        head = [f"[{'.'.join(map(_key, table))}]"] if table else []
        blocks.append("\n".join([*head, *lines]))
    return "\n\n".join(blocks) + "\n"


def _key(key):
    """A key of a table as TOML has it, in quotes where it is more than a word, as a pattern of names is."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def as_override(key: str, value: Any) -> str:
    """A value of Python as the text `key=value` that `load` takes."""
    return f"{key}={_toml(plain(value))}"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line for each leaf in which two resolved recipes (plain nested dicts) differ."""
    was, now = ({key: brief(value) for key, value in flat(values).items()} for values in (old, new))
    return [f"{dotted(key)} is {was.get(key, 'absent')} there and {now.get(key, 'absent')} here"
            for key in was | now if was.get(key) != now.get(key)]


def flat(values: Any, place: tuple = ()) -> dict[tuple, Any]:
    """The leaves of nested dicts by their tuple of keys; an empty table is a leaf."""
    if not isinstance(values, dict) or not (values or not place):
        return {place: values}
    return {key: leaf for k, v in values.items() for key, leaf in flat(v, (*place, k)).items()}


# ---- files

def _layers(path, within, done, named):
    """(values, origins) of a file laid over what it extends. `done` keeps diamonds from being read twice; to `named` is
    added what the files name as plug-ins, but for those in a directory that a verb has filled."""
    label, identity = shown(path), path.resolve() if _is_file(path) else path
    if identity in within:
        raise BadInput(f"{label}: extends itself: " + " -> ".join(shown(p.name) for p in (*within, identity)))
    if len(within) == MOST_AFTER:
        raise BadInput(f"{shown(within[0])}: extends a file that extends another, and so on, more than {MOST_AFTER} "
                       "deep; list them in one `extends`")
    if identity not in done:
        own = _parsed(path)
        parents = own.pop("extends", [])
        if not isinstance(parents, list) or not all(isinstance(p, str) for p in parents):
            raise BadInput(f'{label}: extends = {brief(parents)}: expected a list of files, extends = ["base.toml"]')
        if len(parents) > MOST_PARENTS:
            raise BadInput(f"{label}: extends: {len(parents):,} files, but {MOST_PARENTS} at most are read")
        refuse(hostile(own, label))
        refuse(hostile(parents, label, ("extends",)))
        values, origins = {}, {}
        for parent in parents:
            file = path.parent / parent
            if not _is_file(file):
                beside = [p.name for p in path.parent.glob("*.toml") if p.name != path.name]
                raise BadInput(f"{label}: extends = {brief(parent)}: no such file{did_you_mean(parent, beside)}")
            below, from_ = _layers(file, (*within, identity), done, named)
            values, origins = _merged(values, below), {**origins, **from_}
        _anchor(own, path.parent)
        if not (is_filled(path) or is_filled(identity)):  # where it lies, and where a link leads
            named.update(_plug_ins(own))
        done[identity] = _merged(values, own), {**origins, **dict.fromkeys(flat(own), label)}
    return done[identity]


def _anchor(values, folder):
    """Makes each FILE that a recipe's file names, of a plug-in or by itself, mean the one that lies beside it."""
    for table, key in BESIDE:
        found = values.get(table)
        if isinstance(found, dict) and isinstance(found.get(key), str) and found[key] and not is_hub(found[key]):
            found[key] = str((folder / found[key]).absolute())
    for table, key in NAMED:
        found = values.get(table)
        named = found.get(key) if isinstance(found, dict) else None
        if isinstance(named, str):
            found[key] = anchored(named, folder)
        elif isinstance(named, list):
            found[key] = [anchored(name, folder) if isinstance(name, str) else name for name in named]


def _fetch(values):
    """Fetches what a recipe's tables name on a hub, and makes each name say its commit. A pair's first weights are one
    file, whose tensors say their order, and no model of the library's."""
    for table, key in (name.split(".") for name in PATTERNS):
        found = values.get(table)
        if isinstance(found, dict) and is_hub(found.get(key)):
            if found.get("family") == "pair":
                raise BadInput(f"{table}.{key}={shown(found[key], 200)}: two programs of your own begin with a file: "
                               "fetch it, and give its path")
            found[key] = fetched(found[key], f"{table}.{key}")


def _plug_ins(values):
    """The references in a recipe's tables, as they are written."""
    for table, key in NAMED:
        found = values.get(table)
        named = found.get(key) if isinstance(found, dict) else None
        for name in named if isinstance(named, list) else [named]:
            if isinstance(name, str) and (is_added(name) if (table, key) == ("data", "source") else is_reference(name)):
                yield name


def _parsed(path):
    if not exists(path):
        known = [str(p.relative_to(RECIPES).with_suffix("")) for p in sorted(RECIPES.rglob("*.toml"))]
        raise BadInput(f"{shown(path)}: no such recipe file{did_you_mean(path.stem, known)}")
    try:
        return parse_toml(read_text(path, LARGEST_FILE))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{shown(path)}: {toml_problem(error)}") from None


def _is_file(path):
    try:
        return path.is_file()
    except OSError:
        return False


def _merged(base, over):
    """`over` laid on a copy of `base`: tables key by key, everything else replaced."""
    out = _copied(base)
    _lay(out, over)
    return out


def _copied(values):
    """Tables of their own; whatever they hold is only read."""
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in values.items()}


def _lay(base, over):
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _lay(base[key], value)
        else:
            base[key] = value


# ---- overrides

def _override(text):
    """(The tuple of keys, the value) that `key.sub=value` means; the value is TOML, or else a bare word taken as a
    string."""
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    place = tuple(key.split("."))
    if not equals or not value:
        raise BadInput(f"override: {brief(text)}: expected key=value, such as train.steps=200")
    if len(place) > DEEPEST or not KEY.fullmatch(key):
        raise BadInput(f"override: {brief(text)}: expected a dotted key before the '=', such as train.steps=200")
    if WORD.fullmatch(value):
        return place, value
    if number := NUMBER.fullmatch(value):
        return place, (float if number["fraction"] else int)(value)
    start = f"override: {brief(text)}"
    try:
        if "\n" not in value:  # a line of its own could smuggle in further keys; as text it is refused later
            value = parse_toml(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        if value[0] in "[{\"'":
            raise BadInput(f"{start}: not TOML; text inside brackets needs quotes: 'data.augment=[\"flip\"]'") from None
    except ValueError:
        raise BadInput(f"{start}: an integer of thousands of digits") from None
    except RecursionError:
        raise BadInput(f"{start}: brackets nested too deeply") from None
    refuse(hostile(value, "override", place))
    return place, value


def _toml(value):
    """A scalar, list or inline table as TOML. JSON writes scalars the same, but leaves bare DEL and what turns the
    direction of writing round."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items() if item is not None) + "}"
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in json.dumps(value, ensure_ascii=False))
