"""Generic weights and stress batches: what a first step hides is there, and nothing that cannot be."""

import numpy as np
import pytest

from twinscale.common.operations.inputs import rounded
from twinscale.common.operations.points import generic_tensors, stress_arrays, stress_batch
from twinscale.common.operations.references import FORMATS


def state(dtype):
    rng = np.random.default_rng(1)
    ties = (1 + 2.0**-8 + 2.0**-30) * np.ones(64)
    return {"weights/norm.scale": np.ones(64, dtype), "weights/norm.bias": np.zeros(64, dtype),
            "weights/norm.var": np.ones(64, dtype), "weights/head.kernel": rng.standard_normal((64, 8)).astype(dtype),
            "weights/tie.kernel": ties.astype(dtype),
            "m/head.kernel": np.zeros((64, 8), dtype), "ema/head.kernel": np.ones((64, 8), dtype)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_weight_is_moved_and_has_values_of_bfloat16(dtype):
    before = state(dtype)
    after = generic_tensors(before, 3)
    for name in (n for n in before if n.startswith("weights/")):
        assert after[name].dtype == dtype and (after[name] != before[name]).mean() > 0.9, name
        assert (rounded(after[name], FORMATS["bfloat16"]) == after[name]).all(), name
    assert (after["weights/norm.var"] > 0).all()
    assert after["m/head.kernel"] is before["m/head.kernel"]
    assert (after["ema/head.kernel"] == after["weights/head.kernel"]).all()


def test_all_precisions_have_the_same_weights_and_a_twin_nearly_the_same():
    drawn = [generic_tensors(state(dtype), 3) for dtype in (np.float32, np.float64)]
    assert all((drawn[0][name] == drawn[1][name]).all() for name in drawn[0])
    narrow, wide = (tensors["weights/head.kernel"] for tensors in drawn)
    assert (narrow == wide).all()  # or a product differs by all of a bfloat16's last place
    twin = generic_tensors(state(np.float64), 3, dither=2.0**-53)["weights/head.kernel"]
    assert 0 < np.abs(twin - wide).max() <= 2.0**-52 * np.abs(wide).max()


def text(segments=True, rows=8, length=33):
    batch = {"inputs": np.zeros((rows, length), np.int32), "labels": np.zeros((rows, length), np.int32),
             "weights": np.ones((rows, length), np.float32), "row": np.arange(rows, dtype=np.uint32),
             "positions": np.tile(np.arange(length, dtype=np.int32), (rows, 1))}
    return batch | ({"segments": np.zeros((rows, length), np.int32)} if segments else {})


def test_a_stress_batch_of_text_has_what_real_ones_seldom_hold():
    batch, classes = text(), 50
    found = stress_batch(batch, classes, 0)
    assert {n: (x.dtype, x.shape) for n, x in found.items()} == {n: (x.dtype, x.shape) for n, x in batch.items()}
    assert found["inputs"].min() == 0 and found["inputs"].max() == classes - 1
    assert any(len(set(row)) == 1 for row in found["inputs"]) and any(not row.any() for row in found["weights"])
    lengths = [np.bincount(row) for row in found["segments"]]
    assert min(x[x > 0].min() for x in lengths) == 1 and max(x.max() for x in lengths) == 33
    assert (np.diff(found["segments"]) >= 0).all()
    ends = found["segments"][:, 1:] != found["segments"][:, :-1]
    assert not found["weights"][:, :-1][ends].any()  # no document learns to begin the next
    assert (found["labels"][:, :-1] == found["inputs"][:, 1:]).all()


def test_micro_batches_of_a_stress_batch_weigh_unlike_and_none_nothing():
    for batch in (text(), text(segments=False)):
        parts = stress_batch(batch, 50, 0, parts=2)["weights"].reshape(2, -1).sum(1)
        assert parts[0] == 1 and parts[1] > 20


def test_a_stress_batch_of_pictures_is_constant_and_saturated_and_partly_ignored():
    rng = np.random.default_rng(0)
    batch = {"inputs": rng.uniform(0, 1, (8, 5, 5, 1)).astype(np.float32), "labels": np.zeros(8, np.int32),
             "weights": np.ones(8, np.float32), "row": np.arange(8, dtype=np.uint32)}
    found = stress_batch(batch, 10, 0)
    assert any(np.ptp(x) == 0 for x in found["inputs"])
    assert any(set(np.unique(x)) == {batch["inputs"].min(), batch["inputs"].max()} for x in found["inputs"])
    assert {0, 9} <= set(found["labels"]) and 0 < found["weights"].sum() < 8


def test_a_twin_in_bfloat16_has_other_values_of_bfloat16():
    own, twin = (generic_tensors(state(np.float32), 3, dither)["weights/head.kernel"] for dither in (0.0, 2.0**-9))
    assert 0.1 < (own != twin).mean() < 0.9 and (rounded(twin, FORMATS["bfloat16"]) == twin).all()
    assert np.abs(twin / own - 1).max() <= 2.0**-7


def test_a_stress_batch_of_arrays_has_floats_at_their_ends_and_leaves_ids_masks_and_labels():
    drawn = np.random.default_rng(2)
    batch = {"x": drawn.standard_normal((8, 5)).astype(np.float32), "ids": np.arange(8, dtype=np.int32),
             "mask": (np.arange(8) % 3 > 0).astype(np.float32), "labels": np.arange(8, dtype=np.float32),
             "weights": np.ones(8, np.float32), "row": np.arange(8, dtype=np.uint32)}
    found = stress_batch(batch, 0, 0, fill=stress_arrays)
    assert {n: (x.dtype, x.shape) for n, x in found.items()} == {n: (x.dtype, x.shape) for n, x in batch.items()}
    assert all(np.array_equal(found[name], batch[name]) for name in ("ids", "mask", "labels", "row"))
    assert len(np.unique(found["x"][0])) == 1 and len(np.unique(found["x"][1])) == 2
    assert np.array_equal(found["x"][3], batch["x"][3]) and found["weights"].tolist() == [1, 1, 0, 1] * 2
    single = {name: x[2:3] for name, x in batch.items()} | {"weights": np.ones(1, np.float32)}
    assert stress_batch(single, 0, 0, fill=stress_arrays)["weights"].all()
