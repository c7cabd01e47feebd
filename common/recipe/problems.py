"""What is wrong with a recipe, in lines: place (the file, or "override"), key, value, what was expected."""

import json
import re
import typing
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from itertools import chain, islice
from typing import Any

from twinscale.common.errors import BadInput, did_you_mean
from twinscale.common.files.access import dotted, expected, shown
from twinscale.common.recipe.compress import AnyStage, Student
from twinscale.common.recipe.running import Splash
from twinscale.common.recipe.schema import Margin, Recipe
from twinscale.common.section import ByName, Section

DEEPEST = 8  # levels of nesting
MOST_LINES = 20  # of one error
NAME = "letters, digits, '.', '_' and '-', at most 64 of them, the first a letter or digit"


def refuse(problems: Iterable[str], count: int | None = None) -> None:
    """Raises BadInput with one line a problem, if there is any. Where their `count` is known, those that are not shown
    are not made: each may take a while to put into words."""
    problems = iter(problems)
    told = list(islice(problems, MOST_LINES))
    more = sum(1 for _ in problems) if count is None else count - len(told)
    if told:
        raise BadInput("\n".join(told + [f"... and {more:,} more"] * (more > 0)))


def hostile(value: Any, label: str, place: tuple = ()) -> Iterator[str]:
    """Lines for what no recipe may hold under any key: it would break a name, a file, a checkpoint or the terminal."""
    if len(place) > DEEPEST:
        yield f"{label}: {dotted(place[:3])}...: nested too deeply"
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from hostile(item, label, (*place, key))
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        yield f"{label}: {dotted(place)}: an integer of {value.bit_length()} bits, but at most 63 fit"
    elif isinstance(value, str) and any(unicodedata.category(c) in ("Cc", "Cs") for c in value):
        yield f"{label}: {dotted(place)} = {brief(value)}: holds a control character or a broken one; take it out"


def explained(error: Mapping[str, Any], values: Mapping[str, Any], origins: Mapping[tuple, Any], file: str) -> str:
    """One line for one of pydantic's errors."""
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    place = error["loc"]
    at = len(STAGED) + 1 if place[:len(STAGED)] == STAGED else 1
    family, choice = ("kind", STAGES) if at > 1 else ("family", FAMILIES)
    if place[:1] in (("model",), STAGED[:1]) and place[at:at + 1] and place[at] in choice:  # the union's own step
        place = (*place[:at], *place[at + 1:])
    if kind == "value_error":  # about several keys: blame where the ones it names came from
        message = str(context["error"])
        found = (origins.get(tuple(key.split("."))) for key in re.findall(r"\b[a-z]+\.[a-z_0-9]+", message))
        named = {origin for origin in found if origin is not None}
        told = message if len(message) <= 600 else f"{message[:300]}...{message[-300:]}"  # its end says what is wrong
        return f"{', '.join(sorted(named)) or file}: {told}"
    if kind == "union_tag_not_found" or (kind == "missing" and place == ("model",)):
        return f"{origin_of(place, origins) or file}: {dotted((*place, family))}: missing; expected {_one_of(choice)}"
    if kind == "union_tag_invalid":
        place, value, choices = (*place, family), value.get(family), list(choice)
    elif kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
    else:
        choices = None
    label = origin_of(place, origins) or file
    if kind == "missing":
        return f'{file}: {dotted(place)}: missing; add {dotted(place)} = "..."'
    if kind == "extra_forbidden":
        return f'{label}: key "{dotted(place)}": unknown key{_better_key(place, values)}'
    what = _one_of(choices) + did_you_mean(value, choices) if choices else (
        NAME if kind == "string_pattern_mismatch" else expected(error))
    return f"{label}: {dotted(place)} = {brief(value)}: expected {what}"


def origin_of(place: tuple, origins: Mapping[tuple, str]) -> str | None:
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


def brief(value: Any) -> str:
    """A value as short TOML-like text that is safe on a terminal."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        text = "[" + ", ".join(map(brief, value[:8])) + ", ..." * (len(value) > 8) + "]"
    else:
        text = shown(json.dumps(value[:80]) if isinstance(value, str) else _scalar(value), 8 * 80)
    return text if len(text) <= 80 else text[:77] + "..."


def _scalar(value):
    try:
        return json.dumps(value, default=str)
    except ValueError:  # Python's own bound on the digits of an integer
        return shown(value)


# ---- what a recipe may say

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
NAMED = [*((table, by.key) for table, by in BY_NAME.items()), ("train", "metrics"), ("data", "rewrite"),
         *(("model", side) for side in ("keras", "flax", "a", "b")), ("programs", "a"), ("programs", "b"),
         *((table, side) for table in ("optimizer", "objective") for side in ("keras", "jax"))]  # plug-ins
BESIDE = [("model", "match"), ("model", "weights")]  # files of their own that lie beside the recipe
STAGED = ("compress", "stages")  # a list of tables of several kinds
STAGES = {typing.get_args(c.model_fields["kind"].annotation)[0]: c
          for c in typing.get_args(typing.get_args(AnyStage)[0])}
KEYS = [(name,) for name in Recipe.model_fields]
KEYS += [(table, key) for table, kind in TABLES.items() for key in kind.model_fields]
KEYS += [("compare", "margin", key) for key in Margin.model_fields]
KEYS += [("jax", "splash", key) for key in Splash.model_fields]
KEYS += [("model", key) for key in dict.fromkeys(k for kind in FAMILIES.values() for k in kind.model_fields)]
