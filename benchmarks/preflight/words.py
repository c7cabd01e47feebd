"""What preflight says to people on a terminal."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.preflight.rows import APART, totals
from twinscale.common.backends import BACKENDS
from twinscale.common.files.output import safe_console, table_of
from twinscale.common.machine.topology import titled

PIPED = 160  # letters of a line that is not for a terminal


def gib(size: float | None) -> str:
    """A size in bytes as text."""
    if size is None:
        return "–"
    unit, name = next((pair for pair in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")) if size >= pair[0]), (1, "B"))
    return f"{size / unit:.4g} {name}"


def show(result: Mapping[str, Any]) -> None:
    """Prints the rows as a table on stdout, then what parts the others from JAX, and what is worse than before."""
    rows = [*result["results"], *result.get("peers", ())]
    each = "device (two a chip)" if any(found["devices"] > found["chips"] for found in rows) else "chip"
    console = safe_console(soft_wrap=not sys.stdout.isatty())
    console.print(table_of(("", *(f"{who(row)}, {named(row)}" for row in rows)),
                           ((name, *cells) for name, cells in lines_of(rows)),
                           f"{result['recipe']['name']}: what the TPU's compiler says, for each {each}"))
    for found in rows:
        if found["error"]:
            console.print(f"{who(found)}, {found['topology']}: {found['error']}")
    for text in beside(result.get("peers", ())):
        console.print(text)
    for backend, text in {found["backend"]: flags(found) for found in rows if found["xla_flags"]}.items():
        console.print(f"{backend}, XLA flags: {text}")
    for about, text in assumed(result):
        console.print(f"{about}: {text}")
    for both in result["parity"]:
        lines, apart = both["differences"], f"{sig(100 * APART, 1)} %"
        who_else = BACKENDS[both["backend"]].title
        console.print(f"{both['topology']}: {who_else} and JAX " + (
            f"differ by more than {apart} in" if lines else f"agree within {apart}"))
        for line in lines:
            console.print(f"  {line['figure']}, {line['operation']}: jax {line['jax']:,.0f}, {both['backend']} "
                          f"{line['keras']:,.0f} ({who_else} / JAX {times(line['jax'], line['keras'])})")
    for name, (before, now) in (result["check"] or {}).get("versions", {}).items():
        console.print(f"The golden was made with {name} {before}, this is {now}.")
    for text in (result["check"] or {}).get("worse", ()):
        console.print(f"worse: {text}")


def who(row: Mapping[str, Any], titles: Mapping[str, str] | None = None) -> str:
    """Whose step a row is: a peer's name, or the backend's, as `titles` has it."""
    return row.get("peer") or (titles or {}).get(row["backend"], row["backend"])


def beside(peers: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each peer's step: what ours has of its figures, and whether one compiler has made both."""
    found = []
    for each in peers:
        by = ", ".join(f"{package} {each['versions'][package]}" for package in ("maxtext", "jax", "libtpu")
                       if package in each["versions"])
        start = f"{named(each)}: ours / {each['peer']} ({by}): "
        if not each["compiles"]:
            found.append(f"{start}it does not compile, so there is nothing to compare with")
            continue
        shares = ", ".join(f"{what} {sig(share, 4)}" for what, share in each["ours_over_theirs"].items())
        apart = ", ".join(f"{package} {ours}" for package, (ours, _) in each["other_versions"].items())
        found.append(f"{start}{shares}" + (f"; not like for like, for ours is of {apart}: `make peers-tpu` has one "
                                           "compiler for both" if apart else "; one compiler has made both"))
    return found


def times(a: float, b: float) -> str:
    """How many times `a` is in `b`, as text."""
    return f"{sig(b / a, 3)} ×" if a else "–"


def lines_of(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """(name, [a row's cell]) of the table that a terminal and the report show, without lines that say nothing."""
    for name, cell in CELLS.items():
        cells = [cell(row) if row["compiles"] or name in ALWAYS else "–" for row in rows]
        if any(text != "–" for text in cells):
            yield name, cells


def assumed(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what about, what is taken for granted) of the rows there are."""
    rows = result["results"]
    kernels = any(row.get("kernels") for row in rows)
    several = any(row["devices"] > row["chips"] for row in rows)
    return [(about, result["assumptions"][about]) for about in dict.fromkeys(
        [*(row["backend"] for row in rows), *(row["peer"] for row in result.get("peers", ())), "roofline",
         *["devices"] * several, *["kernels"] * kernels])]


def show_search(result: Mapping[str, Any]) -> None:
    """Prints the candidates of a search as a table on stdout, the best first, and what to paste into the recipe."""
    console = safe_console(width=None if sys.stdout.isatty() else PIPED)
    console.print(table_of(SEARCHED, ([cell(found) for cell in SEARCHED.values()] for found in result["candidates"]),
                           f"{result['recipe']['name']} on {named(result)}, {result['backend']}: the largest batches "
                           "that fit", right=range(len(SEARCHED))))
    if not result["patch"]:
        console.print("No batch fits: take more chips, or a smaller model.")
        return
    best = result["candidates"][0]
    over = best["over"]
    more = best["why"] if not over else (
        f"{over['global_batch']:,} does not: {gib(over['hbm_bytes_per_device'])} of "
        f"{gib(over['hbm_capacity_bytes'])}. Both were compiled.")
    spare = gib(best["row"]["headroom_bytes"])
    console.print(f"A global batch of {best['global_batch']:,} fits, with {spare} to spare; {more}")
    fastest = max(filter(fitting, result["candidates"]),
                  key=lambda found: found["row"]["throughput_ceiling"])
    if fastest is not best:
        console.print(f"The highest ceiling on throughput has mesh {mesh(fastest)}, remat {fastest['remat']}, batch "
                      f"{fastest['global_batch']:,}: a bound, and no prediction.")
    console.print("\nInto the recipe:\n")
    console.print(result["patch"], end="")


def fitting(found: Mapping[str, Any]) -> bool:
    """Whether a candidate's own batch was compiled and fits."""
    return bool(found["row"] and found["row"]["fits"])


def mesh(found: Mapping[str, Any]) -> str:
    """The axes of a candidate's mesh, in words."""
    return " x ".join(f"{axis} {size}" for axis, size in found["mesh"].items() if size > 1) or "one chip"


def named(found: Mapping[str, Any]) -> str:
    """A row's topology as people name it."""
    return titled(found["topology"], found["slices"])


def fits(found: Mapping[str, Any]) -> str:
    """Whether a row fits into the chip's memory, and by how much."""
    if not found["compiles"] and found["fits"] is None:
        return "does not compile"
    spare = found["headroom_bytes"]
    return f"yes, {gib(spare)} spare" if found["fits"] else f"no, {gib(-spare)} too much"


def communicates(found: Mapping[str, Any]) -> str:
    """What a row's collectives move, a line for each kind."""
    lines = [f"{kind} x {count}, {gib(size)}" + (" (between slices)" if network == "dcn" else "")
             for (kind, network), (count, size) in sorted(totals(found).items())]
    if found.get("unread_collectives"):
        lines.append(f"{len(found['unread_collectives'])} that could not be counted")
    return "\n".join(lines) or "nothing"


def flags(found: Mapping[str, Any]) -> str:
    """The flags of XLA that a row was compiled with."""
    return " ".join(f"{name}={value}".lower() for name, value in found["xla_flags"].items())


def seconds(found: Mapping[str, Any]) -> str:
    """The least seconds of a row's step by what binds it."""
    names = {"compute": "compute", "hbm": "HBM", "interconnect": "interconnect", "dcn": "data-centre network"}
    taken = {name: found["seconds_at_least"][key] for key, name in names.items()}
    return "\n".join(f"{name} {sig(1e3 * value, 3)} ms" for name, value in taken.items() if value)


ALWAYS = ("mesh", "fits", "HBM", "attention", "compile, s")
CELLS = {
    "mesh": lambda found: " x ".join(f"{axis} {n}" for axis, n in found["mesh"].items() if n > 1) or "one chip",
    "fits": fits,
    "HBM": lambda found: f"{gib(found['hbm_bytes_per_device'])} of {gib(found['hbm_capacity_bytes'])}",
    "  arguments": lambda found: gib(found["memory"]["arguments"]),
    "  temporaries": lambda found: gib(found["memory"]["temporaries"]),
    "  results beyond them": lambda found: gib(found["memory"]["output"] - found["memory"]["alias"]),
    "  code": lambda found: gib(found["memory"]["code"]),
    "attention": lambda found: found["attention"] or "–",
    "GFLOP a step": lambda found: sig(found["flops_per_device"] / 1e9, 4),
    "bytes moved a step": lambda found: gib(found["bytes_moved_per_device"]),
    "collectives a step": communicates,
    "bytes a link a step": lambda found: gib(found["bytes_per_link"]),
    "fusions": lambda found: f"{found['fusions']:,}",
    "at least": seconds,
    "bound by": lambda found: found["bound"],
    "MFU, ceiling": lambda found: f"{sig(100 * found['mfu_ceiling'], 3)} %",
    "throughput, ceiling": lambda found: f"{found['throughput_ceiling']:,.0f} {found['unit']}",
    "compile, s": lambda found: f"{found['compile_seconds']:.1f}"}
SEARCHED = {
    "global batch": lambda found: f"{'' if found['settled'] else 'about '}{found['global_batch']:,}"
                                  if found["global_batch"] else "none",
    "mesh": mesh,
    "remat": lambda found: found["remat"],
    "accumulate": lambda found: str(found["accumulate"]),
    "HBM": lambda found: gib(found["row"]["hbm_bytes_per_device"]) if fitting(found) else "–",
    "MFU, ceiling": lambda found: f"{sig(100 * found['row']['mfu_ceiling'], 3)} %" if fitting(found) else "–",
    "throughput, ceiling": lambda found: f"{found['row']['throughput_ceiling']:,.0f} {found['row']['unit']}"
                                         if fitting(found) else "–",
    "bound by": lambda found: found["row"]["bound"] if fitting(found) else "–",
    "one step larger": lambda found: gib(found["over"]["hbm_bytes_per_device"]) if found["settled"] and found["over"]
                                     else found["why"] or "–",
    "compiled": lambda found: str(found["compiles"])}
