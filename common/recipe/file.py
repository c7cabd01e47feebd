"""Recipes as TOML files: `extends`, `key=value` overrides, where each value came from, and errors that say what to do.

Every failure is a `BadInput` with one line a problem: place (the file, or "override"), key, value, what was expected.
"""

import json
import re
import tomllib
import typing
import unicodedata
from difflib import get_close_matches
from itertools import chain, islice
from pathlib import Path

from pydantic import ValidationError

from twinscale.common import trust
from twinscale.common.errors import BadInput, did_you_mean
from twinscale.common.files.access import (
    checked,
    dotted,
    exists,
    expected,
    parse_toml,
    plain,
    read_text,
    shown,
    toml_problem,
)
from twinscale.common.files.run_files import is_filled
from twinscale.common.recipe.compress import AnyStage, Student
from twinscale.common.recipe.schema import Margin, Recipe
from twinscale.common.registry import anchored, is_reference, keys_of
from twinscale.common.section import ByName, Section
from twinscale.common.sources import is_added

RECIPES = Path(__file__).parents[2] / "recipes"
LARGEST_FILE, DEEPEST, MOST_PARENTS = 1 << 20, 8, 1000  # bytes, levels of nesting, files that one extends
MOST_LINES = 20  # of one error
KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
# Values that are sure to be what TOML's own reader, which takes its time, would say; a script may have thousands.
WORD = re.compile(r"(?!(true|false|inf|nan)$)[A-Za-z][A-Za-z-]*")
NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})(?P<fraction>\.[0-9]{1,17})?")
NAME = "letters, digits, '.', '_' and '-', at most 64 of them, the first a letter or digit"


def load(path, overrides=()):
    """The validated recipe of a TOML file under `key=value` overrides; raises BadInput, also for code that it names and
    the user has not: the file may lie in what somebody else has made."""
    return resolve(path, overrides)[0]


def given(path, overrides=()):
    """As `load`, of a file that the user has named, and overrides that he has written: the code that they name is
    trusted from now on. Not so what a file names that lies in a directory that a verb has filled."""
    return resolve(path, overrides, True)[0]


def resolve(path, overrides=(), users=False):
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
    try:
        recipe = Recipe.model_validate(values)
    except trust.Untrusted as error:
        key = tuple(str(error).partition(" ")[0].split("."))
        raise trust.Untrusted(f"{_origin(key, origins) or shown(path)}: {error}") from None
    except ValidationError as error:
        refuse((_explained(e, values, origins, shown(path)) for e in error.errors(include_url=False)),
               error.error_count())
    return recipe, {dotted(key): origins.get(key, "default") for key in flat(recipe.model_dump(mode="json"))}


def file_of(name):
    """The file of a recipe: a path, or the name of one that comes with Twinscale, as decoder-stdlib, where no file of
    the user's is called so."""
    path, ours = Path(name), RECIPES / f"{name}.toml"
    return ours if not path.suffix and not exists(path) and _is_file(ours) else path


def of_values(values, label):
    """The recipe in what a file holds as nested dicts; raises BadInput that names the `label`."""
    refuse(_hostile(values, label))
    try:
        return checked(label, values, Recipe)
    except trust.Untrusted as error:
        raise trust.Untrusted(f"{label}: {error}") from None


def dumps(recipe, origins=None):
    """The whole recipe as TOML text that loads to an equal hash; with origins, each line ends in the value's origin."""
    tables = {(): {}}
    for (*table, key), value in flat(recipe.model_dump(mode="json")).items():
        tables.setdefault(tuple(table), {})[key] = value
    blocks = []
    for table, entries in tables.items():
        lines = [f"{key} = {_toml(value)}" for key, value in entries.items()]
        if origins is not None:
            width = min(40, max(map(len, lines)))
            comments = [shown(origins.get(dotted((*table, key)), "default")) for key in entries]
            lines = [f"{line:{width}}  # {comment}" for line, comment in zip(lines, comments, strict=True)]
        blocks.append("\n".join([f"[{dotted(table)}]"] * bool(table) + lines))
    return "\n\n".join(blocks) + "\n"


def as_override(key, value):
    """A value of Python as the text `key=value` that `load` takes."""
    return f"{key}={_toml(plain(value))}"


def differences(old, new):
    """One line for each leaf in which two resolved recipes (plain nested dicts) differ."""
    old, new = ({key: _shown(value) for key, value in flat(values).items()} for values in (old, new))
    return [f"{dotted(key)} is {old.get(key, 'absent')} there and {new.get(key, 'absent')} here"
            for key in old | new if old.get(key) != new.get(key)]


def flat(values, place=()):
    """The leaves of nested dicts by their tuple of keys; an empty table is a leaf."""
    if not isinstance(values, dict) or not (values or not place):
        return {place: values}
    return {key: leaf for k, v in values.items() for key, leaf in flat(v, (*place, k)).items()}


def refuse(problems, count=None):
    """Raises BadInput with one line a problem, if there is any. Where their `count` is known, those that are not shown
    are not made: each may take a while to put into words."""
    problems = iter(problems)
    told = list(islice(problems, MOST_LINES))
    more = sum(1 for _ in problems) if count is None else count - len(told)
    if told:
        raise BadInput("\n".join(told + [f"... and {more:,} more"] * (more > 0)))


# ---- files

def _layers(path, within, done, named):
    """(values, origins) of a file laid over what it extends. `done` keeps diamonds from being read twice; to `named` is
    added what the files name as plug-ins, but for those in a directory that a verb has filled."""
    label, identity = shown(path), path.resolve() if _is_file(path) else path
    if identity in within:
        raise BadInput(f"{label}: extends itself: " + " -> ".join(shown(p.name) for p in (*within, identity)))
    if identity not in done:
        own = _parsed(path)
        parents = own.pop("extends", [])
        if not isinstance(parents, list) or not all(isinstance(p, str) for p in parents):
            raise BadInput(f'{label}: extends = {_shown(parents)}: expected a list of files, extends = ["base.toml"]')
        if len(parents) > MOST_PARENTS:
            raise BadInput(f"{label}: extends: {len(parents):,} files, but {MOST_PARENTS} at most are read")
        refuse(_hostile(own, label))
        refuse(_hostile(parents, label, ("extends",)))
        values, origins = {}, {}
        for parent in parents:
            file = path.parent / parent
            if not _is_file(file):
                beside = [p.name for p in path.parent.glob("*.toml") if p.name != path.name]
                raise BadInput(f"{label}: extends = {_shown(parent)}: no such file{did_you_mean(parent, beside)}")
            below, from_ = _layers(file, (*within, identity), done, named)
            values, origins = _merged(values, below), {**origins, **from_}
        _anchor(own, path.parent)
        if not (is_filled(path) or is_filled(identity)):  # where it lies, and where a link leads
            named.update(_plug_ins(own))
        done[identity] = _merged(values, own), {**origins, **dict.fromkeys(flat(own), label)}
    return done[identity]


def _anchor(values, folder):
    """Makes the FILE of each plug-in that a recipe's file names mean the one that lies beside the recipe."""
    for table, key in NAMED:
        found = values.get(table)
        named = found.get(key) if isinstance(found, dict) else None
        if isinstance(named, str):
            found[key] = anchored(named, folder)
        elif isinstance(named, list):
            found[key] = [anchored(name, folder) if isinstance(name, str) else name for name in named]


def _plug_ins(values):
    """The references in a recipe's tables, as they are written."""
    for table, key in NAMED:
        found = values.get(table)
        named = found.get(key) if isinstance(found, dict) else None
        for name in named if isinstance(named, list) else [named]:
            if isinstance(name, str) and (is_added(name) if table == "data" else is_reference(name)):
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
        raise BadInput(f"override: {_shown(text)}: expected key=value, such as train.steps=200")
    if len(place) > DEEPEST or not KEY.fullmatch(key):
        raise BadInput(f"override: {_shown(text)}: expected a dotted key before the '=', such as train.steps=200")
    if WORD.fullmatch(value):
        return place, value
    if number := NUMBER.fullmatch(value):
        return place, (float if number["fraction"] else int)(value)
    start = f"override: {_shown(text)}"
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
    refuse(_hostile(value, "override", place))
    return place, value


# ---- what is wrong, in words

def _hostile(value, label, place=()):
    """Lines for what no recipe may hold under any key: it would break a name, a file, a checkpoint or the terminal."""
    if len(place) > DEEPEST:
        yield f"{label}: {dotted(place[:3])}...: nested too deeply"
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _hostile(item, label, (*place, key))
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        yield f"{label}: {dotted(place)}: an integer of {value.bit_length()} bits, but at most 63 fit"
    elif isinstance(value, str) and any(unicodedata.category(c) in ("Cc", "Cs") for c in value):
        yield f"{label}: {dotted(place)} = {_shown(value)}: holds a control character or a broken one; take it out"


def _explained(error, values, origins, file):
    """One line for one of pydantic's errors."""
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    place = error["loc"]
    at = len(STAGED) + 1 if place[:len(STAGED)] == STAGED else 1
    family, choice = ("kind", STAGES) if at > 1 else ("family", FAMILIES)
    if place[:1] in (("model",), STAGED[:1]) and place[at:at + 1] and place[at] in choice:  # the union's own step
        place = (*place[:at], *place[at + 1:])
    if kind == "value_error":  # about several keys: blame where the ones it names came from
        message = str(context["error"])
        named = {origins.get(tuple(key.split("."))) for key in re.findall(r"\b[a-z]+\.[a-z_0-9]+", message)} - {None}
        told = message if len(message) <= 600 else f"{message[:300]}...{message[-300:]}"  # its end says what is wrong
        return f"{', '.join(sorted(named)) or file}: {told}"
    if kind == "union_tag_not_found" or (kind == "missing" and place == ("model",)):
        return f"{_origin(place, origins) or file}: {dotted((*place, family))}: missing; expected {_one_of(choice)}"
    if kind == "union_tag_invalid":
        place, value, choices = (*place, family), value.get(family), list(choice)
    elif kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
    else:
        choices = None
    label = _origin(place, origins) or file
    if kind == "missing":
        return f'{file}: {dotted(place)}: missing; add {dotted(place)} = "..."'
    if kind == "extra_forbidden":
        return f'{label}: key "{dotted(place)}": unknown key{_better_key(place, values)}'
    what = _one_of(choices) + did_you_mean(value, choices) if choices else (
        NAME if kind == "string_pattern_mismatch" else expected(error))
    return f"{label}: {dotted(place)} = {_shown(value)}: expected {what}"


def _origin(place, origins):
    """Where the value at `place`, or the list or table around or below it, came from."""
    above = (place[:n] for n in range(len(place), 0, -1))
    below = (key for key in origins if key[:len(place)] == place)
    return next((origins[key] for key in chain(above, below) if key in origins), None)


def _better_key(place, values):
    """What to write instead of an unknown key: a near key of the same table, else a near one of any table."""
    model = values.get("model")
    family = str(model.get("family")) if isinstance(model, dict) else ""
    members = FAMILIES.get(family, Section).model_fields
    known = [key for key in KEYS if key[0] != "model" or len(key) == 1 or key[1] in members]
    if chosen := BY_NAME.get(place[0]):
        own = chosen.options(values[place[0]]).model_fields
        known = [key for key in known if key[0] != place[0] or len(key) == 1] + [(place[0], key) for key in own]
    if place[:len(STAGED)] == STAGED and len(place) > len(STAGED) + 1:
        stage = values["compress"]["stages"][place[len(STAGED)]]
        fields = (STAGES[stage["kind"]] if len(place) == len(STAGED) + 2 else Student).model_fields
        known = [(*place[:-1], key) for key in fields]
    beside = {key[-1]: dotted(key) for key in known if key[:-1] == place[:-1]}
    anywhere = {key[-1]: dotted(key) for key in reversed(known)}
    word = str(place[-1])[:80]
    if near := get_close_matches(word, beside, 1) or get_close_matches(word, anywhere, 1, 0.8):
        hint = f'did you mean "{beside.get(near[0]) or anywhere[near[0]]}"?'
    else:
        hint = "known here: " + ", ".join(beside)
    return (f' of model.family = "{family}"' if place[0] == "model" else "") + "; " + hint


def _one_of(choices):
    return "one of " + ", ".join(f'"{c}"' for c in choices)


def _shown(value):
    """A value as short TOML-like text that is safe on a terminal."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        text = "[" + ", ".join(map(_shown, value[:8])) + ", ..." * (len(value) > 8) + "]"
    else:
        text = shown(json.dumps(value[:80]) if isinstance(value, str) else _scalar(value), 8 * 80)
    return text if len(text) <= 80 else text[:77] + "..."


def _scalar(value):
    try:
        return json.dumps(value, default=str)
    except ValueError:  # Python's own bound on the digits of an integer
        return shown(value)


def _toml(value):
    """A scalar, list or inline table as TOML. JSON writes scalars the same, but leaves bare DEL and what turns the
    direction of writing round."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items() if item is not None) + "}"
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in json.dumps(value, ensure_ascii=False))


def _tables():
    """Of the recipe's model: {table: its class}, and {family: its class}."""
    fields = {name: field.annotation for name, field in Recipe.model_fields.items()}
    families = {c.model_fields["family"].annotation: c for c in typing.get_args(fields["model"])}
    tables = {name: type(field.default) if isinstance(field.default, Section) else field.annotation
              for name, field in Recipe.model_fields.items()}
    tables = {name: kind for name, kind in tables.items() if isinstance(kind, type) and issubclass(kind, Section)}
    return tables, {typing.get_args(literal)[0]: c for literal, c in families.items()}


TABLES, FAMILIES = _tables()
BY_NAME = {table: meta for table, field in Recipe.model_fields.items() for meta in field.metadata
           if isinstance(meta, ByName)}
NAMED = [*((table, by.key) for table, by in BY_NAME.items()), ("train", "metrics")]  # plug-ins
STAGED = ("compress", "stages")  # a list of tables of several kinds
STAGES = {typing.get_args(c.model_fields["kind"].annotation)[0]: c
          for c in typing.get_args(typing.get_args(AnyStage)[0])}
KEYS = [(name,) for name in Recipe.model_fields]
KEYS += [(table, key) for table, kind in TABLES.items() for key in kind.model_fields]
KEYS += [("compare", "margin", key) for key in Margin.model_fields]
KEYS += [("model", key) for key in dict.fromkeys(k for kind in FAMILIES.values() for k in kind.model_fields)]
