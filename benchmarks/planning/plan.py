"""Chips, days and money for a training, and the tokens that a deadline allows.

    twinscale plan --flops 1e21 --topology v5e-256 --mfu 0.3:0.5 --prices recipes/tpu/prices.toml

Time follows from the MFU, which nobody knows before it is measured. So it is an interval here: at its fast end a
ceiling, the roofline of a preflight or else the chip's peak; inside it what was stated or measured, and said to be so.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from twinscale.benchmarks.output import check_files
from twinscale.benchmarks.planning.budgets import asked, work_under
from twinscale.benchmarks.planning.laws import Law, read_law
from twinscale.benchmarks.planning.result import SCHEMA_VERSION, Plan
from twinscale.benchmarks.planning.trust import check_deadlines, trusted
from twinscale.benchmarks.planning.words import show
from twinscale.common.data.shapes import data_shape
from twinscale.common.errors import DID_IT, BadInput
from twinscale.common.families.parameters import parameters, trained_size
from twinscale.common.files.access import read_json, read_toml, shown
from twinscale.common.files.kinds import STRICT, Positive, Share, version
from twinscale.common.files.output import answer
from twinscale.common.files.results import write_result
from twinscale.common.machine.chips import CHIPS
from twinscale.common.machine.flops import train_flops
from twinscale.common.machine.topology import SLICES, Topology, parse
from twinscale.common.recipe.file import of_values
from twinscale.common.recipe.schema import Recipe, positions

FILE = "plan.json"
DAY = 86400
FARTHEST = 1e80  # operations or tokens that may come of what is asked
PER = {"chip": 1, "core": None}  # TensorCores of a price's unit; None: of a chip, as many as it has


class Price(TypedDict):
    """What an hour costs."""

    __pydantic_config__ = STRICT

    price: Annotated[Positive, Field(lt=1e9)]  # of a chip that is free there is nothing to say: leave it out
    per: Literal["chip", "core"]


class Prices(TypedDict):
    """A price file."""

    __pydantic_config__ = STRICT

    date: date
    currency: str
    source: str
    chips: NotRequired[dict[str, Price]]


class Side(TypedDict):
    """A backend in a bench.json."""

    __pydantic_config__ = STRICT

    mfu: dict[str, Share | None]
    mfu_convention: str


class Performance(TypedDict):
    """What a run.json says of it."""

    __pydantic_config__ = STRICT

    mfu: NotRequired[Share | None]
    mfu_convention: NotRequired[str | None]  # null where there is no MFU


class Measured(TypedDict):
    """What is read of a run.json or of a bench.json."""

    __pydantic_config__ = STRICT

    sides: NotRequired[dict[str, Side]]
    performance: NotRequired[Performance | None]


class Compiled(TypedDict):
    """What is read of a preflight.json's row."""

    __pydantic_config__ = STRICT

    backend: str
    topology: str
    slices: Annotated[int, Field(ge=1, le=SLICES)]
    compiles: bool
    mfu_ceiling: NotRequired[Positive | None]


class Preflight(TypedDict):
    """What is read of a preflight.json."""

    __pydantic_config__ = STRICT

    schema_version: NotRequired[version(1)]
    recipe: dict
    results: list[Compiled]


def plan(recipe: Recipe | None, *, topologies: Sequence[str], slices: int = 1, flops: float | None = None,
         tokens: float | None = None, law: str | None = None, mfu: str | None = None,
         measured: str | Path | None = None, ceiling: str | Path | None = None, prices: str | Path | None = None,
         days: float | None = None, serve: float | None = None, unique: float | None = None, far: bool = False,
         out: Path | None = None, as_json: bool = False) -> int:
    """Prints a table for slices, and with `out` writes plan.json there; returns the exit code 0.

    Args:
      recipe: the validated recipe whose model is planned for, or None.
      topologies, slices: names as `common.machine.topology.parse` takes.
      flops: operations of the training (6 N D, where no recipe says how many its model takes).
      tokens: labels to train on, in place of the recipe's steps x batch.
      law: a name of `benchmarks.planning.laws.LAWS` or a path: says how many tokens a size deserves, or which size a
        budget.
      mfu: "0.4" or "0.3:0.5", stated by the user.
      measured: path of a run.json or a bench.json of the same chip.
      ceiling: path of a preflight.json, or of its directory.
      prices: path of the user's price file.
      days: a deadline, whose token budget is asked for.
      serve, unique: tokens to be served, and that differ, as `budgets.asked` takes; `flops` then holds the serving.
      far: trusts a fitted law beyond 100 times its rows.
    Raises BadInput where these say nothing, or one thing twice.
    """
    if not topologies:
        raise BadInput("--topology: which slice? such as --topology v5e-256")
    if out:
        check_files(out, [FILE], ("schema_version", "work", "rows"), True)
    for option, value, most in (("--flops", flops, 1e40), ("--tokens", tokens, 1e30), ("--days", days, 1e6)):
        if value is not None and (value is True or not 0 < value <= most):  # NaN is neither
            raise BadInput(f"{option} {value:g}: a number above 0 and at most {most:g} is wanted")
    slices_of = list(dict.fromkeys(parse(name, slices) for name in topologies))
    known = read_law(law) if law else None
    budget = asked(serve, unique, bool(flops and known) and not (recipe or tokens or days))
    with finite(law):
        work = (work_under(known, flops, budget) if budget and known and flops else
                work_of(recipe, flops, tokens, known, days))
        if any(figure is not None and not 0 < figure <= FARTHEST for figure in (work["flops"], work["tokens"])):
            raise OverflowError
    stated, costs = stated_mfu(mfu), read_prices(prices)
    if mfu and measured:
        raise BadInput("--mfu and --measured both say the MFU: leave one out")
    with finite(law):
        rows = [row(topology, work, recipe, known, days, costs, *efficiency(
            topology, work["convention"], recipe, stated, measured, ceiling)) for topology in slices_of]
    if law and known:
        work["by_law"] = trusted(law, known, work, budget, far)
        work["warnings"] = check_deadlines(law, known, rows, far) if days and not recipe else []
    result = {"schema_version": SCHEMA_VERSION, "recipe": recipe and recipe.name, "work": work, "law": law,
              "prices": costs and {key: costs[key] for key in ("path", "date", "currency", "source")}, "rows": rows}
    if out:
        write_result(out / FILE, Plan, result)
    answer(result, show, as_json)
    return DID_IT


@contextmanager
def finite(law: str | None) -> Iterator[None]:
    """Raises BadInput where a law's numbers lead to what cannot be computed."""
    try:
        yield
    except (OverflowError, ZeroDivisionError):
        named = f"--law {shown(law)}" if law else "--flops, --tokens, --days"
        raise BadInput(f"{named}: the figures lead beyond what can be computed: take other ones") from None


# ---- what there is to do

def work_of(recipe: Recipe | None, flops: float | None, tokens: float | None, law: Law | None, days: float | None
            ) -> dict[str, Any]:
    """{"flops", "parameters", "tokens", "convention", "flops_per_token", "from"}: of a training; flops and tokens are
    None where a deadline alone is given. Images count as tokens."""
    if recipe is None:
        if tokens:
            raise BadInput("--tokens: of which model? name a recipe, or give --flops")
        if not flops and not days:
            raise BadInput("nothing to plan: name a recipe, or give --flops or --days")
        best = law.best(flops) if law and flops else (None, None)
        return {"flops": flops, "parameters": best[0], "tokens": best[1], "convention": "6N", "flops_per_token": None,
                "from": "stated" if flops else None}
    if flops and tokens:
        raise BadInput("--flops and --tokens both say how long the training is: leave one out")
    classes, example_shape = data_shape(recipe)
    size = trained_size(parameters(recipe.model, classes, example_shape))
    labels = positions(recipe) // recipe.train.global_batch
    each = train_flops(recipe.model, classes, example_shape, "causal") / labels
    said = "stated"
    if flops:
        tokens = flops / each
    elif law and not tokens:
        tokens, said = law.tokens_for(size), "the law, for this size"
    elif not tokens:
        tokens, said = recipe.train.steps * positions(recipe), "the recipe's steps"
    return {"flops": tokens * each, "parameters": size, "tokens": tokens, "convention": "causal",
            "flops_per_token": each, "from": said}


# ---- how fast

def stated_mfu(text: str | None) -> tuple[float, float] | None:
    """(low, high) of "0.4" or "0.3:0.5", None of nothing."""
    if text is None:
        return None
    try:
        found = tuple(sorted(float(part) for part in text.split(":", 1)))
    except ValueError:
        found = (0.0,)
    if not 0 < found[0] <= found[-1] <= 1:
        raise BadInput(f"--mfu {text}: a share from 0 to 1 is wanted, or two, such as 0.4 or 0.3:0.5")
    return found[0], found[-1]


def efficiency(topology: Topology, convention: str, recipe: Recipe | None, stated: tuple[float, float] | None,
               measured: str | Path | None, ceiling: str | Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """({"ceiling", "ceiling_from"}, {"inside": [low, high] or None, "inside_from"}) of MFUs by a convention."""
    top, said = (1.0, f"the peak of {topology.chip.kind}") if ceiling is None else roofline(
        ceiling, topology, convention)
    inside, inside_from = stated, "stated" if stated else None
    if measured:
        inside, inside_from = measured_mfu(Path(measured), topology, convention)
    if inside and inside[1] > top:
        raise BadInput(f"an MFU of {inside[1]:.1%} ({inside_from}) is above the ceiling of {top:.1%} ({said})")
    return {"ceiling": top, "ceiling_from": said}, {"inside": inside and list(inside), "inside_from": inside_from}


def roofline(path: str | Path, topology: Topology, convention: str) -> tuple[float, str]:
    """(the highest MFU that any backend's step leaves room for, where that is from)."""
    path = Path(path) / "preflight.json" if Path(path).is_dir() else Path(path)
    found = read("--ceiling", read_json, path, Preflight)
    rows = [row for row in found["results"] if row["compiles"] and row.get("mfu_ceiling") and (
        row["topology"], row["slices"]) == (topology.name, topology.slices)]
    if not rows:
        there = ", ".join(dict.fromkeys(row["topology"] for row in found["results"]))
        raise BadInput(f"--ceiling {path}: has no step that compiles for {topology.name}, but for {there}")
    best = max(rows, key=lambda row: row["mfu_ceiling"])
    described = of_values(found["recipe"], f"--ceiling {path}: recipe")
    return (min(1.0, converted(best["mfu_ceiling"], described, convention)),
            f"roofline of {described.name} in {best['backend']}")


def measured_mfu(path: Path, topology: Topology, convention: str) -> tuple[tuple[float, float], str]:
    """((low, high), where they are from) of a run.json or a bench.json of the same chip."""
    found = read("--measured", read_json, path, Measured)
    if "sides" in found:
        told = [(side["mfu"].get(convention), side["mfu_convention"]) for side in found["sides"].values()]
    else:
        shares = (found.get("performance") or {}).get("mfu")
        recipe = path.with_name("recipe.toml")
        if convention != "causal" and shares:
            from twinscale.common.recipe.file import load

            shares = converted(shares, load(str(recipe), []), convention)
        told = [(shares, (found.get("performance") or {}).get("mfu_convention") or "")]
    here = [share for share, said in told if share and any(
        re.search(rf"peak of {kind}$", said) for kind in topology.chip.kinds)]
    if not here:
        others = ", ".join(dict.fromkeys(said for _, said in told if said)) or "nothing"
        raise BadInput(f"--measured {path}: has no MFU of a {topology.chip.kind}, but of {others}; state one with "
                       "--mfu")
    return (min(here), max(here)), f"measured, {path}"


def converted(share: float, recipe: Recipe, convention: str) -> float:
    """An MFU by causal FLOPs as one by another convention."""
    classes, shape = data_shape(recipe)
    return share * train_flops(recipe.model, classes, shape, convention) / train_flops(recipe.model, classes, shape)


def read(option: str, reader: Callable[..., Any], path: Any, kind: Any, fix: str = "") -> Any:
    """What `reader` of common/files/access.py makes of a file; raises BadInput that names the option too."""
    try:
        return reader(path, kind, fix)
    except BadInput as error:
        raise BadInput(f"{option} {error}") from None


# ---- how dear

def read_prices(path: str | Path | None) -> dict[str, Any] | None:
    """{"path", "date", "currency", "source", "chips": {chip: {"price", "per"}}} of a price file, None of none."""
    if path is None:
        return None
    found = read("--prices", read_toml, path, Prices,
                 'a date, currency and source are wanted, and for an hour of a chip {price = 1.2, per = "chip"}, or '
                 'per = "core"')
    if unknown := [chip for chip in found.get("chips", {}) if chip not in CHIPS]:
        raise BadInput(f"--prices {path}: chips.{shown(unknown[0])}: no such chip; there are {', '.join(CHIPS)}")
    return {**found, "path": str(path), "date": str(found["date"]), "chips": found.get("chips", {})}


# ---- all together

def row(topology: Topology, work: Mapping[str, Any], recipe: Recipe | None, law: Law | None, days: float | None,
        prices: Mapping[str, Any] | None, top: dict[str, Any], inside: dict[str, Any]) -> dict[str, Any]:
    """A slice's figures: each {"ceiling": where the MFU is at its ceiling, "inside": [fewest, most] or None}."""
    rate = topology.chips * topology.chip.peak_flops
    cores = topology.chip.cores

    def over(figure):
        """A figure of an MFU, at the ceiling and inside, smallest first."""
        between = inside["inside"] and sorted(figure(share) for share in inside["inside"])
        return {"ceiling": figure(top["ceiling"]), "inside": between}

    found: dict[str, Any] = {
        "topology": topology.name, "slices": topology.slices, "chips": topology.chips, "cores": topology.chips * cores,
        "peak_flops": rate, "mfu": top | inside, "mfu_convention":
        f"{work['convention']} FLOPs / bfloat16 peak of {topology.chips} x {topology.chip.kind}"}
    if work["flops"]:
        hours = over(lambda share: work["flops"] / (share * rate) / 3600)
        found["days"] = scaled(hours, 1 / 24)
        found["chip_hours"] = scaled(hours, topology.chips)
        found["core_hours"] = scaled(hours, topology.chips * cores)
        price = prices and prices["chips"].get(topology.chip.name)
        found["price"] = price
        if price:
            units = topology.chips * (PER[price["per"]] or cores)
            found["cost"] = scaled(hours, units * price["price"])
    if days:
        found["deadline"] = {"days": days, "flops": over(lambda share: days * DAY * share * rate)}
        if recipe:
            found["deadline"]["tokens"] = scaled(found["deadline"]["flops"], 1 / work["flops_per_token"])
        elif law:
            found["deadline"]["parameters"] = over(lambda share: law.best(days * DAY * share * rate)[0])
            found["deadline"]["tokens"] = over(lambda share: law.best(days * DAY * share * rate)[1])
    return found


def scaled(interval: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """A figure in another unit."""
    return {"ceiling": interval["ceiling"] * factor,
            "inside": interval["inside"] and [value * factor for value in interval["inside"]]}
