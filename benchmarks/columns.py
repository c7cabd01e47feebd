"""Three columns in one verdict: the Keras program on TensorFlow and on JAX, and the Flax program on JAX. Each pair of
them is compared as two backends are, and which pairs agree says whether the program or the runtime parts."""

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from itertools import combinations
from pathlib import Path
from typing import Any

from twinscale.benchmarks.columns_asked import check_columns, of_columns
from twinscale.benchmarks.columns_result import SCHEMA_VERSION, Columns
from twinscale.benchmarks.compare import check_asked, compared, planted, require
from twinscale.benchmarks.compare_record import reproducible
from twinscale.benchmarks.comparison_files import COLUMNS as COLUMNS_JSON
from twinscale.benchmarks.comparison_files import HOLDS, MARKER, ComparisonFiles
from twinscale.benchmarks.output import Kind, begun, clear, made, nothing_left, tell
from twinscale.benchmarks.report.columns import show, write_columns
from twinscale.benchmarks.rungs.columns import laid_on, listed, pair_found
from twinscale.benchmarks.sides import COLUMNS, ColumnPair, ids_of
from twinscale.benchmarks.verdict import Verdict, read_verdict
from twinscale.common.errors import BadInput
from twinscale.common.files.access import plain, write_text
from twinscale.common.files.output import answer, check_within
from twinscale.common.files.results import write_result
from twinscale.common.recipe.file import dumps
from twinscale.common.recipe.schema import Recipe

KIND = Kind(MARKER, COLUMNS_JSON, HOLDS)
LIMITS = ("Flax on TensorFlow is not trained: what is laid on the runtime may be of Keras on TensorFlow alone; "
          "`twinscale compare --swap`, without --columns, takes the first step of all four",
          "a column is trained once, on meshes too, and its runs stand in both of its pairs: what is asked of a pair "
          "besides, such as its operations in their places, is done for each")


def compare(recipe: Recipe, out: Path, columns: Sequence[str], *, as_json: bool = False, **options: Any) -> int:
    """`compared_columns`, which it shows or prints `as_json`; returns the exit code: 0 all pairs agree, 1 one does not,
    3 one stays open."""
    found = compared_columns(recipe, out, columns, **options)
    answer(plain(found), show, as_json)
    return found.exit_code


def compared_columns(recipe: Recipe, out: Path, columns: Sequence[str], *, overwrite: bool = False,
                     plant: str | None = None, seeds: int | None = None, asked: Sequence[Any] = (), **parts: bool
                     ) -> Columns:
    """Compares each pair of three columns in `out`/pairs/A+B, and writes columns.json, report.html and report.md. What
    was cut short goes on with the pair that it was at.

    Args:
      recipe: the validated recipe. out: the directory. columns: the ids of the three.
      overwrite: remove what an earlier comparison left in `out`.
      plant: "PROGRAM:MUTANT" plants an error in all columns of a program, "PROGRAM@RUNTIME:MUTANT" in one.
      seeds, asked: as `compare.compared` has them. parts: what it can do besides, by name.
    Raises: BadInput and MissingEnvironment before anything is compiled or written.
    """
    pairs = [*combinations(columns, 2)]
    check(recipe, out, pairs, plant, parts)
    verdicts, trained = {}, {}
    for number, pair in enumerate(pairs, 1):
        with nothing_left(out) if number == 1 else nullcontext():
            if number == 1:
                prepare(out, recipe, columns, overwrite)
            tell("all", f"pair {number} of {len(pairs)}: {listed([COLUMNS[name].title for name in pair])}")
            where, keys = ComparisonFiles(out).pair(pair), ids_of(pair)
            taken = {key: trained[name] for key, name in keys.items() if name in trained}
            planted_here = plant if concerns(plant, pair) else None
            wanted = reproducible(where, asked, **options_of(planted_here, seeds, pair, parts))["arguments"]
            verdicts[pair] = ended(recipe, where, pair, wanted) or compared(
                recipe, where, columns=pair, seeds=seeds, asked=asked, taken=taken, plant=planted_here, overwrite=True,
                **parts)
            trained |= {name: (where, key) for key, name in keys.items() if name not in trained}
    found = [pair_found(recipe, pair, ComparisonFiles(out).pair(pair),
                        ComparisonFiles(out).pair(pair).relative_to(out).as_posix(), verdict)
             for pair, verdict in verdicts.items()]
    return recorded(recipe, out, columns, found, reproducible(out, asked, **options_of(plant, seeds, columns, parts)))


def options_of(plant: str | None, seeds: int | None, columns: Sequence[str], parts: dict[str, bool]) -> dict[str, Any]:
    """The options of `twinscale compare` by name, as `reproducible` takes them."""
    return {"plant": plant, **parts, "outcome": f"SEEDS={seeds}" if seeds else None} | of_columns(columns)


def ended(recipe: Recipe, where: Path, pair: ColumnPair, wanted: dict[str, Any]) -> Verdict | None:
    """The Verdict in `where` of a pair that the same code has compared to the end, as it is `wanted`; None where it is
    to be compared."""
    here = made()
    with suppress(BadInput):
        verdict = read_verdict(where)
        said = {name: value for name, value in (verdict.arguments or {}).items() if value}
        alike = said == {name: value for name, value in wanted.items() if value} and verdict.recipe.hash == recipe.hash
        own = verdict.made and all(verdict.made[key] == here[key] for key in ("version", "commit"))
        if alike and own and not (verdict.pending or verdict.failed):
            tell("all", f"{listed([COLUMNS[name].title for name in pair])} have been compared already")
            return verdict
    return None


def recorded(recipe: Recipe, out: Path, columns: Sequence[str], pairs: list[dict[str, Any]], asked: dict[str, Any]
             ) -> Columns:
    """Writes what was found of the pairs, and how it was `asked` for, into `out`; returns the Columns."""
    rung = laid_on(pairs)
    whole = {"schema_version": SCHEMA_VERSION, "columns": {name: COLUMNS[name].title for name in columns},
             "agrees": rung["agrees"], "sentence": rung["sentence"], "rung": rung, "pairs": pairs,
             "precision": recipe.train.precision, "steps": recipe.train.steps,
             "recipe": {"name": recipe.name, "hash": recipe.hash, "toml": dumps(recipe)},
             "limits": [*LIMITS], **asked}
    written = write_result(ComparisonFiles(out).columns, Columns, whole)
    write_columns(plain(written), out)
    return written


def check(recipe: Recipe, out: Path, pairs: Sequence[ColumnPair], plant: str | None, parts: dict[str, bool]) -> None:
    """Raises BadInput or MissingEnvironment where one of the pairs could not be compared as it is asked for."""
    for pair in pairs:
        require(recipe.model, {}, pair)
        check_columns(recipe, pair, parts.get("swap", False))
        check_asked(recipe, out, False, parts.get("meshes", False))
    if plant is not None and not any(concerns(plant, pair) for pair in pairs):
        planted(plant, pairs[0])  # which says what is expected


def concerns(plant: str | None, pair: ColumnPair) -> bool:
    """Whether what is to be planted is of one of two columns."""
    try:
        return bool(planted(plant, pair))
    except BadInput:
        return False


def prepare(out: Path, recipe: Recipe, columns: Sequence[str], overwrite: bool) -> None:
    """As `compare.prepare`, but an unfinished comparison of the same columns keeps its pairs."""
    identity = {"verb": "compare", "recipe": recipe.hash} | of_columns(columns)
    if overwrite or not begun(out, KIND, identity):
        clear(out, KIND, identity, overwrite)
    check_within(out, KIND.holds)
    write_text(ComparisonFiles(out).recipe, dumps(recipe))
