"""`twinscale plan-serving`: the best size, bits and sparsity of a model for what its serving may take.

A candidate's loss is that of a law of size and data at the dense weights that its own are worth: by the user's own fits
of bits and of sparsity, or by published constants, which are said to be such. That bits and sparsity do not hurt each
other more than each alone is an assumption, and so is that all weights are trained as dense ones, at 6 N D.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from twinscale.benchmarks.laws import intervals, reach
from twinscale.benchmarks.laws.kept import Kept, read_fit
from twinscale.benchmarks.output import PRINTED, Delivery, check_files, deliver
from twinscale.benchmarks.planning import literature
from twinscale.benchmarks.planning.laws import Law
from twinscale.benchmarks.planning.result import SCHEMA_VERSION, Serving
from twinscale.common.errors import DID_IT, BadInput

FILE = "serving.json"
BITS, SPARSITY = (16.0, 8.0, 6.0, 4.0, 3.0), (0.0, 0.5, 0.75, 0.875)
FORMS = ("chinchilla", "precision", "sparsity")  # laws that a plan may rest on
MASK = 1.0  # bits a weight that say which are 0, where any is
SPAN, POINTS, ROUNDS = 40.0, 400, 4  # of log N below the largest that is sought, and how finely


class Wanted(NamedTuple):
    """What is to be served, and what there is to train it with: operations or tokens."""

    memory: float | None = None  # bytes of weights
    per_token: float | None = None  # operations of a served token
    flops: float | None = None  # of training, and of serving `served` tokens
    tokens: float | None = None
    served: float = 0.0
    teacher: tuple[float, float] | None = None  # its parameters, and tokens that it was trained on
    bits: tuple[float, ...] = ()
    sparsity: tuple[float, ...] = ()
    far: bool = False


class Worth(NamedTuple):
    """What bits and sparsity cost: the dense weights of 16 bits that a weight is worth."""

    bits: Callable[[float], Any]  # of all resamples, (B + 1,), the fit itself first; or one figure
    kept: Callable[[float], Any]  # of a weight that is not 0, by sparsity
    spans: dict[str, tuple[float, float]]  # that were trained
    notes: tuple[str, ...]  # whose


def plan_serving(law: str, asked: Mapping[str, Any], bits_law: str | None = None, sparsity_law: str | None = None,
                 to: Delivery = PRINTED) -> int:
    """Prints the candidates, the best first, and leaves them as FILE where a directory is named; returns the exit code
    0.

    Args:
      law: of size and data, as `laws.kept.read_fit` takes, of one of FORMS.
      asked: the fields of Wanted, `teacher` as text.
      bits_law, sparsity_law: fits of --law precision and sparsity that say what these cost, in place of `law` itself
        or of the literature.
      to: where FILE goes, and how the answer is printed.
    Raises BadInput where nothing is to be planned, or a law is another one.
    """
    from twinscale.benchmarks.planning.serving_words import sentence, show

    if to.out:
        check_files(to.out, [FILE], ("schema_version", "wanted", "rows"), to.overwrite)
    several = {name: tuple(asked.get(name, ())) for name in ("bits", "sparsity")}
    wanted = Wanted(**{**asked, **several, "teacher": teacher_of(asked.get("teacher"))})
    check(wanted)
    base = read_fit(law, "--law")
    if base.form.name not in FORMS:
        raise BadInput(f"--law {law}: is of {base.form.name}; one of {', '.join(FORMS)} is wanted")
    more = {"precision": bits_law, "sparsity": sparsity_law}
    others = {name: read_fit(path, f"--{'bits' if name == 'precision' else name}-law")
              for name, path in more.items() if path}
    for name, found in others.items():
        if found.form.name != name:
            raise BadInput(f"{more[name]}: is of {found.form.name}, but a fit of --law {name} is wanted")
    result = serving(base, others, wanted)
    deliver(result | {"sentence": sentence(result)}, FILE, Serving, show, to)
    return DID_IT


def teacher_of(text: str | None) -> tuple[float, float] | None:
    """(parameters, tokens) of "N:D". Raises BadInput for what is none."""
    if text is None:
        return None
    try:
        size, _, tokens = text.partition(":")
        return float(size), float(tokens)
    except ValueError:
        raise BadInput(f"--teacher {text}: its parameters and tokens are wanted, as 7e9:140e9") from None


def check(wanted: Wanted) -> None:
    """Raises BadInput where a figure is none, or what there is to serve or to train with is not said."""
    figures = {"--memory": wanted.memory, "--flops-per-token": wanted.per_token, "--flops": wanted.flops,
               "--tokens": wanted.tokens, "--serve": wanted.served or None}
    pairs = [*figures.items(), *(("--teacher", value) for value in wanted.teacher or ())]
    for option, value in pairs:
        if value is not None and not 0 < value <= 1e40:
            raise BadInput(f"{option} {value:g}: a number above 0 and at most 1e+40 is wanted")
    for option, values, most, what in (("--bits", wanted.bits, 64.0, "a number above 0 and at most 64"),
                                       ("--sparsity", wanted.sparsity, 0.999, "a share from 0 to 0.999")):
        for value in values:
            if not (0 <= value <= most and (value or option != "--bits")):
                raise BadInput(f"{option} {value:g}: {what} is wanted")
    if wanted.memory is None and wanted.per_token is None:
        raise BadInput("what may serving take? --memory BYTES, --flops-per-token F, or both")
    if (wanted.flops is None) == (wanted.tokens is None):
        raise BadInput("what is there to train with? either --flops, of the training, or --tokens")
    if wanted.served and wanted.flops is None:
        raise BadInput("--serve: its tokens are paid out of --flops: give that in place of --tokens")


# ---- what a candidate is worth

def worth(base: Kept, others: dict[str, Kept]) -> Worth:
    """What bits and sparsity cost by the fits that there are, `base` among them, or else by the literature."""
    spans, by, notes = {"bits": literature.BITS, "sparsity": literature.SPARSITY}, {base.form.name: base} | others, []
    for name, column, from_papers in (("precision", "bits", literature.BITS_FROM),
                                      ("sparsity", "sparsity", literature.SPARSITY_FROM)):
        notes.append(f"{column} by {by[name].origin if name in by else from_papers}")
        if name in by and column in by[name].spans:
            low, high = by[name].spans[column]
            spans[column] = (low, high)
    return Worth(of_bits(by["precision"]) if "precision" in by else literature.worth_of_bits,
                 of_kept(by["sparsity"]) if "sparsity" in by else literature.worth_of_kept, spans, tuple(notes))


def of_bits(law: Kept) -> Callable[[float], Any]:
    """What weights of so many bits are worth of those at 16, by a fit of bits, (B + 1,)."""
    gamma = np.exp(stacked(law)[:, law.form.parameters.index("log_gamma")])
    return lambda bits: np.expm1(-bits / gamma) / np.expm1(-16 / gamma)


def of_kept(law: Kept) -> Callable[[float], Any]:
    """The dense weights that a weight is worth that is not 0, by a fit of sparsity, (B + 1,)."""
    b_S, b_N, _, a, c, *_ = stacked(law).T
    return lambda sparsity: ((a + c) / (a * (1 - sparsity)**b_S + c)) ** (1 / b_N)


def aligned(base: Kept, others: dict[str, Kept]) -> tuple[Kept, dict[str, Kept]]:
    """The same laws with as many resamples each, drawn one by one together; none where the law of size and data has
    none, whose interval the others' would be no part of."""
    counts = [len(law.boots) for law in (base, *others.values()) if law.boots is not None]
    most = min(counts) if base.boots is not None else 0

    def cut(law):
        return law._replace(boots=law.boots[:most] if most and law.boots is not None else None)

    return cut(base), {name: cut(law) for name, law in others.items()}


def stacked(law: Kept) -> np.ndarray:
    """(B + 1, P): a law's parameters, then those of its resamples."""
    return np.concatenate([law.public[None], *([law.boots] if law.boots is not None else [])])


def dense(base: Kept) -> Law:
    """The law of dense weights of 16 bits, its numbers (B + 1,) each."""
    values = dict(zip(base.form.parameters, stacked(base).T, strict=True))
    if base.form.name == "sparsity":
        return Law(values["E"], values["a"] + values["c"], values["A_D"], values["b_N"], values["b_D"])
    a = values["A"]
    if base.form.name == "precision":
        a = a * (-np.expm1(-16 / np.exp(values["log_gamma"]))) ** -values["alpha"]
    return Law(values["E"], a, values["B"], values["alpha"], values["beta"])


# ---- candidates

def serving(base: Kept, others: dict[str, Kept], wanted: Wanted) -> dict[str, Any]:
    """The plan as JSON has it: candidates by their loss, the best in a sentence, and what all rests on. Raises BadInput
    where the best lies too far beyond the rows of its law, or nothing can be trained."""
    base, others = aligned(base, others)
    costs, plain = worth(base, others), dense(base)
    inside = {name: tuple(value for value in all_ if costs.spans[name][0] <= value <= costs.spans[name][1])
              for name, all_ in (("bits", BITS), ("sparsity", SPARSITY))}
    rows, losses = [], []
    for bits, sparsity, taught in product(wanted.bits or inside["bits"] or BITS[:1],
                                          wanted.sparsity or inside["sparsity"] or SPARSITY[:1],
                                          (False, True) if wanted.teacher else (False,)):
        share = costs.bits(bits) * costs.kept(sparsity) * (1 - sparsity)
        found = candidate(plain, share, bits, sparsity, wanted._replace(teacher=wanted.teacher if taught else None))
        if found:
            rows.append(found[0])
            losses.append(found[1])
    if not rows:
        raise BadInput("--flops: holds no training of any size beside the tokens that are served: take more of it, or "
                       "less --serve")
    ranked(rows, losses, base)
    rows.sort(key=lambda row: row["loss"])
    best = rows[0]
    warnings = [*(f"of the fit: {words}" for words in base.warnings),
                *reach.doubts(base.spans, at(best, base), wanted.far),
                *reach.outside({name: [*span] for name, span in costs.spans.items()},
                               {"bits": best["bits"], "sparsity": best["sparsity"]})]
    return {"schema_version": SCHEMA_VERSION, "law": base.origin, "level": base.level,
            "resamples": len(losses[0]) - 1, "wanted": wanted._asdict(), "rows": rows,
            "rests_on": rests_on(base, costs, wanted), "warnings": list(dict.fromkeys(warnings))}


def candidate(plain: Law, share: Any, bits: float, sparsity: float, wanted: Wanted
              ) -> tuple[dict[str, Any], np.ndarray] | None:
    """(a row, its loss by the fit and by each resample (B + 1,)) at the best size for so many bits and zeros; None
    where the budget trains nothing. With a teacher the student learns from it.

    Args:
      share: of dense weights that each weight is worth, one figure or (B + 1,).
    """
    law, share = plain, np.broadcast_to(share, np.shape(plain.e))
    first = Law(*(value[0] for value in (law.e, law.a, law.b, law.alpha, law.beta)))
    weight, each = ((1 - sparsity) * bits + (MASK if sparsity else 0)) / 8, 2 * (1 - sparsity)
    limits = {"memory": wanted.memory and wanted.memory / weight,
              "FLOPs a token": wanted.per_token and wanted.per_token / each}
    limit, limited_by = min((value, name) for name, value in limits.items() if value)

    def tokens(size: Any) -> Any:
        if wanted.flops is None:
            return np.full_like(size, wanted.tokens)
        per_token = 6 * size + (2 * wanted.teacher[0] if wanted.teacher else 0.0)
        return (wanted.flops - each * wanted.served * size) / per_token

    def loss(size: Any, by: Law = first, worth_of: Any = share[0]) -> Any:
        left = tokens(size)
        known = np.maximum(left, 1.0)
        total = by.loss(size * worth_of, known)
        if wanted.teacher:
            total = total + gain(size * share[0], known, wanted.teacher)
        return np.where(left >= 1, total, np.inf)

    size = least(loss, np.log(limit))
    if not np.isfinite(loss(size)):
        return None
    row = {"bits": bits, "sparsity": sparsity, "distilled": wanted.teacher is not None, "parameters": float(size),
           "tokens": float(tokens(size)), "loss": float(loss(size)), "interval": None, "loss_of_a_run": None,
           "memory": float(size * weight), "flops_per_token": float(size * each), "worth": float(size * share[0]),
           "limited_by": limited_by if size > 0.999 * limit else "training", "best_of_resamples": None}
    return row, np.atleast_1d(loss(size, law, share))


def least(loss: Callable[[Any], Any], high: float) -> Any:
    """The size, at most exp(`high`), of the least loss: a grid over log N, and finer ones around its lowest point."""
    low = high - SPAN
    for _ in range(ROUNDS):
        grid = np.linspace(low, high, POINTS)
        i = int(np.argmin(loss(np.exp(grid))))
        low, high = grid[max(i - 1, 0)], grid[min(i + 1, POINTS - 1)]
    return np.exp(grid[i])


def gain(size: Any, tokens: Any, teacher: tuple[float, float]) -> Any:
    """Nats a token that a teacher adds or saves, by Busbridge et al. 2025: its student's loss less that of the same
    model alone."""
    own = float(literature.supervised(np.asarray(teacher[0]), np.asarray(teacher[1])))
    return literature.distilled(size, tokens, own) - literature.supervised(size, tokens)


def ranked(rows: list[dict[str, Any]], losses: Sequence[np.ndarray], base: Kept) -> None:
    """Fills in each row's intervals, and the share of resamples by which it is the best."""
    spread = np.stack(losses)[:, 1:]
    if not spread.size:
        return
    best = np.bincount(np.nan_to_num(spread, nan=np.inf).argmin(0), minlength=len(rows)) / spread.shape[1]
    for row, values, share in zip(rows, spread, best, strict=True):
        row["interval"] = intervals.interval(values, base.level)
        row["best_of_resamples"] = float(share)
        if len(base.residuals):
            row["loss_of_a_run"] = intervals.prediction(values, base.residuals, 42, base.level)


def at(row: dict[str, Any], base: Kept) -> dict[str, float]:
    """Where a candidate lies on the axes of its law, whose N is of the weights that are not 0."""
    size = row["parameters"] * (1 - row["sparsity"] if base.form.name == "sparsity" else 1)
    return {"N": size, "D": row["tokens"], "C": 6 * size * row["tokens"]}


def rests_on(base: Kept, costs: Worth, wanted: Wanted) -> list[str]:
    """Whose figures a plan rests on, and what it assumes."""
    taught = (f"distillation by {literature.DISTILLED_FROM}: what a teacher of {wanted.teacher[0]:.3g} parameters and "
              f"{wanted.teacher[1]:.3g} tokens changes there is added here" if wanted.teacher else
              "distillation is not planned: --teacher N:D names a teacher that there is")
    return [f"size and data by {base.origin}", *costs.notes, taught,
            "bits and sparsity cost together what each costs alone, which is assumed",
            "training costs 6 N D of all weights; a served token 2 of each that is not 0; memory is that of weights, "
            "with one bit each for where zeros are"]
