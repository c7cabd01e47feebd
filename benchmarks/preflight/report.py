"""The report of a preflight: what fits, what is communicated, how fast it could be; a self-contained HTML file and its
Markdown twin, from the same figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.preflight import plots
from twinscale.benchmarks.preflight.rows import totals
from twinscale.benchmarks.preflight.words import assumed, beside, fits, flags, gib, lines_of, named, times, who
from twinscale.benchmarks.report.page import drawn, ordered, reproduced, write
from twinscale.benchmarks.report.plots import TITLES

GIB, MIB = 2**30, 2**20
NETWORKS = {"ici": "over the slice's own links", "dcn": "between slices, over the data-centre network"}
SOURCES = {"peak_flops": "bfloat16 FLOP/s", "hbm_bytes": "HBM", "hbm_bandwidth": "HBM bytes/s",
           "link_bandwidth": "bytes/s of a link, one way", "dcn_bandwidth": "bytes/s between slices"}
TERMS = [
    ("Arguments, temporaries", "What the step is given (weights, the optimizer's slots, a batch) and what it needs "
                               "besides while it runs, in bytes of one chip, as the compiler has laid them out. The "
                               "state's results lie in the memory of what they replace."),
    ("GFLOP a step", "Counted in the module that the compiler has made, loop bodies times their trips. The matrix "
                     "unit takes several passes for a product of float32."),
    ("Collectives", "What chips add up, gather or move among each other: how often in a step, and bytes of one chip."),
    ("At least", "The seconds that computing, moving and sending would take at the maker's full rate if each were "
                 "alone. The longest binds: no step can be faster. It is a ceiling and no prediction."),
    ("MFU, ceiling", "The share of the chips' peak that is left at that ceiling. Nobody has measured it, and no "
                     "training reaches it."),
]


def write_report(found: dict[str, Any], out: Path) -> None:
    """Writes report.html and report.md into `out` from what preflight.json says; equal input gives equal bytes."""
    write("report", view(ordered(found)), out, "preflight")


def view(found: dict[str, Any]) -> dict[str, Any]:
    """Everything both templates need."""
    own, check = found["results"], found.get("check")
    rows = [*own, *found.get("peers", ())]
    good = all(row["fits"] for row in own) if check is None else not check["worse"]
    answer = ("fits" if good else "does not fit everywhere") if check is None else (
        "is no worse than before" if good else "is worse than before")
    compiled = [row for row in rows if row["compiles"]]
    return {
        **reproduced("preflight", found | {"versions": {"here": found["versions"]}}, {"here": "version"}),
        "v": found | {"recipe": {"name": found["recipe"]["name"], "hash": found.get("hash")}}, "good": good,
        "subject": found["recipe"]["name"], "answer": answer,
        "sentence": "; ".join(f"{TITLES[row['backend']]} on {named(row)}: {fits(row)}" for row in own) + ".",
        "facts": facts(found, compiled), "worse": (check or {}).get("worse") or [],
        "columns": [f"{who(row, TITLES)}, {named(row)}" for row in rows],
        "lines": [(name.strip(), [text.split("\n") for text in cells]) for name, cells in lines_of(rows)],
        "errors": [(f"{who(row, TITLES)} on {named(row)}", row["error"]) for row in rows if row["error"]],
        "beside": beside(found.get("peers", ())), "memory": memory(rows), "roofline": roofline(found, compiled),
        "traffic": [figure for network in NETWORKS if (figure := traffic(compiled, network))],
        "parity": [{"topology": each["topology"], "title": TITLES[each["backend"]], "lines": [
            (line["figure"], line["operation"], f"{line['jax']:,.0f}", f"{line['keras']:,.0f}",
             times(line["jax"], line["keras"])) for line in each["differences"]]} for each in found["parity"]],
        "flags": {TITLES[row["backend"]]: flags(row) for row in rows if row["xla_flags"]},
        "chips": [(chip["kind"], [(SOURCES[key], gib(chip[key]) if key == "hbm_bytes" else sig(chip[key], 3), source)
                          for key, source in chip["sources"].items()]) for chip in found["chips"].values()],
        "assumptions": assumed(found), "terms": TERMS,
    }


def facts(found: dict[str, Any], compiled: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Name and value of what is known of all rows."""
    recipe = found["recipe"]
    longest = max((row["compile_seconds"] for row in compiled), default=None)
    return [("recipe", recipe["name"]), ("precision", recipe["train"]["precision"]),
            ("global batch", f"{recipe['train']['global_batch']:,}"),
            ("libtpu", found["versions"].get("libtpu") or "–"),
            *([("longest compile", f"{longest:.1f} s")] if compiled else [])]


def memory(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The figure of a chip's memory, None where no row has a figure of it."""
    bars = []
    for row in rows:
        if not row["hbm_bytes_per_device"]:
            continue
        told = row["memory"]
        parts = {"arguments": told["arguments"], "temporaries": told["temporaries"], "results beyond them":
                 told["output"] - told["alias"], "code": told["code"]} if told else {
                     "no figure of its parts": row["hbm_bytes_per_device"]}
        bars.append({"label": f"{who(row, TITLES)}, {named(row)}", "backend": row["backend"],
                     "parts": {name: size / GIB for name, size in parts.items()},
                     "capacity": row["hbm_capacity_bytes"] / GIB})
    if not bars:
        return None
    words = "; ".join(f"{bar['label']}: {sum(bar['parts'].values()):.3g} of {bar['capacity']:.4g} GiB" for bar in bars)
    return drawn("memory", f"Memory of one chip. {words}.", plots.memory, bars)


def traffic(compiled: Sequence[Mapping[str, Any]], network: str) -> dict[str, Any] | None:
    """The figure of what collectives carry over a network, None where nothing goes over it."""
    bars = [{"label": f"{who(row, TITLES)}, {named(row)}", "backend": row["backend"],
             "parts": {kind: size / MIB for (kind, over), (_, size) in sorted(totals(row).items()) if over == network}}
            for row in compiled]
    if not any(bar["parts"] for bar in bars):
        return None
    words = "; ".join(f"{bar['label']}: {sig(sum(bar['parts'].values()), 3)} MiB" for bar in bars)
    return drawn(f"traffic-{network}", f"What collectives carry in a step, {NETWORKS[network]}. {words}.",
                 plots.traffic, bars, NETWORKS[network])


def roofline(found: dict[str, Any], compiled: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The figure of the rows under their chips' roofs, None where none computes."""
    points = [{"label": f"{who(row, TITLES)}, {named(row)}", "backend": row["backend"], "bound": row["bound"],
               "intensity": row["matrix_flops_per_device"] / row["bytes_moved_per_device"],
               "rate": row["matrix_flops_per_device"] / row["seconds_at_least"][row["bound"]]}
              for row in compiled if row["bytes_moved_per_device"] and row["matrix_flops_per_device"]]
    if not points:
        return None
    chips = {chip["kind"]: (chip["peak_flops"], chip["hbm_bandwidth"]) for chip in found["chips"].values()}
    words = "; ".join(f"{p['label']}: {sig(p['intensity'], 3)} operations a byte, bound by {p['bound']}"
                      for p in points)
    return drawn("roofline", f"The roofline: no step lies above its chip's line. {words}.", plots.roofline, chips,
                 points)
