"""What can be said of a recipe whose products are in 8 bits in JAX, while Keras has no such products: P1 alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscale.benchmarks.compare import plant_in, planted, prepare
from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.output import nothing_left, tell
from twinscale.benchmarks.rungs.operations import collect_own_places, operations_rung, places_path, read_places
from twinscale.benchmarks.workers import ROOMS, open_workers
from twinscale.common.errors import DID_IT, NO, need
from twinscale.common.files.output import answer
from twinscale.common.need import BACKENDS

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe


def check_products(recipe: "Recipe", out: Path, *, overwrite: bool = False, plant: str | None = None,
                   as_json: bool = False) -> int:
    """Judges every place of JAX beside its own float64, products in 8 bits by the bound of their grid too; leaves the
    rows in `out` and returns the exit code: 0 all are within their bounds, 1 some are not.

    Raises: BadInput where `out` holds what may not be removed, MissingEnvironment without JAX.
    """
    need(*BACKENDS["jax"], why="its products are JAX'")
    mutants = planted(plant)
    with nothing_left(out):
        prepare(out, recipe, overwrite)
        tell("jax", "every place beside its own float64")
        with open_workers(rooms={"jax": ROOMS["jax"]}) as workers:
            plant_in(workers.values(), mutants)
            collect_own_places(workers["jax"], recipe, out)
    for path in ComparisonFiles(out).all_numbers():
        path.unlink()
    result = judged_products(recipe, read_places(places_path(out, "jax")))
    answer(result, show, as_json)
    return DID_IT if result["agrees"] else NO


def judged_products(recipe: "Recipe", found: dict[str, Any]) -> dict[str, Any]:
    """P1 of JAX' PlaceRows, {point: PlaceRows}: {"agrees", "sentence", "checks": those nearest to their bounds or
    above}."""
    rung = operations_rung([], {"jax": found}, recipe.train.precision)
    off = [check for check in rung["checks"] if not check["agrees"]]
    said = (f"{len(off)} of {len(rung['checks'])} checks are above their bounds" if off else
            f"all {len(rung['checks'])} checks are within their bounds")
    return {"agrees": rung["agrees"], "checks": off or rung["checks"][:3], "sentence":
            f'P1 of JAX alone: {said}. Keras has no products as train.products="{recipe.train.products}": nothing is '
            'said of P2 to P7; train.products="full" compares the same recipe on every rung'}


def show(result: dict[str, Any]) -> None:
    """Prints what `judged_products` says."""
    print(result["sentence"])
    for check in result["checks"]:
        print(f"  {'within' if check['agrees'] else 'ABOVE '}  {sig(check['worst'])} of {sig(check['bound'])} "
              f"{check['bound_from']}: {check['where']}")
