"""A law over the rows of a table as the solver wants it: centred, over many parameter vectors at once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import NamedTuple

import numpy as np

from twinscale.benchmarks.laws.forms import Columns, Form


class Bent(NamedTuple):
    """Predictions with their derivatives, of B parameter vectors."""

    values: np.ndarray  # (B, rows): log of the predicted
    slopes: np.ndarray  # (B, rows, P)
    bend: Callable[[np.ndarray], np.ndarray]  # (B, rows) of weights -> (B, P, P): sum of weight x second derivative
    shares: np.ndarray  # (B, rows, K): each term's share of a prediction


@dataclass(frozen=True)
class Curve:
    """A form over a table. Parameters are (exponents, coefficients at the table's middle): a coefficient c is kept as
    c + mean of its term's s over the rows, which frees it of its exponent (the columns are far from 1, so c alone moves
    with every change of an exponent)."""

    form: Form
    columns: Columns

    def values(self, theta_BxP: np.ndarray) -> np.ndarray:
        """(B, rows): log of what is predicted."""
        return _summed(self._logs(theta_BxP)[0])[0]

    def bent(self, theta_BxP: np.ndarray) -> Bent:
        """`values` and their derivatives. Second derivatives of terms themselves are left out, which are 0 where a
        term's logarithm is linear in the exponents."""
        z, table = self._logs(theta_BxP)
        values, shares = _summed(z)
        B, n, K = z.shape
        P = table.shape[-1]
        first = (shares[:, :, None, :] @ table)[:, :, 0, :]

        def bend(weights_Bxn):
            spread = weights_Bxn[..., None] * shares
            if self.form.linear:
                outer = (spread.reshape(B, n * K) @ self._squares).reshape(B, P, P)
            else:
                flat = table.reshape(B, n * K, P)
                outer = np.swapaxes(flat, 1, 2) @ (flat * spread.reshape(B, n * K, 1))
            return outer - np.swapaxes(first, 1, 2) @ (first * weights_Bxn[..., None])

        return Bent(values, first, bend, shares)

    def public(self, theta_BxP: np.ndarray) -> np.ndarray:
        """(B, P): exponents, and coefficients as people write them, exp(c)."""
        Q = len(self.form.exponents)
        s, _ = self.form.terms(theta_BxP[:, :Q], self.columns)
        return np.concatenate([theta_BxP[:, :Q], np.exp(theta_BxP[:, Q:] - s.mean(1))], axis=1)

    def _logs(self, theta_BxP):
        """(z (B, rows, K), its derivatives (B or 1, rows, K, P)), centred over the rows."""
        if self.form.linear:
            _, n, K, P = self._table.shape
            return (theta_BxP @ self._table.reshape(n * K, P).T).reshape(-1, n, K), self._table
        Q = len(self.form.exponents)
        s, slopes = self.form.terms(theta_BxP[:, :Q], self.columns)
        return theta_BxP[:, None, Q:] + s - s.mean(1, keepdims=True), _of_all(slopes)

    @cached_property
    def _table(self):
        """The derivatives of a linear form's terms by all parameters, (1, rows, K, P)."""
        return _of_all(self.form.terms(np.zeros((1, len(self.form.exponents))), self.columns)[1])

    @cached_property
    def _squares(self):
        """Their products, (rows K, P P)."""
        _, n, K, P = self._table.shape
        return (self._table[0, :, :, :, None] * self._table[0, :, :, None, :]).reshape(n * K, P * P)


def _of_all(slopes):
    """The derivatives of centred terms by exponents, and of each by its own coefficient, which is 1."""
    K = slopes.shape[2]
    own = np.broadcast_to(np.eye(K), (*slopes.shape[:-1], K))
    return np.concatenate([slopes - slopes.mean(1, keepdims=True), own], axis=-1)


def _summed(z):
    """(log of the sum of exp over the last axis, each one's share of it). Term by term: NumPy is slow along an axis of
    three."""
    terms = range(z.shape[-1])
    highest = reduce(np.maximum, (z[..., k] for k in terms))
    parts = np.exp(z - highest[..., None])
    total = reduce(np.add, (parts[..., k] for k in terms))
    return highest + np.log(total), parts / total[..., None]


def predicted(form: Form, public_BxP: np.ndarray, columns: Columns) -> np.ndarray:
    """(B, rows): what laws of written parameters predict for rows of a table, or each for its own."""
    Q = len(form.exponents)
    s, _ = form.terms(public_BxP[:, :Q], columns)
    return (public_BxP[:, None, Q:] * np.exp(s)).sum(-1)
