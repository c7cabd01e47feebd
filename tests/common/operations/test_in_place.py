"""What places are read on, and what is no difference of theirs."""

from types import SimpleNamespace

import numpy as np

from twinscale.common.families.places import Place
from twinscale.common.objectives import CROSS_ENTROPY, PROBE, SQUARED_ERROR
from twinscale.common.operations.in_place import (
    LOWEST,
    POSITIONS,
    ROWS,
    blockwise,
    cancelling,
    few,
    is_taught,
    loss_bounds,
    summed,
    unmasked,
)
from twinscale.common.operations.rounding import Bound


def test_few_rows_are_the_first_and_as_many_as_their_positions_allow():
    batch = {"row": np.arange(9), "inputs": np.arange(18).reshape(9, 2)}
    assert [len(few(batch, shape)["row"]) for shape in ((1,), (POSITIONS // 2, 1), (4 * POSITIONS,))] == [ROWS, 2, 1]
    assert few(batch, (1,))["inputs"].tolist() == batch["inputs"][:ROWS].tolist()


def test_a_place_is_taught_by_numbers_of_its_own_shape_alone():
    teacher = {"forward/head": np.ones((4, 10))}
    assert is_taught(teacher, "head", np.ones((4, 10)))
    assert is_taught(teacher, "head", SimpleNamespace(shape=(None, 10)))  # rows that are not counted before they run
    assert not any(is_taught(teacher, "head", np.ones(shape)) for shape in ((4, 9), (4,), (4, 10, 1)))
    assert not is_taught(teacher, "layer_0", np.ones((4, 10))) and not is_taught(None, "head", np.ones((4, 10)))


def test_a_masked_score_is_no_difference_unless_one_alone_is_masked():
    found, wanted = unmasked([1.0, 2 * LOWEST, -np.inf, 2 * LOWEST], [1.5, -np.inf, 2 * LOWEST, 0.0])
    assert found[:3].tolist() == [1.0, 0.0, 0.0] and wanted.tolist() == [1.5, 0.0, 0.0, 0.0]
    assert np.isnan(found[3])


def test_sums_of_rounded_blocks_widen_the_narrow_part_of_a_bound_alone():
    narrow, wide = Bound(2, 1.0, least=1.0), Bound(2, 0.0, least=1.0)
    assert blockwise(wide, 100) == wide and blockwise(narrow).narrow == 1.5
    assert blockwise(narrow, 400).narrow > blockwise(narrow, 100).narrow > 1 and blockwise(narrow, 100).wide == 2


def test_hits_are_counted_of_classes_alone():
    given = {"forward/head": np.full((4, 3), 2.0)}
    assert loss_bounds(given, 3, CROSS_ENTROPY).keys() == {"loss/weight", "loss/correct", "loss/loss"}
    of_probe, of_squares = (loss_bounds(given, 3, objective) for objective in (PROBE, SQUARED_ERROR))
    assert of_probe.keys() == of_squares.keys() == {"loss/weight", "loss/loss"}
    assert of_probe["loss/loss"].least > of_squares["loss/loss"].least  # which adds all outputs up


def test_the_last_rounding_is_of_the_sum_and_all_others_of_its_terms():
    wanted = np.array([-0.5, 0.25])
    assert cancelling(Bound(2, 1.0), 4.0, wanted).least == 0.5 * 0.5 + 0.5 * 4
    assert np.isclose(cancelling(Bound(2, 1.5), 4.0, wanted).least, 0.5 / 3 + 4 * 2 / 3, rtol=1e-15)
    assert cancelling(Bound(2, 0.5), 4.0, wanted).least == 0.5
    for exact in (Bound(2, 0.0), Bound(2, 1.0)):
        assert cancelling(exact, 0.0, wanted) == exact


def test_a_batch_norm_adds_up_terms_of_the_size_of_what_arrives_by_its_gain():
    """Of four values a channel, whose cotangent is nearly all of mean and output: next to nothing is left of it."""
    x = np.array([[1.0, -2], [2, 5], [4, 0], [7, 1]]).reshape(4, 1, 1, 2)
    gamma, epsilon = np.array([3.0, 0.5]), 1e-3
    gain = gamma / np.sqrt(x.var((0, 1, 2)) + epsilon)
    out = gain * (x - x.mean((0, 1, 2))) + 1
    arriving = 2 + out
    place = Place("norm", ("conv",), "norm")
    given = {"forward/conv": x, "forward/norm": out, "backward/norm": arriving}
    size = summed("conv", "norm", place, {"norm.mean": None}, given)
    assert np.isclose(size, (gain * np.abs(arriving).max((0, 1, 2))).max(), rtol=1e-12)
    hat = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
    left = gain * (arriving - arriving.mean((0, 1, 2)) - hat * (arriving * hat).mean((0, 1, 2)))
    assert np.abs(left).max() < 0.01 * size
    assert summed("conv", "norm", place, {"norm.scale": None}, given) == 0
