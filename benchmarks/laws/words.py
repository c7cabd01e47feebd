"""A fitted law as tables for people."""

from collections.abc import Mapping
from typing import Any

from twinscale.common.files.access import escaped_lines
from twinscale.common.files.output import safe_console, table_of


def show(result: Mapping[str, Any]) -> None:
    """Prints a fit on stdout: the law, its parameters, its certificate, what it advises, and what speaks against it."""
    console = safe_console(soft_wrap=True)
    rows, law = result["results"], result["law"]
    left = "".join(f", {count} left out ({name})" for name, count in rows["dropped"].items() if count)
    console.print(f"{law['title']}: {law['equation']} ({law['source']}), over {rows['rows']} rows of {rows['runs']} "
                  f"runs{left}")
    console.print(objective_words(result))
    for title, columns, lines in tables(result):
        console.print(table_of(columns, lines, title))
    for words in filter(None, (result["disagreement"], *(f"Beware: {one}." for one in result["warnings"]))):
        console.print(words)
    console.print(result["sentence"])


def objective_words(result: Mapping[str, Any]) -> str:
    """What was minimised, to what, and what certifies it."""
    objective, proof = result["objective"], result["certificate"]
    delta = f" of delta {objective['delta']:g}" if objective["delta"] else ""
    tilt = f", tilted to {objective['tilt']:g}" if objective["tilt"] != 0.5 else ""
    resampled = (f"; {proof['resamples_converged']:,} of {proof['resamples']:,} resamples of runs converged, "
                 f"{proof['resampling_seconds']:.1f} CPU seconds" if proof["resamples"] else "")
    return (f"Sum of {objective['name']} losses of log residuals{delta}{tilt}: {objective['value']:.12g}, "
            f"{objective['inside']:.0%} of rows within delta, residuals {objective['mean_error']:.2%} on average. "
            f"{'Converged' if proof['converged'] else 'NOT converged'}: gradient {proof['gradient']:.1e} of its terms, "
            f"condition {proof['condition']:.1e}, {proof['agreeing']} of {proof['starts']} starts agree, "
            f"{proof['fit_seconds']:.3f} CPU seconds{resampled}.")


def tables(result: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...], list[list[str]]]]:
    """[(title, columns, rows)] of a fit, as texts."""
    level = f"{result['level']:.0%}"
    found: list[tuple[str, tuple[str, ...], list[list[str]]]] = [
        ("Parameters", ("", "value", "deviation", f"{level} by bootstrap", f"{level} by profile"),
         [[row["name"], f"{row['value']:.6g}" if row["known"] else "not known",
           f"{row['deviation']:.4g}" if row["deviation"] is not None else "–", span(row["interval"]),
           span(row["profile"])] for row in result["parameters"]])]
    if result["approaches"]:
        found.append(("The best size, N = G C^a, by three approaches", ("approach", "a", level, "sizes"),
                      [[f"{row['approach']}: {row['title']}", f"{row['a']:.3f}" if row["found"] else "none",
                        span(row["interval"]), "; ".join(
                            f"{size['N']:.3g} at {size['flops']:.3g}" for size in row["sizes"])]
                       for row in result["approaches"]]))
    if result["optima"]:
        found.append((f"What it advises, with {level} intervals", ("operations", "N", "D", "D / N", "loss", "of a run"),
                      [[f"{row['flops']:.3g}", *(both(row, key) for key in ("N", "D", "ratio", "loss")),
                        span((row["intervals"] or {}).get("loss_of_a_run"), 4)] for row in result["optima"]]))
    if result["held_out"]:
        found.append(("Held out: predicted from what is smaller", ("along", "fitted up to", "rows", "error", "worst",
                                                                   "bias"),
                      [[row["axis"], f"{row['fitted_up_to']:.3g}", str(row["rows"]), f"{row['error']:.2%}",
                        f"{row['worst']:.2%}", f"{row['bias']:+.2%}"] for row in result["held_out"]]))
    return [(title, columns, [[escaped_lines(cell) for cell in line] for line in lines])
            for title, columns, lines in found]


def both(row: Mapping[str, Any], key: str) -> str:
    """A figure with its interval."""
    digits = 4 if key == "loss" else 3
    value = f"{row[key]:.{digits}g}"
    return f"{value} ({span(row['intervals'][key], digits)})" if row["intervals"] else value


def span(interval: Any, digits: int = 3) -> str:
    """An interval's ends."""
    return "–" if not interval else f"{interval[0]:.{digits}g} to {interval[1]:.{digits}g}"
