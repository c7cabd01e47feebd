"""What each of XLA's options makes of a recipe's step, by compiling it with the option and without, all else as we set
it.

    twinscale preflight recipes/tpu/decoder-1b.toml --topology v5e:4x4 --options --out build/options

The options are those of `common/machine/options.py`: what we set for the chip, and candidates. Figures are the
compiler's and our account's of its module. What is not seen here is time: that a collective has something to be
hidden behind does not say how much of it is hidden.
"""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twinscale.benchmarks.options_result import SCHEMA_VERSION, Options
from twinscale.benchmarks.output import again, check_files, made, tell
from twinscale.benchmarks.preflight import placed, uncompressed, wanted
from twinscale.benchmarks.preflight.compilers import Side, check_libtpu, check_packages, deep_stack, find_libtpu
from twinscale.benchmarks.preflight.options_words import markdown, show_options
from twinscale.benchmarks.preflight.search import kept
from twinscale.common.data.shapes import data_shape
from twinscale.common.errors import DID_IT, NO, BadInput
from twinscale.common.files.access import write_text
from twinscale.common.files.output import answer
from twinscale.common.files.results import write_result
from twinscale.common.machine.doctor import versions
from twinscale.common.machine.options import Option, is_refused, tried_on
from twinscale.common.machine.topology import Topology, library_version, numbers
from twinscale.common.recipe.file import did_you_mean
from twinscale.common.recipe.schema import Recipe

FILE, PAGE = "options.json", "options.md"
KEYS = ("schema_version", "topologies", "libtpu")
UNKNOWN = "No such compile option"  # as XLA says it
SAME = 0.001  # share by which a figure may change and is still called the same
JUDGED = ("hbm_bytes_per_device", "bytes_sent", "bytes_waited_for")


def options(recipe: Recipe, out: Path, *, topologies: Sequence[str] = (), slices: int = 1, only: Sequence[str] = (),
            as_json: bool = False, overwrite: bool = False, words: Sequence[str] = ()) -> int:
    """Compiles, prints a table for each topology, writes `out`/options.json and options.md; returns the exit code: 0
    the recipe compiles and fits as we set its options, else 1. Compiles are kept under the cache and found again.

    Args:
      recipe: the validated recipe; its own `jax.xla_options` are set throughout.
      out: the directory; nothing else in it is touched.
      topologies, slices: as `benchmarks.preflight.preflight` takes them.
      only: names of options; none: all that are known of the chip.
      as_json: print what options.json holds in place of the tables.
      words: of the command line, which say what is compiled.
    Raises BadInput, MissingEnvironment before anything is compiled or written.
    """
    check_files(out, [FILE, PAGE], KEYS, overwrite)
    recipe, asked = uncompressed(recipe), wanted(topologies, slices)
    recipes = [placed(recipe, topology, "jax") for topology in asked]
    listed = [listed_for(topology, only) for topology in asked]
    library = find_libtpu(os.environ)
    check_libtpu(asked, library)
    check_packages(("jax",))
    version = library_version(library)
    with tempfile.TemporaryDirectory() as folder, deep_stack(), Side(
            "jax", library, Path(folder), data_shape(recipe)) as side:
        tables = [table(placed_recipe, topology, tried, version, compiler(side, topology, version))
                  for placed_recipe, topology, tried in zip(recipes, asked, listed, strict=True)]
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "recipe": recipe.model_dump(mode="json"), "hash": recipe.hash,
        "libtpu": version, "versions": {**versions(), "libtpu": version}, "topologies": tables, "made": made(),
        "commands": again("preflight", *words, "--options", out=out)}
    write_result(out / FILE, Options, result)
    write_text(out / PAGE, markdown(result))
    answer(result, show_options, as_json)
    return DID_IT if all(each["base"]["fits"] for each in tables) else NO


def listed_for(topology: Topology, only: Sequence[str]) -> list[Option]:
    """The options to try on a topology's chip. Raises BadInput for the name of one that is not known there."""
    there = {option.name: option for option in tried_on(topology.chip.name)}
    for name in only:
        if name not in there:
            raise BadInput(f"--only {name}: no option that is tried on {topology.chip.name}"
                           f"{did_you_mean(name, there)}; those are in common/machine/options.py")
    return [option for name, option in there.items() if not only or name in only]


def compiler(side: Side, topology: Topology, version: str | None) -> Callable[[Recipe], Mapping[str, Any]]:
    """A function of a recipe that returns the row of a compile, which is kept under the cache."""
    facts = {"backend": "jax", "topology": topology.name, "slices": topology.slices, "libtpu": version,
             "for": "options"}
    return lambda recipe: kept(recipe, topology, facts, lambda: side.row(recipe, topology))


# ---- one topology

def table(recipe: Recipe, topology: Topology, tried: Sequence[Option], version: str | None,
          compiled: Callable[[Recipe], Mapping[str, Any]]) -> dict[str, Any]:
    """What options.json says of a topology: the recipe as we set it, and a line for each option.

    Args:
      recipe: a `placed` one.
      tried: the options.
      version: of libtpu, None where nothing says it.
      compiled: see `compiler`. It raises BadInput where an option of the recipe's own is refused.
    """
    steps = Steps(1 + len(tried), topology.name)
    steps.begin("as it is set")
    base = compiled(recipe)
    steps.end(base)
    lines = []
    for option in tried:
        steps.begin(option.name)
        line, row = trial(option, recipe, base, (topology.chip.kind, version), compiled)
        lines.append(line)
        steps.end(row)
    return {"topology": topology.name, "slices": topology.slices, "chip": topology.chip.name,
            "xla_flags": base["xla_flags"], "base": figures(base), "options": lines}


class Steps:
    """Tells on stderr which compile is being made, of how many, and how long the rest may take."""

    def __init__(self, total: int, where: str) -> None:
        self.total, self.where, self.done, self.took = total, where, 0, []

    def begin(self, what: str) -> None:
        """Says what is compiled now, with the time left by the mean of the compiles so far."""
        mean = sum(self.took) / len(self.took) if self.took else None
        left = f", about {mean * (self.total - self.done) / 60:.0f} min left" if mean else ""
        tell("jax", f"{self.where}: {self.done + 1}/{self.total}, {what}{left}")

    def end(self, row: Mapping[str, Any] | None) -> None:
        """Notes what a compile has taken; None where none was made."""
        self.done += 1
        if row and row["compiles"]:
            self.took.append(row["lower_seconds"] + row["compile_seconds"])


def trial(option: Option, recipe: Recipe, base: Mapping[str, Any], here: tuple[str, str | None],
          compiled: Callable[[Recipe], Mapping[str, Any]]) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """(the line of an option, the row of its own compile or None).

    Args:
      base: the row of the recipe as we set it.
      here: (the kind of the devices, the version of libtpu).
    """
    kind, version = here
    own, is_set = recipe.jax.xla_options, option.name in base["xla_flags"]
    asked = {option.name: option.off} if is_set else {**option.beside, option.name: option.value}
    line: dict[str, Any] = {"option": option.name, "purpose": option.purpose, "source": option.source, "set": is_set,
                            "tried": asked, "state": "compiled", "said": None, "off": None, "on": None, "effect": None}
    if not is_set and is_refused(option.name, kind, numbers(version) if version else None):
        return line | {"state": "left out", "said": f"libtpu {version} is known to refuse it for {kind}"}, None
    try:
        row = compiled(recipe.with_values(jax={"xla_options": {**own, **asked}}))
    except BadInput as error:  # which names the option, and what XLA says of it
        return line | {"state": "unknown" if UNKNOWN in str(error) else "refused", "said": str(error)}, None
    if not row["compiles"]:
        line |= {"state": "does not fit" if row["fits"] is False else "fails", "said": row["error"]}
    off, on = (figures(each) for each in ((row, base) if is_set else (base, row)))
    return line | {"off": off, "on": on, "effect": effect(off, on)}, row


def figures(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is compared of a row; of one that does not compile all but its memory is None."""
    collectives = row.get("collectives") if row["compiles"] else None
    sent, beside = (None if collectives is None else sum(each[name] for each in collectives)
                    for name in ("bytes_sent", "asynchronous_bytes_sent"))
    return {"fits": row["fits"], "hbm_bytes_per_device": row["hbm_bytes_per_device"], "bytes_sent": sent,
            "bytes_waited_for": None if sent is None else sent - beside,
            "bytes_per_link": row.get("bytes_per_link"), "collectives": None if collectives is None else by_kind(row),
            "compile_seconds": row.get("compile_seconds")}


def by_kind(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row's collectives, over groups of all sizes, in the order of their kinds."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    names = ("count", "asynchronous", "sparsecore", "bytes", "bytes_sent", "asynchronous_bytes_sent")
    for each in row["collectives"]:
        place = each["kind"], each["network"]
        total = found.setdefault(place, {"kind": place[0], "network": place[1], **dict.fromkeys(names, 0)})
        for name in names:
            total[name] += each[name]
    return [found[place] for place in sorted(found)]


def effect(off: Mapping[str, Any], on: Mapping[str, Any]) -> str | None:
    """What an option does to memory, to bytes sent and to those that are waited for: "helps" makes some less and none
    more, "costs" the other way round, "both", or "nothing"; None where a side has no figures."""
    if any(side[name] is None for side in (off, on) for name in JUDGED):
        return None
    changes = [on[name] - off[name] for name in JUDGED
               if abs(on[name] - off[name]) > SAME * max(on[name], off[name])]
    less, more = any(change < 0 for change in changes), any(change > 0 for change in changes)
    return {(True, False): "helps", (False, True): "costs", (True, True): "both"}.get((less, more), "nothing")
