"""Tables of runs whose law is planted."""

import numpy as np

from twinscale.benchmarks.laws.curves import predicted
from twinscale.benchmarks.laws.forms import FORMS

# Parameters as they are written, in the order of each form.
PLANTED = {"chinchilla": [0.34, 0.30, 400.0, 500.0, 1.8], "over-training": [0.19, 1200.0, 4100.0, 1.85],
           "repetition": [0.34, 0.30, np.log(12.0), 400.0, 500.0, 1.8],
           "precision": [0.34, 0.30, np.log(2.5), 400.0, 500.0, 1.8],
           "sparsity": [0.8, 0.34, 0.30, 150.0, 250.0, 500.0, 1.8], "learning-rate": [-0.7, 0.3, 1.8],
           "batch-size": [0.57, 0.6], "accuracy": [3.0, 900.0, 1.0]}


def planted(name, sizes=6, noise=0.0, seed=0):
    """(columns, y) of runs over sizes x tokens x what else the form reads."""
    n, d = (x.ravel() for x in np.meshgrid(np.geomspace(1e7, 3e9, sizes), np.geomspace(3e8, 1e11, sizes)))
    more = {"repetition": [1.0, 4.0, 16.0, 64.0], "sparsity": [0.0, 0.5, 0.75, 0.875],
            "precision": [3.0, 4.0, 6.0, 16.0]}.get(name, [1.0])
    n, d, other = np.repeat(n, len(more)), np.repeat(d, len(more)), np.tile(more, len(n))
    columns = {"N": n, "D": d, "C": 6 * n * d, "unique_D": d / np.maximum(other, 1), "bits": other,
               "sparsity": np.minimum(other, 0.9) if name == "sparsity" else np.zeros(len(n)),
               "loss": np.linspace(1.6, 3.5, len(n)), "chance": np.full(len(n), 0.25)}
    total = predicted(FORMS[name], np.array([PLANTED[name]]), columns)[0]
    total *= np.exp(noise * np.random.default_rng(seed).standard_normal(len(n)))
    return columns, 1 - (1 - columns["chance"]) / total if name == "accuracy" else total
