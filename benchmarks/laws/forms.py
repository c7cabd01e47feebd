"""Laws of loss as data: a sum of terms, each exp(coefficient + what a few exponents make of the columns of a table).

A form says its terms and their derivatives by the exponents; coefficients are one a term. `benchmarks.laws.solve` fits
any of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Columns = Mapping[str, np.ndarray]  # {name: (rows,) of float64, or (B, rows) where each of B laws has its own}


@dataclass(frozen=True)
class Form:
    """A law y = sum over terms of exp(c_k + s_k(exponents, columns)), fitted to log y."""

    name: str
    title: str
    equation: str
    source: str  # paper and equation
    columns: tuple[str, ...]  # of a table, all above 0 if not said otherwise
    exponents: Mapping[str, tuple[float, float]]  # {name: (lowest, highest) that seeds are sought between}
    coefficients: tuple[str, ...]  # a name a term; what people write is exp(c_k)
    # (exponents (B, Q), columns) -> s (B, rows, K) and its derivatives (B, or 1 of shared columns; rows, K, Q)
    terms: Callable[[np.ndarray, Columns], tuple[np.ndarray, np.ndarray]]
    y: str = "loss"
    linear: bool = True  # whether s is linear in the exponents
    ones: int = 0  # how many coefficients, the last ones, are 1 and not fitted
    # (y, columns) -> log of the sum of terms that y is by the law
    target: Callable[[np.ndarray, Columns], np.ndarray] = lambda y, _: np.log(y)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of all that a law has: the exponents, then the coefficients."""
        return (*self.exponents, *self.coefficients)

    @property
    def held(self) -> tuple[int, ...]:
        """The indices of what is not fitted."""
        return tuple(range(len(self.parameters) - self.ones, len(self.parameters)))


def _linear(slopes):
    """Terms whose logarithm is linear in the exponents, with slopes (rows, K, Q), or (B, rows, K, Q)."""
    def terms(exponents_BxQ, columns):
        found = slopes(columns)
        if found.ndim == 4:
            return np.einsum("bnkq,bq->bnk", found, exponents_BxQ), found
        return np.einsum("nkq,bq->bnk", found, exponents_BxQ), found[None]

    return terms


def _placed(terms: int, entries: Mapping[tuple[int, int], np.ndarray]) -> np.ndarray:
    """(rows, terms, exponents), or (B, rows, terms, exponents), with a column at each (term, exponent) of `entries`,
    else 0."""
    shape = next(iter(entries.values())).shape
    slopes = np.zeros((*shape, terms, 1 + max(exponent for _, exponent in entries)))
    for (term, exponent), column in entries.items():
        slopes[..., term, exponent] = column
    return slopes


def _chinchilla(columns):
    n, d = np.log(columns["N"]), np.log(columns["D"])
    return _placed(3, {(0, 0): -n, (1, 1): -d})


def _overtrained(columns):
    m, c = np.log(columns["D"] / columns["N"]), np.log(columns["C"])
    return _placed(3, {(0, 0): m - c, (1, 0): -m - c})


def _sparse(columns):
    kept, n, d = np.log1p(-columns["sparsity"]), np.log(columns["N"]), np.log(columns["D"])
    return _placed(4, {(0, 0): kept, (0, 1): -n, (1, 1): -n, (2, 2): -d})


def _power(of):
    return lambda columns: _placed(1, {(0, i): np.log(columns[name]) for i, name in enumerate(of)})


def _repeated(exponents_BxQ, columns):
    """D' = U + U R* (1 - exp(-(D/U - 1) / R*)) in place of D, with the logarithm of R* fitted."""
    alpha, beta, star = np.split(exponents_BxQ, 3, axis=1)
    n, unique = np.log(columns["N"]), columns["unique_D"]
    again = np.maximum(columns["D"] / unique - 1, 0.0)
    limit = np.exp(star)
    fallen = np.exp(-again / limit)
    worth = 1 + limit * (1 - fallen)  # D' / U
    d = np.log(unique) + np.log(worth)
    # dD'/dR* / U = 1 - fallen - (again / R*) fallen; times R* by its logarithm
    by_star = (limit * (1 - fallen) - again * fallen) / worth
    s = np.stack([-alpha * n, -beta * d, np.zeros_like(d)], axis=-1)
    slopes = np.zeros((*s.shape, 3))
    slopes[:, :, 0, 0], slopes[:, :, 1, 1], slopes[:, :, 1, 2] = -n, -d, -beta * by_star
    return s, slopes


def _precise(exponents_BxQ, columns):
    """N' = N (1 - exp(-bits / gamma)) in place of N, with the logarithm of gamma fitted."""
    alpha, beta, gamma = np.split(exponents_BxQ, 3, axis=1)
    ratio = columns["bits"] / np.exp(gamma)
    n = np.log(columns["N"]) + np.log(-np.expm1(-ratio))
    d = np.log(columns["D"])
    by_gamma = -ratio / np.expm1(ratio)  # of log N' by log gamma
    s = np.stack([-alpha * n, -beta * np.broadcast_to(d, n.shape), np.zeros_like(n)], axis=-1)
    slopes = np.zeros((*s.shape, 3))
    slopes[:, :, 0, 0], slopes[:, :, 0, 2], slopes[:, :, 1, 1] = -n, -alpha * by_gamma, -d
    return s, slopes


def _missed(columns):
    """1 / (share of what chance leaves that is missed) = 1 + exp(c) exp(-k L)."""
    loss = columns["loss"]
    return _placed(2, {(0, 0): -loss})


def _inverse_miss(accuracy, columns):
    return np.log1p(-columns["chance"]) - np.log1p(-accuracy)


EXPONENT = (0.05, 1.2)  # of sizes and tokens, wider than any published fit's

FORMS = {form.name: form for form in (
    Form("chinchilla", "Loss by size and data", "L = E + A / N^alpha + B / D^beta",
         "Hoffmann et al. 2022, equation 2", ("N", "D"), {"alpha": EXPONENT, "beta": EXPONENT}, ("A", "B", "E"),
         _linear(_chinchilla)),
    Form("over-training", "Loss by compute and tokens a parameter", "L = E + (a M^eta + b M^-eta) / C^eta, M = D / N",
         "Gadre et al. 2024, equation 4", ("N", "D", "C"), {"eta": (0.02, 0.6)}, ("a", "b", "E"),
         _linear(_overtrained)),
    Form("repetition", "Loss by size and repeated data",
         "L = E + A / N^alpha + B / D'^beta, D' = U + U R (1 - exp(-(D/U - 1) / R))",
         "Muennighoff et al. 2023, equation 5, for the data alone", ("N", "D", "unique_D"),
         {"alpha": EXPONENT, "beta": EXPONENT, "log_R": (-1.0, 5.0)}, ("A", "B", "E"), _repeated, linear=False),
    Form("precision", "Loss by size, data and bits of a weight",
         "L = E + A / N'^alpha + B / D^beta, N' = N (1 - exp(-bits / gamma))",
         "Kumar et al. 2024, equation 3, for one precision", ("N", "D", "bits"),
         {"alpha": EXPONENT, "beta": EXPONENT, "log_gamma": (-1.5, 2.5)}, ("A", "B", "E"), _precise, linear=False),
    Form("sparsity", "Loss by size, data and sparsity",
         "L = (a (1 - S)^b_S + c) / N^b_N + A_D / D^b_D + E", "Frantar et al. 2023, equation 1",
         ("N", "D", "sparsity"), {"b_S": (0.1, 3.0), "b_N": EXPONENT, "b_D": EXPONENT}, ("a", "c", "A_D", "E"),
         _linear(_sparse)),
    Form("learning-rate", "The best learning rate by size and data", "rate = c N^a D^b", "Li et al. 2025 (Step Law)",
         ("N", "D"), {"a": (-1.5, 1.5), "b": (-1.5, 1.5)}, ("c",), _linear(_power(("N", "D"))), "learning_rate"),
    Form("batch-size", "The best batch by data", "batch = c D^a", "Li et al. 2025 (Step Law)", ("D",),
         {"a": (-1.5, 1.5)}, ("c",), _linear(_power(("D",))), "global_batch"),
    Form("accuracy", "Accuracy by loss", "accuracy = 1 - (1 - chance) / (1 + c exp(-k loss)), a sigmoid of the loss",
         "Grattafiori et al. 2024 (Llama 3), section 3.2.1", ("loss", "chance"), {"k": (0.2, 20.0)}, ("c", "one"),
         _linear(_missed), "accuracy", ones=1, target=_inverse_miss),
)}
