"""P3 of the user's own pair of optimizers: what is compared of what they keep, and what of an update differs, measured.

Nothing is written of what such a pair computes. Both are given the same gradients, and what they leave is compared. Of
slots, those are compared whose names and shapes both have.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.rungs.cause import cause
from twinscale.benchmarks.rungs.ladder import BACKENDS, SIDES, bare, both, check, rung
from twinscale.benchmarks.verdict import Check, Rung
from twinscale.common.files.tensors import difference
from twinscale.common.numbers.formats import EPS, MASTERS
from twinscale.common.operations.synthetic import synthetic_gradients
from twinscale.common.optimizers import OWN, described

GROUP = re.compile(r"(\d+/|\w+ )?(?P<group>[^/ ]+)/")  # of "1/m/NAME" and of "float32 m/NAME"
UPDATE = 1  # that a cause is looked for in, counted from 0: the first whose weights before it are known
LARGE = 0.1  # of the largest root of v: among such elements an epsilon is small beside it
LEFT = 1e-3  # of two updates' difference: what a fit of them may leave


def own_rung(states: Mapping[Any, Any], optimizer: Any) -> Rung:
    """P3, `states` as `ladder.optimizer_rung` has them. In a lower precision than float64 no bound is less than 4 times
    what it costs the better backend at that tensor, beside its own float64: which constants round is not known."""
    checks, left, wide = [], {side: set() for side in SIDES}, states.get("float64")
    for precision, sides in states.items():
        kept, odd = compared(sides, optimizer)
        for side, slots in odd.items():
            left[side] |= slots
        for name in both(kept):
            head, _, tensor = name.partition("/")
            updates = 1 if head == "clipped" else int(head) + 1
            least = 8 * updates * EPS[MASTERS[precision]]
            cost = 4 * min(difference(kept[side].get(name), wide[side].get(name)) for side in SIDES) if (
                wide and precision != "float64") else 0.0
            source = (f"8 eps of {MASTERS[precision]} for each of {updates} updates" if least >= cost else
                      f"4 x what {precision} costs the better backend there")
            one, other = (kept[side].get(name) for side in SIDES)
            checks.append(check(precision, difference(one, other), max(least, cost),
                                name if head == "clipped" else f"{tensor} after update {updates}", source))
    return rung("P3", "optimizer", "one update of your own optimizers: equal weights after identical gradients, and "
                f"equal slots where both have them{said(left)}", checks)


def compared(sides: Mapping[str, Mapping[str, Any]], optimizer: Any) -> tuple[dict[str, dict[str, Any]],
                                                                                dict[str, set[str]]]:
    """({side: {name: what it has}}, {side: slots}) without and of what one side alone keeps, or in another shape."""
    slots = described(optimizer).slots(optimizer)
    kept: dict[str, dict[str, Any]] = {side: {} for side in sides}
    left: dict[str, set[str]] = {side: set() for side in sides}
    for side, tensors in sides.items():
        for name, x in tensors.items():
            found = GROUP.match(name)
            group = found["group"] if found else ""
            others = [held.get(name) for held in sides.values()]
            alike = all(y is not None and np.shape(y) == np.shape(x) for y in others)
            if alike or not (group in slots or group.startswith(OWN)):
                kept[side][name] = x
            else:
                left[side].add(group)
    return kept, left


def said(left: Mapping[str, set[str]]) -> str:
    """What is not compared, in words; numbers of no weight's own, such as a learning rate, are not slots."""
    slots = {side: sorted(re.sub(rf"^({'|'.join(map(re.escape, OWN))})", "", group) for group in groups
                          if not group.endswith(".rest")) for side, groups in left.items()}
    each = [f"{BACKENDS[side]}'{'' if BACKENDS[side].endswith('s') else 's'} {', '.join(names)}"
            for side, names in slots.items() if names]
    return f"; not compared, for the other side has none of the kind: {' and '.join(each)}" if each else ""


# ---- what differs

def own_cause(failed: Sequence[Check], sides: Mapping[str, Mapping[str, np.ndarray]], optimizer: Any
              ) -> dict[str, Any] | None:
    """What of an update differs between two optimizers, by a fit of both updates of the tensor that is furthest off, or
    None where neither is of the kinds that are known: a stride along m / sqrt(v), less of it by an epsilon, and a
    decay; or shares of the last two gradients, and a decay.

    Args:
      failed: checks of P3. sides: {backend: {"UPDATE/GROUP/NAME": array}} of float64.
    """
    weights = [c for c in failed if c["where"].startswith("weights/") and c["what"] == "float64"]
    if not weights:
        return None
    worst = max(weights, key=lambda c: c["worst"])
    name = bare(worst["where"].split(" ")[0])
    try:
        moved = {side: sides[side][f"{UPDATE}/weights/{name}"] - sides[side][f"{UPDATE - 1}/weights/{name}"]
                 for side in SIDES}
        terms = {side: terms_of(sides[side], name, optimizer) for side in SIDES}
    except KeyError:
        return None
    apart = np.linalg.norm(moved["keras"] - moved["jax"])
    fits = {side: fitted(moved[side], terms[side]) for side in SIDES}
    if terms["keras"].keys() != terms["jax"].keys() or not apart or any(
            left > max(LEFT * apart, 1e-9 * np.linalg.norm(moved[side])) for side, (_, left) in fits.items()):
        return None
    shares = {term: tuple(fits[side][0][term] for side in SIDES) for term in terms["keras"]}
    part = {term: abs(one - other) * np.linalg.norm(terms["jax"][term]) for term, (one, other) in shares.items()}
    found = max(part, key=part.__getitem__)
    operation, how = in_words(found, {side: fits[side][0] for side in SIDES}, sides, name, optimizer)
    told = cause(operation, name, "update", UPDATE, worst["worst"], worst["bound"], f"weights/{name}")
    return told | {"sentence": f"{told['sentence']}; {how}"}


def terms_of(side: Mapping[str, np.ndarray], name: str, optimizer: Any) -> dict[str, np.ndarray]:
    """{term: what an update may be a share of}, of the elements that are fitted; 0 elsewhere."""
    before = side[f"{UPDATE - 1}/weights/{name}"]
    if f"{UPDATE}/v/{name}" in side and f"{UPDATE}/m/{name}" in side:
        m, root = side[f"{UPDATE}/m/{name}"], np.sqrt(side[f"{UPDATE}/v/{name}"])
        large = root >= LARGE * root.max()
        safe = np.where(large, root, 1.0)
        return {"stride": np.where(large, m / safe, 0), "epsilon": np.where(large, m / safe**2, 0),
                "decay": np.where(large, before, 0)}
    tree = {name: type("Shape", (), {"shape": before.shape})}
    last, first = (synthetic_gradients(tree, update)[name] for update in (UPDATE, UPDATE - 1))
    along = abs(float(np.vdot(before, first))) >= (1 - 1e-9) * np.linalg.norm(before) * np.linalg.norm(first)
    return {"gradient": last, "before": first} | ({} if along else {"decay": before})  # as of a bias that began at 0


def fitted(moved: np.ndarray, terms: Mapping[str, np.ndarray]) -> tuple[dict[str, float], float]:
    """({term: its share}, what is left) of an update by least squares, of the elements where any term is."""
    there = np.any([x != 0 for x in terms.values()], axis=0)
    columns = np.stack([x[there] for x in terms.values()], -1)
    size = np.linalg.norm(columns, axis=0)
    size[size == 0] = 1.0
    found, *_ = np.linalg.lstsq(columns / size, moved[there], rcond=None)
    return (dict(zip(terms, (found / size).tolist(), strict=True)),
            float(np.linalg.norm(moved[there] - columns / size @ found)))


def in_words(term: str, fits: Mapping[str, Mapping[str, float]], sides: Mapping[str, Mapping[str, np.ndarray]],
             name: str, optimizer: Any) -> tuple[str, str]:
    """(class of operation, what differs) of the term whose shares of both updates are furthest apart."""
    shares = {side: fits[side][term] for side in SIDES}
    one, other = shares.values()
    if term == "decay":
        return "decay", (f"Keras' update takes {sig(-one)} of the weight away, optax' {sig(-other)}: give both the "
                         "same weight decay, decoupled or not, and the same tensors to it")
    if term == "stride":
        return "schedule", f"Keras' stride is {sig(one / other)} times as long as optax'"
    if term == "epsilon":
        keras, optax = (-fits[side]["epsilon"] / fits[side]["stride"] for side in SIDES)
        return "update", (f"Keras adds an epsilon of {sig(keras)} to sqrt(v), optax one of {sig(optax)}"
                          f"{corrected(optax, sides['jax'], name, optimizer)}")
    which = {"gradient": "the gradient", "before": "the gradient before it"}[term]
    return "update", (f"Keras' update takes {sig(-one)} of {which}, optax' {sig(-other)}"
                      + "; Keras' SGD keeps the rate inside of its momentum" * (term == "before"))


def corrected(epsilon: float, side: Mapping[str, np.ndarray], name: str, optimizer: Any) -> str:
    """What an epsilon beside sqrt(v) is where it is added after v's bias is corrected, by v's own first value."""
    tree = {name: type("Shape", (), {"shape": side[f"0/v/{name}"].shape})}
    g = side.get(f"clipped/{name}", synthetic_gradients(tree, 0)[name])
    beta = 1 - float(np.sum(side[f"0/v/{name}"]) / np.sum(np.square(g)))
    if not 0 < beta < 1:
        return ""
    return (f", which is {sig(epsilon / np.sqrt(1 - beta ** (UPDATE + 1)))} after v's bias is corrected: Keras' Adam "
            "adds its own before, optax' after")
