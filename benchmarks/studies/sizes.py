"""How large a model is and what it costs, and which sizes lie around the best one of a law."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from twinscale.benchmarks.laws.fitting import Asked, fit_table
from twinscale.benchmarks.laws.forms import FORMS
from twinscale.benchmarks.laws.losses import named as loss_named
from twinscale.benchmarks.laws.optimum import optimum
from twinscale.benchmarks.laws.table import read_table
from twinscale.common.data.shapes import data_shape
from twinscale.common.errors import BadInput
from twinscale.common.families import family_of, reads_text
from twinscale.common.families.parameters import is_trained, parameters, trained_size
from twinscale.common.files.access import read_toml, shown
from twinscale.common.machine.flops import train_flops
from twinscale.common.recipe.schema import Recipe
from twinscale.common.section import Positive

TABLE = ".embedding"  # the leaf of a tensor that is looked up in: of tokens, positions and types


class Size(NamedTuple):
    """A model's size."""

    total: int  # N: trained values
    without_embeddings: int
    row: int  # tokens of an example; 1 of what is no text
    row_flops: float  # exact operations of an example's forward and backward pass, causal


class Law(BaseModel):
    """law.toml, as `twinscale fit` leaves it."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    e: float
    a: Positive
    b: Positive
    alpha: Positive
    beta: Positive


def size_of(recipe: Recipe) -> Size:
    """The size of a recipe's model. Raises BadInput where its family cannot say what it costs."""
    classes, shape = data_shape(recipe)
    tree = parameters(recipe.model, classes, shape)
    looked_up = sum(math.prod(one.shape) for name, one in tree.items() if is_trained(name) and name.endswith(TABLE))
    row = shape[0] if family_of(recipe.model).text and reads_text(recipe.model) else 1
    try:
        flops = float(train_flops(recipe.model, classes, shape))
    except (NotImplementedError, AttributeError):
        raise BadInput(f"model.family={recipe.model.family}: does not say what it costs, and a study is over "
                       "operations; take another family") from None
    return Size(trained_size(tree), trained_size(tree) - looked_up, row, flops)


def advice(path: str) -> np.ndarray:
    """(5,): a chinchilla law's parameters as people write them, of a law.toml, or of the fit of a table of results.
    Raises BadInput where the file is neither."""
    form = FORMS["chinchilla"]
    if path.endswith(".toml"):
        law = read_toml(path, Law, "as `twinscale fit --out` leaves it")
        return np.array([getattr(law, name.lower()) if name in ("E", "A", "B") else getattr(law, name)
                         for name in form.parameters])
    if not path.endswith((".csv", ".parquet")):
        raise BadInput(f"design.around = {shown(path)}: expected a law.toml, or results as .csv or .parquet")
    return fit_table(read_table(path, form, {}), Asked(form, loss_named("huber", 1e-3, 0.5), boots=0)).public


def best_sizes(law_P: np.ndarray, sizes: Sequence[float], flops: float, most: int) -> list[int]:
    """The places of the `most` sizes whose logarithms are nearest to the best size's for a budget, in their order."""
    best = float(optimum(FORMS["chinchilla"], law_P[None], flops)["N"][0])
    order = sorted(range(len(sizes)), key=lambda place: abs(math.log(sizes[place] / best)))
    return sorted(order[:most])
