"""The 2x2 swap: each program under the other's runtime, so that a difference can be laid on the program or the runtime.

Four cells, two programs under two runtimes, take the first step in float64 and in the recipe's precision. A difference
that stays with a program across runtimes is the program's, one that stays with a runtime the runtime's, and one that
only one cell shows belongs to that pair. Where a cell leaks precision is found place by place, each fed with the
reference cell's numbers (teacher forcing). The Keras program with Keras' stock operations in the place of ours stands
beside them, on both runtimes, and is never blamed.
"""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.rungs.ladder import bare, null_directions, summed_positions
from twinscale.benchmarks.rungs.placing import apart
from twinscale.benchmarks.workers import SWAPPED, Worker, each, open_workers
from twinscale.common.families.places import places
from twinscale.common.files.tensors import difference, load_tensors
from twinscale.common.numbers.formats import DITHER, EPS
from twinscale.common.recipe.schema import Recipe, in_sharpest

if TYPE_CHECKING:
    from twinscale.common.data import Dataset

CELLS = {("keras", "tensorflow"): "keras", ("keras", "jax"): "keras on jax",
         ("flax", "tensorflow"): "flax on tensorflow", ("flax", "jax"): "jax"}  # and the worker of each
REFERENCE = ("keras", "tensorflow")
STOCK = {("keras, stock operations", runtime): CELLS["keras", runtime] for runtime in ("tensorflow", "jax")}
TWINS = {("keras", "tensorflow"): "keras", ("flax", "jax"): "jax"}  # as `ladder.null_directions` calls them
CLEAR = 4  # times what its groups differ within themselves, that a partition of the cells must differ across


def swap_table(recipe: Recipe, dataset: "Dataset", out: Path, workers: dict[str, Worker],
               planted: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """The cells of a recipe, and what their differences are laid on.

    The Keras worker has to compile anew what it is asked for afterwards.

    Args:
      recipe: the recipe. dataset: what it trains on. out: a directory; tensors are left in out/swap.
      workers: {"keras": Worker, "jax": Worker}.
      planted: [(backend, change)] of what is planted in them, to be planted with the same program elsewhere.
    Returns: {"cells": a list of {"program", "runtime", "loss", "gradient", "tensor", "noise", "noise_tensor", "leaks"},
      "bound", "bound_from", "blame", "cell", "sentence"}. Losses and gradients are float64, relative to the reference
      cell's, Keras on TensorFlow; the noise is a cell's own distance in the recipe's precision to its float64; for
      leaks see `leaks_of`, for the blame `blame`.
    Raises: BadInput where what is planted cannot be planted under the other runtime.
    """
    with open_workers({"KERAS_BACKEND": "jax"}, SWAPPED) as swapped:
        for backend, change in planted:
            swapped[{"keras": "keras on jax", "jax": "flax on tensorflow"}[backend]].ask("plant", change=change)
        return swap_cells(recipe, dataset, out, workers | swapped)


def swap_cells(recipe: Recipe, dataset: "Dataset", out: Path, workers: dict[str, Worker]) -> dict[str, Any]:
    """`swap_table` of the four workers that CELLS names."""
    positions, narrow = summed_positions(recipe, dataset), recipe.train.precision
    bound, bound_from = 16 * math.sqrt(positions) * EPS["float64"], f"16 sqrt({positions:,}) eps of float64"
    implementations = leave_cells(recipe, out, workers)

    wide = {cell: load_tensors(cell_path(out, cell, "float64")) for cell in (*CELLS, *STOCK)}
    twins = {f"{name}-twin": load_tensors(cell_path(out, cell, "twin")) for cell, name in TWINS.items()}
    null = null_directions({name: wide[cell] for cell, name in TWINS.items()} | twins)
    teacher = load_tensors(cell_path(out, REFERENCE, "taps"))
    cells = []
    for cell in wide:
        tensor, gradient = worst_gradient(wide[cell], wide[REFERENCE], null)
        noise_tensor, noise = None, None
        if narrow != "float64":
            noise_tensor, noise = worst_tensor(load_tensors(cell_path(out, cell, narrow)), wide[cell], null)
        leaks = leaks_of(recipe.model, teacher, load_tensors(cell_path(out, cell, "taps")), bound,
                         implementations[cell])
        cells.append({"program": cell[0], "runtime": cell[1], "loss": loss_apart(wide[cell], wide[REFERENCE]),
                      "gradient": gradient, "tensor": tensor, "noise": noise, "noise_tensor": noise_tensor,
                      "leaks": leaks})
    distances = {frozenset(pair): max(loss_apart(*(wide[cell] for cell in pair)),
                                      worst_gradient(*(wide[cell] for cell in pair), null=null)[1])
                 for pair in itertools.combinations(CELLS, 2)}
    found = blame(distances, bound)
    return {"cells": cells, "bound": bound, "bound_from": bound_from, "blame": found["blame"],
            "cell": found["cell"], "sentence": sentence(found, cells, bound)}


def cell_path(out: Path, cell: tuple[str, str], what: str) -> Path:
    """The file of what a cell has left: "float64" and the like, its "twin" or its "taps"."""
    return ComparisonFiles(out).swapped(cell, what)


def leave_cells(recipe: Recipe, out: Path, workers: Mapping[str, Worker]) -> dict[tuple[str, str], dict[str, str]]:
    """Has the workers leave in `out` what their cells make of the first step; {cell: {place: its implementation}}."""
    semantic = in_sharpest(recipe)

    def first_steps(cell, worker):
        for described in {r.train.precision: r for r in (semantic, recipe)}.values():
            worker.ask("first_step", described, path=cell_path(out, cell, described.train.precision))

    def taps(cell, worker):
        taught = {} if cell == REFERENCE else {"teacher": cell_path(out, REFERENCE, "taps")}
        worker.ask("step_taps", semantic, path=cell_path(out, cell, "taps"), number=0, **taught)

    def begin(worker):
        cell = cell_of[worker]
        first_steps(cell, worker)
        if cell in TWINS:
            worker.ask("first_step", semantic, path=cell_path(out, cell, "twin"), permuted=True,
                       dither=DITHER["float64"])
        if cell == REFERENCE:
            taps(cell, worker)

    def finish(worker):
        """The rest, once the reference cell has its taps; returns {cell: {place: implementation}}."""
        cell = cell_of[worker]
        if cell != REFERENCE:
            taps(cell, worker)
        if cell[0] != "keras":
            return {cell: {}}
        found, stock = {cell: worker.ask("implementations", recipe)}, ("keras, stock operations", cell[1])
        worker.ask("stock", on=True)
        first_steps(stock, worker)
        taps(stock, worker)
        found[stock] = worker.ask("implementations", recipe)
        worker.ask("stock", on=False)
        return found

    cell_of = {workers[name]: cell for cell, name in CELLS.items()}
    each(workers, begin)
    return {cell: names for found in each(workers, finish).values() for cell, names in found.items()}


def loss_apart(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    """How far the losses of two first steps are apart, relative to the second."""
    return difference(a["loss"], b["loss"])


def worst_gradient(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], null: Collection[str]
                   ) -> tuple[str, float]:
    """(name, relative difference) of the gradient in which two first steps are furthest apart; null directions are
    judged by the largest gradient of all."""
    names = [name for name in b if name.startswith("gradients/")]
    largest = max(np.abs(b[name]).max() for name in names)
    found = {bare(name): finite(np.abs(a[name] - b[name]).max() / largest) if bare(name) in null
             else difference(a[name], b[name]) for name in names}
    return max(found.items(), key=lambda item: item[1])


def finite(x: float) -> float:
    """A number, infinite where it is none."""
    return float(x) if np.isfinite(x) else math.inf


def worst_tensor(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], null: Collection[str]) -> tuple[str, float]:
    """(name, relative difference) of the tensor in which two first steps are furthest apart, without null
    directions."""
    found = {bare(name): difference(a[name], b[name]) for name in b if bare(name) not in null}
    return max(found.items(), key=lambda item: item[1])


def leaks_of(model: Any, teacher: Mapping[str, np.ndarray], student: Mapping[str, np.ndarray], bound: float,
             implementations: Mapping[str, str]) -> list[dict[str, Any]]:
    """Where a program makes other numbers of the teacher's than the teacher did: a list of {"operation": its class,
    "implementation": what computes it, "places": how many, "where": the worst, "worst": its relative difference}, the
    worst first.

    Args:
      model: the recipe's section. teacher, student: tensors of `common.training.trace.step_taps`. bound: what is
        rounding.
      implementations: {place: what computes it}; a place that is not there is called by its class of operation.
    """
    known = places(model)
    holders = {name: [n for n, place in known.items() if place.holds == name] for name in known}
    largest = {}  # gradient of what a place holds: that of a bias may be zero, and is judged by its kernel's
    for name in (n for n in teacher if n.startswith("gradients/")):
        holder = bare(name).rpartition(".")[0]
        largest[holder] = max(largest.get(holder, 0.0), float(np.abs(teacher[name]).max()))

    def suspects(group, name):
        """The places of which one made a tensor."""
        if group == "forward":
            return [name]
        if group == "backward":
            return [n for n, place in known.items() if name in place.reads] or ["loss"]
        return ["loss"] if group == "loss" else holders[name.rpartition(".")[0]]

    off = {}  # place: its worst difference
    found = [(suspects(*name.split("/", 1)), d) for name in teacher
             if (d := apart(student[name], teacher[name], largest.get(bare(name).rpartition(".")[0], 0.0)
                            if name.startswith("gradients/") else 0.0)) > bound]
    # What several places may have made is laid on those of them that are off by themselves.
    for among, d in sorted(found, key=lambda item: len(item[0])):
        for place in [p for p in among if p in off] or among:
            off[place] = max(off.get(place, 0.0), d)

    rows = {}
    for place, d in off.items():
        operation, holds = (known[place].operation, known[place].holds) if place in known else (place, "")
        name = implementations.get(place) or implementations.get(holds) or operation
        row = rows.setdefault((operation, name), {"operation": operation, "implementation": name, "places": 0,
                                                  "where": place, "worst": d})
        row["places"] += 1
        if d > row["worst"]:
            row |= {"where": place, "worst": d}
    return sorted(rows.values(), key=lambda row: row["worst"], reverse=True)


def blame(distances: Mapping[frozenset, float], bound: float) -> dict[str, Any]:
    """What the differences of the four cells follow: the partition of the cells that they cross the furthest.

    Args:
      distances: {frozenset of two cells (program, runtime): the relative difference of their results}.
      bound: what is rounding.
    Returns: {"blame": "none"; "program", "runtime" or "one cell"; or "several" where no partition stands out, "cell":
      [program, runtime] of that cell, else None, "across": the least difference across the partition, "within": the
      largest within its groups}.
    """
    cells = sorted({cell for pair in distances for cell in pair})
    partitions = [("program", None, {c for c in cells if c[0] == "keras"}),
                  ("runtime", None, {c for c in cells if c[1] == "tensorflow"}),
                  *(("one cell", list(c), {c}) for c in cells)]

    def spread(group):
        """(least difference across, largest within)."""
        across = [d for pair, d in distances.items() if len(pair & group) == 1]
        within = [d for pair, d in distances.items() if len(pair & group) != 1]
        return min(across), max(within)

    largest = max(distances.values())
    if largest <= bound:
        return {"blame": "none", "cell": None, "across": largest, "within": largest}
    kind, cell, group = max(partitions, key=lambda partition: spread(partition[2])[0])
    across, within = spread(group)
    if across <= bound or within > bound and across < CLEAR * within:
        kind, cell = "several", None
    return {"blame": kind, "cell": cell, "across": across, "within": within}


def sentence(found: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], bound: float) -> str:
    """The blame in a sentence for a person."""
    across, within = sig(found["across"]), sig(found["within"])
    rounding = f"{sig(bound)} is rounding"
    also = "; that is itself more than rounding, see the leaks" if found["within"] > bound else ""
    if found["blame"] == "none":
        return f"Keras and Flax agree under TensorFlow and under JAX, within {across} in float64 ({rounding})."
    if found["blame"] == "program":
        return (f"The difference follows the program: under either runtime Keras and Flax part by {across} or more in "
                f"float64 ({rounding}), while each agrees with itself under both within {within}{also}.")
    if found["blame"] == "runtime":
        return (f"The difference follows the runtime: either program parts by {across} or more in float64 between "
                f"TensorFlow and JAX ({rounding}), while under each the programs agree within {within}{also}.")
    if found["blame"] == "one cell":
        row = next(c for c in cells if [c["program"], c["runtime"]] == found["cell"])
        return (f"Only {title(row)} is off, by {across} or more in float64 ({rounding}){leaking(row['leaks'])}; the "
                f"other three cells agree within {within}{also}.")
    off = [f"{title(row)}{leaking(row['leaks'])}" for row in cells
           if (row["program"], row["runtime"]) in CELLS and row["leaks"]]
    return ("More than one thing differs: neither the program, the runtime nor a single cell stands out from the "
            f"others by {CLEAR} times" + (f" ({'; '.join(off)})." if off else "."))


def title(row: Mapping[str, Any]) -> str:
    """A cell by its name."""
    runtime = {"tensorflow": "TensorFlow", "jax": "JAX"}[row["runtime"]]
    return f"{row['program'].capitalize()} on {runtime}"


def leaking(leaks: Sequence[Mapping[str, Any]]) -> str:
    """": LayerNormalization leaks at 5 places" of a cell's leaks."""
    return "".join(f"{': ' if not i else ', '}{leak['implementation']} leaks at {leak['places']} "
                   f"place{'s' * (leak['places'] > 1)}" for i, leak in enumerate(leaks[:3]))
