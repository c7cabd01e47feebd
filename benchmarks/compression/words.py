"""The words of a compression's report: what its terms mean, what a failed rung usually means, and its figures in
sentences.

Text between backticks is code, in HTML as in Markdown.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from twinscale.benchmarks.numbers import as_float, floats, sig, size
from twinscale.benchmarks.report.words import TERMS as SHARED
from twinscale.benchmarks.report.words import interval, number
from twinscale.benchmarks.rounds import holds, ratio_interval
from twinscale.benchmarks.rungs.outcome import WHERE
from twinscale.common.backends import BACKENDS

SAME = 0.05  # a ratio of sizes this near to 1 counts as none, and one of latencies whose whole interval is

TERMS = [
    ("Stage", "One step of the compression: a training of its own, which starts from what the stage before has left. "
              "In a comparison both backends start each stage from one file, so that they differ by this stage alone."),
    ("As trained, from the file",
     "Each metric stands twice: as the trainer evaluates the weights that the stage has left, and as it comes out when "
     "the file that ships is itself run on held-out data. The change is against the same backend's dense model, file "
     "against file. A file may be measured on fewer rows than the trainer takes, and reads each row of text as "
     "one document."),
    ("On disk, zipped", "The bytes of the file as it lies on the disk, and after compression with zip, as a download "
                        "costs. Zeros take as much room as other numbers until the file is zipped."),
    ("Kept", "The share of the values of kernels and tables that are not zero."),
    ("Median, 95th percentile", "Of the times that one call takes, all files in turns: half of them are shorter "
                                "than the median, and one of twenty is longer than the 95th percentile. Ratios are "
                                "of the rounds in which both files were called, with their intervals of 95 %."),
    ("Front", "A file is on the front where no other file is both at most as large and at least as good, and better "
              "in one of the two. What is not on the front is never the best choice by size and metric."),
    ("Masks equal", "A mask says which values pruning keeps. The ladder asks whether both backends make the same masks "
                    "of equal weights, bit for bit. The share in the table is of the masks at the end of two separate "
                    "trainings, whose weights have drifted apart by rounding: it may be below 100 % with no error."),
    ("Quantum", "The distance between two neighbouring values of 8 bits. Equal numbers may be rounded to neighbouring "
                "values where they lie in the middle; more than one quantum apart is an error."),
    ("Keras − JAX, equivalent",
     "The difference of the held-out losses, batch by batch, with its interval. Equivalent: the whole interval is "
     "within the margin that the recipe declares. Different: all of it is outside. Otherwise the question stays open."),
    *[(name, meaning) for name, meaning in SHARED if name.startswith(("Rung", "Observed", "Twin", "Horizon"))],
]

# What it usually means that a rung fails, by its title.
FAILURES = {
    "contract": "The backends do not hold the same tensors: another set of kernels is pruned, quantised or clustered, "
                "or the student is another model. What the later rungs of the stage say counts only when this holds.",
    "masks": "Equal weights are masked unlike: the count of what is kept, the threshold, ties, the updates that masks "
             "are made at, or the axis of a pattern.",
    "quanta": "Equal values are quantised unlike: the range, the place of zero, the rounding of halves, or whether "
              "there is one range for each output channel.",
    "numerics": "Where the rungs before hold, look at the training of the stage: gradients through masks, centroids "
                "or rounding, moving ranges, or an operation that rounds more in one backend.",
    "semantics": "In float64 no rounding is left to explain it: the loss of the stage or its schedule means something "
                 "else in one backend.",
    "metric": "The final held-out losses differ by more than the recipe's margin, or too few batches were held out to "
              "tell, and then the rung is open.",
}

ZEROS = ("The program that runs the file multiplies by a zero as by any other number, so zeros save it no time; they "
         "zip well.")


# ---- what the page leads with

def headline(found: Mapping[str, Any]) -> tuple[bool | None, str, str]:
    """(tone: True, False or None, subject, answer) of the verdict strip."""
    failed = [rung for rung in found.get("rungs") or [] if not rung.get("agrees")]
    if found.get("agrees") is None:
        made = dict.fromkeys(row.get("backend") for row in found.get("rows") or [])
        return None, "Compressed by", " and ".join(backend_name(b) for b in made) or "one backend"
    if failed and not found["agrees"] and all(rung.get("open") for rung in failed):
        return None, "Whether the backends compress alike", "stays open"
    return found["agrees"], "The backends", "compress alike" if found["agrees"] else "do not compress alike"


def facts(found: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], metric: str, main: Any
          ) -> list[tuple[str, str]]:
    """The compression in numbers: name and value."""
    rungs = found.get("rungs") or []
    told = [("recipe", (found.get("recipe") or {}).get("name", "–")),
            ("stages", ", ".join(map(str, found.get("stages") or [])) or "–")]
    if rungs:
        told.append(("rungs that hold", f"{sum(bool(r.get('agrees')) for r in rungs)} of {len(rungs)}"))
    smallest = min((line for line in lines if line["bytes"]), default=None,
                   key=lambda line: (line["bytes"], line["zipped"] or math.inf, name_of(line)))
    if not smallest:
        return told
    less = f", {times(smallest['smaller'])} smaller than the dense float file" if smallest["smaller"] else ""
    told.append(("smallest file", f"{name_of(smallest)}: {size(smallest['bytes'])}{less}"))
    by = "trained" if smallest["measured"] is None else "measured"
    if smallest[by] is not None:
        told.append((f"its {metric}{', as trained' * (by == 'trained')}",
                     sig(smallest[by], 4) + against(smallest[f"{by}_change"])))
    median = as_float(smallest["latency"].get(main, (None, None))[0])
    if math.isfinite(median):
        told.append((f"its latency, {setting(main)}", f"{sig(median, 3)} ms"))
    return told


def against(change: float) -> str:
    """A change against the dense model, as the end of a phrase."""
    if change is None:
        return ""
    if change == 0:
        return ", as the dense model's"
    return f", {sig(abs(change))} {'lower' if change < 0 else 'higher'} than the dense model's"


# ---- files and their figures

def pareto_words(points: Sequence[Mapping[str, Any]], metric: str, lower: bool, absent: Collection[str]) -> str:
    """Which files are on the front, by bytes on disk, and which would be by zipped bytes."""
    front = sorted((p for p in points if p["front"]), key=lambda p: (p["bytes"], p["name"]))
    words = (f"{_count(len(front), 'file')} of {number(len(points))} {_be(front)} on the front: no other file is both "
             "at most as large and at least as good. From small to large: "
             + "; ".join(f"{p['name']} ({size(p['bytes'])}, {metric} {sig(p['value'], 4)})" for p in front) + ". ")
    zipped = sorted((p for p in points if p["zipped_front"]), key=lambda p: (p["zipped"], p["name"]))
    if zipped and {p["name"] for p in zipped} != {p["name"] for p in front}:
        words += f"By zipped bytes the front is {', '.join(p['name'] for p in zipped)}. "
    words += f"For {metric}, {'lower' if lower else 'higher'} is better. "
    if absent:
        words += f"Not shown, because size or metric was not measured: {', '.join(absent)}. "
    return words + ("The number under a name is its latency where there is one; filled: 8-bit integers, hollow: other "
                    "numbers. The thin line ends where the zipped file is.")


def latency_words(lines: Sequence[Mapping[str, Any]], main: Any) -> str:
    """The fastest and the slowest file in one setting, how they compare with the same backend's dense file, and which
    others the rounds do not tell from the fastest."""
    timed = [line for line in lines if math.isfinite(median_of(line, main))]
    fast, slow = (pick(timed, key=lambda line: median_of(line, main)) for pick in (min, max))
    words = f"{setting(main)[:1].upper()}{setting(main)[1:]}. "
    if fast is slow:
        return words + f"{name_of(fast)} takes {sig(median_of(fast, main), 3)} ms. {_slowest(fast, main)}"
    alike = [line for line in timed if line is not fast and not _told(compared(line, fast, main))]
    for lead, line in (("The least median has" if alike else "Fastest is", fast),
                       ("; the greatest has" if alike else "; slowest is", slow)):
        if line not in alike:
            words += f"{lead} {name_of(line)} with {sig(median_of(line, main), 3)} ms{_speedup(line, main)}"
    words += ". "
    if alike:
        words += f"The rounds do not tell it from {', '.join(name_of(line) for line in alike)}. "
    return words + "Point: median; bar: up to the 95th percentile. Filled: 8-bit integers, hollow: other numbers."


def _slowest(line, main):
    p95 = as_float(line["latency"][main][1])
    return f"95th percentile {sig(p95, 3)} ms." if math.isfinite(p95) else ""


def _speedup(line, main):
    dense = line["dense"]
    if dense is None or dense is line or not (speed := compared(dense, line, main)):
        return ""
    if holds(speed):
        return f", no faster or slower than its dense file that the rounds tell ({_around(speed)} times as fast)"
    return f", {times(speed[1])} as fast as its dense file ({_around(speed)})"


def compared(line: Mapping[str, Any], other: Mapping[str, Any], main: Any) -> tuple[float, float, float] | None:
    """(low, ratio, high) of a file's latency to another's, of the rounds that both were called in; None where these
    were not kept, and nothing is claimed."""
    ours, theirs = (floats(each["latency"].get(main, (None, None, ()))[2]).tolist() for each in (line, other))
    return ratio_interval(ours, theirs) if len(ours) > 1 else None


def _told(ratio):
    """Whether a ratio's interval carries that one takes longer."""
    return ratio is not None and not holds(ratio)


def _around(ratio):
    return f"95 %: {interval((ratio[0], ratio[2]))}"


def zeros(lines: Sequence[Mapping[str, Any]], main: Any) -> dict[str, Any] | None:
    """What zeros buy, from the figures of each backend's sparse files and those they were pruned from: None where
    nothing is sparse, else {"faster": {file: bool, None where the rounds do not tell}, "lead": a sentence, "facts": a
    sentence for each file, "why": a sentence}."""
    pairs = [(line, full) for line in lines if (full := _full(line, lines)) and _is_first(line, full, lines)]
    if not pairs:
        return None
    ratios = {name_of(line): compared(line, full, main) for line, full in pairs}
    faster = {name: _is_faster(ratio) for name, ratio in ratios.items() if ratio}
    zips = [full["zipped"] / line["zipped"] > 1 + SAME for line, full in pairs if line["zipped"] and full["zipped"]]
    if not faster:
        lead = "Whether zeros buy latency was not measured"
    elif any(faster.values()) and not all(faster.values()):
        lead = f"Zeros buy latency in {' and '.join(name for name in faster if faster[name])}"
        lead += "; of the others the rounds do not tell" if None in faster.values() else " alone"
    elif None in faster.values():
        lead = "Whether zeros buy latency here the rounds do not tell"
    else:
        lead = f"Zeros buy {'latency' if all(faster.values()) else 'no latency'} here"
    if zips:
        lead += "; they buy bytes once the file is zipped" if all(zips) else "; not every file is smaller, even zipped"
    return {"faster": faster, "lead": f"{lead}.", "facts": [_bought(line, full, main) for line, full in pairs],
            "why": ZEROS if faster and {*faster.values()} == {False} else ""}


def _is_faster(ratio):
    """Whether a file is faster: True where the whole interval says so, False where it leaves less than SAME to gain,
    else None."""
    low, _, high = ratio
    return False if low > 1 - SAME else True if high < 1 else None


def _full(line, lines):
    """The file of floats that a sparse one was pruned from: its backend's first of as many parameters. None where the
    line is not sparse or not of floats."""
    dense = line["dense"]
    alike = [other for other in lines if dense and other["format"] == dense["format"] and not other["reason"]
             and (other["backend"], other["parameters"]) == (line["backend"], line["parameters"])]
    if not alike or line["reason"] or None in (line["kept"], alike[0]["kept"]):
        return None
    floats = line["format"] == dense["format"] or "sparse" in str(line["format"])
    return alike[0] if floats and line["kept"] < (1 - SAME) * alike[0]["kept"] else None


def _is_first(line, full, lines):
    """Whether a sparse line is the first of its backend and format that has about as few values as any."""
    alike = [other for other in lines if other["format"] == line["format"] and _full(other, lines) is full]
    fewest = min(other["kept"] for other in alike)
    return line is next(other for other in alike if other["kept"] <= (1 + SAME) * fewest)


def _bought(line, full, main):
    """A sparse file's latency and sizes beside those of the file it was pruned from."""
    told, what = [], f"the {full['stage']} one"
    ours, theirs = median_of(line, main), median_of(full, main)
    if ours > 0 and theirs > 0:
        told.append(f"takes {sig(ours, 3)} ms ({setting(main)}) and {what} {sig(theirs, 3)} ms"
                    f"{_in_rounds(compared(line, full, main))}")
    if line["zipped"] and full["zipped"]:
        less = _less(full["zipped"] / line["zipped"])
        told.append(f"zips to {size(line['zipped'])} and {what} to {size(full['zipped'])}, {less}")
    if line["bytes"] and full["bytes"]:
        told.append(f"is, on disk, {_less(full['bytes'] / line['bytes'])}")
    return f"{name_of(line)}, with {share(line['kept'])} of its values kept, {'; it '.join(told) or 'was not timed'}."


def _less(ratio):
    return f"{times(ratio)} smaller" if ratio > 1 + SAME else "no smaller"


def _in_rounds(ratio):
    """A ratio of latencies in words, as the end of a phrase."""
    if not ratio:
        return ""
    low, middle, high = ratio
    if high < 1:
        return f", {sig(1 / middle, 3)} times as fast ({_around((1 / high, 1 / middle, 1 / low))})"
    same = "; which is faster is not told" if holds(ratio) else ""
    within = f"; within {100 * SAME:g} % counts as equal" if low > 1 - SAME and high < 1 + SAME else same
    return f", {sig(middle, 3)} times as long ({_around(ratio)}{within})"


def kept_words(row: Mapping[str, Any]) -> tuple[bool, str]:
    """(whether a stage kept all that the stages before had made, the words)."""
    verified = row["verified"]
    lost = [v for v in verified if not v.get("kept")]
    who = f"{backend_name(row['backend'])}, {row['stage']}"
    if lost:
        return False, f"{who}: {number(len(lost))} of {_count(len(verified), 'kernel')} lost zeros or centroids."
    ends = [as_float(v.get("zeros_after")) for v in verified]
    words = f"{who}: {'the one kernel' if len(verified) == 1 else f'all {number(len(verified))} kernels'} kept "
    words += "the zeros and centroids that earlier stages had made"
    span = " to ".join(dict.fromkeys([share(min(ends)), share(max(ends))]))
    return True, words + (f" (zeros: {span})." if max(ends) > 0 else ".")


def lost_words(row: Mapping[str, Any]) -> str:
    """What a kernel lost, as far as the counts tell."""
    before, after = (as_float(row.get(f"zeros_{when}")) for when in ("before", "after"))
    more = as_float(row.get("values_after")) > as_float(row.get("values_before"))
    told = ["zeros"] * (after < before) + ["centroids"] * (more and not after < before)
    return " and ".join(told) or "zeros, which have moved"


# ---- parity

def paired_words(test: Mapping[str, Any]) -> tuple[str, str]:
    """The paired test's answer with its mark, and where the interval lies."""
    answer: Any = test.get("answer")
    sign = {"equivalent": "✓", "different": "✕"}.get(answer, "?")
    return f"{sign} {answer}", f"{WHERE[answer]} ±{as_float(test.get('margin')):g}" if answer in WHERE else ""


def quanta_words(quanta: Mapping[str, Any]) -> tuple[str, str]:
    """How many quantised values differ of how many, and by how many quanta at most."""
    if quanta.get("differing") is None:
        return "–", ""
    worst = as_float(quanta.get("worst"))
    return (f"{number(quanta['differing'])} of {number(quanta.get('total'))}",
            f"by at most {sig(worst, 3)} quanta" if worst > 0 else "")


# ---- values in words

def backend_name(backend: Any) -> str:
    """A backend as people name it."""
    return BACKENDS[backend].title if backend in BACKENDS else str(backend)


def format_name(kind: Any) -> str:
    """A file's format in words: litert-int8 is LiteRT int8."""
    return str(kind or "").replace("litert-", "LiteRT ")


def name_of(line: Mapping[str, Any]) -> str:
    """A file's name in sentences."""
    kind = format_name(line["format"])
    return f"{backend_name(line['backend'])} {line['stage']}{f' {kind}' if kind else ''}"


def setting(key: tuple[Any, Any]) -> str:
    """A latency's setting in words."""
    batch, threads = key
    return f"batch {number(batch)}, {_count(threads, 'thread')}"


def median_of(line: Mapping[str, Any], main: Any) -> float:
    """The median of a file's latency in a setting, NaN where there is none."""
    return as_float(line["latency"].get(main, (None, None))[0])


def share(value: Any) -> str:
    """A share of 1 in percent; what is less than all never reads 100 %, and what is more than nothing never 0 %."""
    value = as_float(value)
    if not math.isfinite(value):
        return "–"
    near = min(value, 1 - value)
    digits = 0 if value in (0, 1) else max(1, 1 - math.floor(math.log10(100 * near))) if 0 < near < 0.01 else 1
    return f"{100 * value:.{min(digits, 9)}f} %"


def times(ratio: float) -> str:
    """How many times, as text."""
    return f"{sig(ratio, 3 if ratio >= 100 else 2)} times"


def _count(count, noun):
    return f"{number(count)} {noun}{'s' * (count != 1)}"


def _be(items):
    return "is" if len(items) == 1 else "are"
