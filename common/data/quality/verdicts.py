"""Which documents are trained on, and why others are not: one pass over a source by the rules of `data.quality`, kept
in the cache, and the subset of what it leaves.

Held-out documents are never removed, so that losses compare whatever the rules; a document to train on that is a
duplicate of one is. A document is compared with the held-out ones and with those before it that stayed; the reason is
the first that holds, of checks in their order, then exact, then near.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from twinscale.common.data.cache import cached, key
from twinscale.common.data.quality.checks import CHECKS
from twinscale.common.data.quality.duplicates import FINDERS, Finder
from twinscale.common.data.quality.measures import Page
from twinscale.common.data.quality.subset import chosen, word_of
from twinscale.common.data.sources import documents as all_documents
from twinscale.common.data.sources import fingerprint
from twinscale.common.data.split import side
from twinscale.common.errors import BadInput, MissingEnvironment, one_of
from twinscale.common.files.access import read_json
from twinscale.common.files.tensors import load_array
from twinscale.common.need import missing
from twinscale.common.quality import Subset
from twinscale.common.registry import portable
from twinscale.common.sources import Data, Labelled, as_written, own_values

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

READ = ("field", "field_2", "label", "header", "quotes", "tags", "held_out", "max_documents", "quality",
        "quality_options")
OF_HELD_OUT = "_of_held_out"  # ends the reason of a duplicate of a document that is held out
EXAMPLES, SHOWN = 5, 160  # of a reason, and the characters of each
STAYS, HELD_OUT, NOT_TAKEN = 0, 1, 2  # verdicts; from FIRST on they are reasons
FIRST = 3
RULES = dict.fromkeys([*(check.rule for check in CHECKS), *FINDERS])
REASONS = (*(check.reason for check in CHECKS), *(name + end for name in FINDERS for end in ("", OF_HELD_OUT)))
REPORT = "report.json"

Rows = Callable[[], Iterable[tuple[str, str, bool]]]  # to (name, text, whether it is held out) of each, every time


class Verdicts(NamedTuple):
    """`codes` uint8 (documents,): STAYS, HELD_OUT, NOT_TAKEN by the subset, or FIRST + the index of its reason in
    REASONS; `told` what a manifest says; `examples` {reason: [{"name", "text", "why"}]}."""

    codes: np.ndarray
    told: dict[str, Any]
    examples: dict[str, list[dict[str, str]]]

    @property
    def read(self) -> np.ndarray:
        """Which documents there are to the training: those to train on, and the held-out ones: bool (documents,)."""
        return (self.codes == STAYS) | (self.codes == HELD_OUT)


def chosen_by(data: Data) -> tuple[dict[str, Any], ...]:
    """What chooses the texts to train on, as a tuple for a cache's key; () where all are read."""
    chosen = data.model_dump(mode="json", include={"quality", "quality_options", "subset"})
    return (chosen,) if data.chooses else ()


def told_of(data: Data) -> dict[str, Any]:
    """{"quality": what a manifest says} of a source of text; {} where all of it is read."""
    return {"quality": verdicts(data).told} if data.chooses else {}


def documents(data: Data) -> Iterator[tuple[str, str]]:
    """`common.data.sources.documents` that a [data] keeps: its held-out ones, and those to train on that no rule of
    `data.quality` removes and `data.subset` takes."""
    if not data.chooses:
        return all_documents(data)
    return itertools.compress(all_documents(data), verdicts(data).read)


def in_full(data: Data) -> Data:
    """A [data] without its subset: a tokenizer is learnt from that, so that all subsets have one."""
    return data.model_copy(update={"subset": Subset()})


def sided(data: Data) -> Iterator[tuple[str, str, bool]]:
    """(name, text, whether it is held out) of each document of a source of text."""
    return ((name, text, side(text.encode(), data.held_out) == "held_out") for name, text in all_documents(data))


def verdicts(data: Data, rows: Rows | None = None) -> Verdicts:
    """The Verdicts on the documents of a source of text, or on the `rows` of a labelled one; of the cache, where it has
    them.

    Raises BadInput where no document to train on is left, MissingEnvironment where a package is missing.
    """
    try:
        library = version("datasketch") if "near" in data.quality else None
    except PackageNotFoundError:
        raise MissingEnvironment(f'data.quality: "near": {missing("datasketch")}') from None
    parts = (portable(data.source), fingerprint(data), library, rows is not None, *own_values(data),
             data.model_dump(mode="json", include=set(READ)))

    def build(folder):
        codes, words, sizes, examples = judged(data, rows or (lambda: sided(data)))
        for name, x in (("codes", codes), ("words", words), ("sizes", sizes)):
            np.save(folder / f"{name}.npy", x)
        (folder / REPORT).write_text(json.dumps(examples))

    codes, words, sizes, examples = cached(f"quality-{key(1, *parts)}", build, read_folder)
    return with_subset(data, codes, words, sizes, examples)


def of_rows(data: Data, found: Labelled, texts: Sequence[str], held_out: np.ndarray
            ) -> tuple[Labelled, np.ndarray, dict[str, Any], list[str]]:
    """(the Labelled that a [data] keeps, which of its rows are held out, bool (rows,), what is told of it, the texts to
    learn a tokenizer from: those to train on without the subset). `texts`: of each row all of its text."""
    if not data.chooses:
        return found, held_out, {}, [text for text, out in zip(texts, held_out, strict=True) if not out]
    said = verdicts(data, lambda: zip(found.places, texts, held_out.tolist(), strict=True))
    rows = np.flatnonzero(said.read).tolist()
    kept: dict[str, Any] = {name: None if (column := getattr(found, name)) is None else [column[row] for row in rows]
                            for name in ("texts", "labels", "places", "held_out", "seconds")}
    learnt = [texts[row] for row in np.flatnonzero((said.codes == STAYS) | (said.codes == NOT_TAKEN)).tolist()]
    return replace(found, **kept), held_out[rows], {"quality": said.told}, learnt


Found = tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, list[dict[str, str]]]]


def read_folder(folder: Path) -> Found:
    """(codes, words, sizes, examples) of a folder that `verdicts` has filled; ValueError where it is none."""
    codes, words, sizes = (np.asarray(load_array(folder / f"{name}.npy")) for name in ("codes", "words", "sizes"))
    if not (codes.shape == words.shape == sizes.shape) or codes.max(initial=0) >= FIRST + len(REASONS):
        raise ValueError(f"it holds codes {codes.shape} for {words.shape} documents")
    return codes, words, sizes, read_json(folder / REPORT, dict[str, list[dict[str, str]]])


def judged(data: Data, rows: Rows) -> Found:
    """(codes uint8, words uint64, sizes int64 in bytes, each (documents,), examples) of the rows, without a subset."""
    for rule in data.quality:
        one_of(RULES, rule, "data.quality")
    checks = [check for check in CHECKS if check.rule in data.quality]
    finders: dict[str, Finder] = {name: make(data.quality_options) for name, make in FINDERS.items()
                                  if name in data.quality}
    known: list[tuple[str, bool]] = []  # (name, whether it is held out) of those that others are compared with
    for name, text, out in rows() if finders else ():
        if out:
            keep(finders, text, len(known))
            known.append((name, True))
    codes, words, sizes = [], [], []
    examples: dict[str, list[dict[str, str]]] = {}
    for name, text, out in rows():
        content, code = text.encode(), HELD_OUT if out else STAYS
        reason, why = (None, "") if out else reason_of(text, data, checks, finders, known)
        if reason:
            code = FIRST + REASONS.index(reason)
            some = examples.setdefault(reason, [])
            if len(some) < EXAMPLES:
                some.append({"name": printable(name), "text": printable(text), "why": printable(why)})
        elif not out and finders:
            keep(finders, text, len(known))
            known.append((name, False))
        codes.append(code)
        words.append(word_of(content))
        sizes.append(len(content))
    return np.array(codes, np.uint8), np.array(words, np.uint64), np.array(sizes, np.int64), examples


def reason_of(text: str, data: Data, checks: Iterable[Any], finders: Mapping[str, Finder],
              known: list[tuple[str, bool]]) -> tuple[str | None, str]:
    """(the first reason to remove a text or None, what is said of it)."""
    page = Page(text)
    for check in checks:
        if why := check.finds(page, data.quality_options):
            return check.reason, why
    for name, finder in finders.items():
        if seen := finder.find(text):
            other, held_out = known[seen.other]
            return name + OF_HELD_OUT * held_out, f"{seen.said} as {other}"
    return None, ""


def keep(finders: Mapping[str, Finder], text: str, number: int) -> None:
    """Has later documents compared with a text."""
    for finder in finders.values():
        finder.keep(text, number)


def printable(text: str) -> str:
    """The beginning of a text, in one line that any file can hold."""
    return " ".join(text[:4 * SHOWN].split())[:SHOWN].encode(errors="replace").decode()


def with_subset(data: Data, codes: np.ndarray, words: np.ndarray, sizes: np.ndarray,
                examples: dict[str, list[dict[str, str]]]) -> Verdicts:
    """The Verdicts with what `data.subset` takes of the documents that stay. Raises BadInput where none does."""
    stay = np.flatnonzero(codes == STAYS)
    counts = {reason: counted(sizes[codes == FIRST + i]) for i, reason in enumerate(REASONS)}
    removed = {reason: count for reason, count in counts.items() if count["documents"]}
    if removed and not len(stay):
        worst = max(removed, key=lambda reason: removed[reason]["documents"])
        raise BadInput(f"data.quality removes all {int((codes != HELD_OUT).sum()):,} documents to train on of "
                       f"{as_written(data)}, {removed[worst]['documents']:,} of them for {worst}: leave out a rule, "
                       "or move its threshold in data.quality_options")
    told: dict[str, Any] = {"read": counted(sizes[codes != HELD_OUT]), "kept": counted(sizes[stay]), "removed": removed}
    if data.subset != Subset():
        codes = codes.copy()
        taken = chosen(words[stay], sizes[stay], data.subset)
        codes[stay[~taken]] = NOT_TAKEN
        told["subset"] = counted(sizes[stay[taken]])
    return Verdicts(codes, told, examples)


def counted(sizes: np.ndarray) -> dict[str, int]:
    """{"documents", "bytes"} of documents with these sizes."""
    return {"documents": len(sizes), "bytes": int(sizes.sum())}


def often(recipe: "Recipe", manifest: Mapping[str, Any]) -> str:
    """A line on how often a training reads the rows of its subset, by the manifest of its data; "" without one."""
    if recipe.data.subset == Subset():
        return ""
    rows, read = manifest["train"]["examples"], recipe.train.steps * recipe.train.global_batch
    return f"{recipe.train.steps:,} steps read {read:,} rows: the {rows:,} of the subset {read / rows:.3g} times"


def remark(manifest: Mapping[str, Any]) -> list[str]:
    """A line on what was removed, and one on the subset, by a manifest's "quality"."""
    told, said = manifest.get("quality"), []
    if not told:
        return []
    if told["removed"]:
        each = ", ".join(f"{reason} {count['documents']:,}" for reason, count in told["removed"].items())
        lost = told["read"]["documents"] - told["kept"]["documents"]
        said.append(f"data.quality removes {lost:,} of {told['read']['documents']:,} documents to train on: {each}")
    if "subset" in told:
        taken, kept = told["subset"], told["kept"]
        said.append(f"data.subset takes {taken['documents']:,} of {kept['documents']:,} documents, "
                    f"{taken['bytes']:,} of {kept['bytes']:,} bytes")
    return said
