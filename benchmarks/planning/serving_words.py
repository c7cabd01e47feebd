"""A plan of what is served, as a table for people."""

from collections.abc import Mapping
from typing import Any

from twinscale.benchmarks.numbers import size
from twinscale.benchmarks.planning.words import short
from twinscale.common.files.output import safe_console, table_of

WIDE = 124  # characters of the table
MOST = 12  # candidates that are shown; JSON has all


def show(result: Mapping[str, Any]) -> None:
    """Prints the best candidates on stdout, the best one in words, and what all rests on."""
    console, share = safe_console(width=WIDE), f"{result['level']:.0%}"
    rows = result["rows"]
    table = table_of(("bits", "zeros", "taught", "parameters", "tokens", "loss", f"{share} of the law", "memory",
                      "FLOPs a token", "limited by", "best in"))
    for row in rows[:MOST]:
        table.add_row(f"{row['bits']:g}", f"{row['sparsity']:.4g}", "yes" if row["distilled"] else "no",
                      short(row["parameters"]), short(row["tokens"]), f"{row['loss']:.4f}", span(row["interval"]),
                      size(row["memory"]), f"{row['flops_per_token']:.3g}", row["limited_by"],
                      "–" if row["best_of_resamples"] is None else f"{row['best_of_resamples']:.0%}")
    console.print(table)
    if len(rows) > MOST:
        console.print(f"The best {MOST} of {len(rows)} candidates; --json has all.")
    for words in result["rests_on"]:
        console.print(f"- {words}.")
    for words in result["warnings"]:
        console.print(f"Beware: {words}.")
    console.print(result["sentence"])


def sentence(result: Mapping[str, Any]) -> str:
    """The best candidate in words, with its interval where there is one."""
    best = result["rows"][0]
    zeros = f", {best['sparsity']:.3g} of them 0" if best["sparsity"] else ""
    taught = ", taught by the teacher" if best["distilled"] else ""
    spread = (f" ({span(best['interval'])}, {result['level']:.0%} of the law), the best in "
              f"{best['best_of_resamples']:.0%} of {result['resamples']:,} resamples" if best["interval"] else
              " (no interval: the law has no resamples)")
    return (f"Serve {short(best['parameters'])} parameters of {best['bits']:g} bits{zeros}, trained on "
            f"{short(best['tokens'])} tokens{taught}: loss {best['loss']:.4g} nats a token{spread}; "
            f"{size(best['memory'])} and {best['flops_per_token']:.3g} FLOPs a token.")


def span(ends: Any) -> str:
    """An interval's ends."""
    return "–" if not ends else f"{ends[0]:.4g} to {ends[1]:.4g}"
