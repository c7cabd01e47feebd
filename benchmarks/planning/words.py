"""A plan as a table for people: what each slice would take and cost, and what that rests on."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from twinscale.benchmarks.planning.budgets import sentence
from twinscale.benchmarks.planning.trust import said
from twinscale.common.files.output import safe_console, table_of
from twinscale.common.machine.topology import titled

OLD = 90  # days from which the date of prices is pointed at


def show(result: Mapping[str, Any]) -> None:
    """Prints a table of the rows on stdout, with what it rests on."""
    work, prices = result["work"], result["prices"]
    console = safe_console(soft_wrap=True)
    if work["flops"]:
        size = f", {short(work['parameters'])} parameters x {short(work['tokens'])} tokens" if work["tokens"] else ""
        console.print(f"{result['recipe'] or 'A training'}: {work['flops']:.4g} FLOPs by the convention "
                      f"{work['convention']}{size} ({work['from']})")
    if work.get("budget"):
        console.print(sentence(work["budget"], work["tokens"] / work["parameters"]))
    for line in said(work["by_law"]) if work.get("by_law") else ():
        console.print(line)
    for words in work.get("warnings") or ():
        console.print(f"Beware: by the deadline {words}.")
    table = table_of(("", *(titled(found["topology"], found["slices"]) for found in result["rows"])))
    for name, cell in CELLS.items():
        cells = [cell(found, prices) for found in result["rows"]]
        if any(cells):
            table.add_row(name, *(text or "–" for text in cells))
    console.print(table)
    console.print("At the ceiling everything would run at the maker's full rate: a bound, and no prediction.")
    if not any(found["mfu"]["inside"] for found in result["rows"]):
        console.print("How long it will take nobody has said: state an MFU (--mfu 0.3:0.5), or give what was measured "
                      "(--measured run.json).")
    if work["flops"] and not prices:
        console.print("No cost: --prices FILE says what a chip or a core costs, as recipes/tpu/prices.toml does.")
    if prices:
        age = (datetime.now(UTC).date() - date.fromisoformat(prices["date"])).days
        console.print(f"Prices: {prices['path']}, of {prices['date']}: {prices['source']}"
                      + (f". {age} days old: look them up again." if age > OLD else ""))


def short(value: float) -> str:
    """A count as a person says it: 1.2B, 24B, 350M."""
    unit, name = next((pair for pair in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")) if value >= pair[0]), (1, ""))
    return f"{value / unit:.3g}{name}"


def interval(values: Mapping[str, Any], written: Callable[[float], str]) -> tuple[str, str]:
    """("X", "; Y to Z") of a figure: the ceiling's, and what lies inside."""
    ends = values["inside"]
    between = "" if not ends else f"; {written(ends[0])}" + (f" to {written(ends[1])}" if ends[0] != ends[1] else "")
    return written(values["ceiling"]), between


def least(key: str, written: Callable[[float], str]) -> Callable[..., str]:
    """A cell of what can only grow where the MFU is below its ceiling."""
    def cell(found, _):
        if key not in found:
            return ""
        bound, between = interval(found[key], written)
        return f"at least {bound}{between}"
    return cell


def most(key: str, written: Callable[[float], str]) -> Callable[..., str]:
    """A cell of what can only shrink there."""
    def cell(found, _):
        values = found.get("deadline", {}).get(key)
        if not values:
            return ""
        bound, between = interval(values, written)
        return f"at most {bound}{between}"
    return cell


def cost(found: Mapping[str, Any], prices: Any) -> str:
    """A cell of what a row costs, nothing where no price is known."""
    if "cost" not in found:
        return ""
    bound, between = interval(found["cost"], lambda value: f"{value:,.0f}")
    return f"{prices['currency']} at least {bound}{between}"


def price(found: Mapping[str, Any], prices: Any) -> str:
    """A cell of the price of a row's chip."""
    told = found.get("price")
    return f"{prices['currency']} {told['price']:g} a {told['per']} and hour" if told else ""


def efficiencies(found: Mapping[str, Any], _: Any) -> str:
    """A cell of the MFUs that a row's figures follow from."""
    mfu = found["mfu"]
    top, between = interval(mfu, "{:.1%}".format)
    told = f" ({mfu['inside_from']})" if between else ""
    return f"at most {top} ({mfu['ceiling_from']}){between}{told}"


CELLS = {
    "chips": lambda found, _: f"{found['chips']:,} ({found['cores']:,} TensorCores)",
    "MFU": efficiencies,
    "days": least("days", lambda value: f"{value:,.3g}"),
    "chip-hours": least("chip_hours", lambda value: f"{value:,.0f}"),
    "core-hours": least("core_hours", lambda value: f"{value:,.0f}"),
    "price": price,
    "cost": cost,
    "by the deadline, FLOPs": most("flops", lambda value: f"{value:.3g}"),
    "by the deadline, parameters": most("parameters", short),
    "by the deadline, tokens": most("tokens", short)}
