"""Rows of named arrays, wherever they come from."""

from pathlib import Path

import numpy as np
import pytest

from twinscale.common.data import example_shape_of, held_out_batches, input_specs, open_dataset, training_batches
from twinscale.common.data.arrays import arrays, row_size, unread, with_labels
from twinscale.common.data.shapes import batch_shapes
from twinscale.common.errors import BadInput
from twinscale.common.objectives import CROSS_ENTROPY, PROBE, SQUARED_ERROR
from twinscale.common.recipe.file import dumps, given
from twinscale.common.recipe.schema import Data, Recipe

INPUTS = {"ids": {"shape": [12], "below": 100}, "mask": {"shape": [12], "padding": True}, "image": {"shape": [4, 4, 3]}}


@pytest.fixture
def recipe(tmp_path):
    """recipe(source, objective=..., **data): of a pair whose programs nobody runs here."""
    (tmp_path / "mine.py").write_text("raise SystemExit\n")

    def make(source="random", objective=None, train=None, **data):
        values = {"name": "a", "data": {"source": source, "held_out": 0.2, **data}, "train": train or {},
                  "model": {"family": "pair", "reads": "arrays", "keras": f"{tmp_path}/mine.py:a",
                            "flax": f"{tmp_path}/mine.py:b", "match": str(tmp_path / "match.toml")}}
        return Recipe.model_validate(values | ({"objective": {"name": objective}} if objective else {}))

    return make


def saved(folder, **found):
    np.savez(folder / "rows.npz", **found)
    return f"arrays:{folder}/rows.npz"


def test_random_rows_are_of_their_specs_and_go_through_batches_as_all_data_do(recipe):
    asked = recipe(inputs=INPUTS, rows=100)
    dataset = open_dataset(asked)
    assert asked.objective.name == "probe" and dataset.classes == 0 and dataset.kind == "arrays"
    assert len(dataset.train) + len(dataset.held_out) == 100 and len(dataset.held_out) > 5
    (_, batch, digest), (_, other, second) = training_batches(dataset, asked, 0, 2)
    assert digest != second and {name: (x.shape, x.dtype.name) for name, x in batch.items()} == {
        "ids": ((8, 12), "int32"), "mask": ((8, 12), "int32"), "image": ((8, 4, 4, 3), "float32"),
        "labels": ((8,), "int32"), "weights": ((8,), "float32"), "row": ((8,), "uint32")}
    assert batch_shapes(asked, dataset.example_shape) == {name: (x.shape, x.dtype.name) for name, x in batch.items()}
    assert example_shape_of(asked, batch) == dataset.example_shape and row_size(dataset.example_shape) == 48
    assert input_specs(asked, dataset.example_shape) == {
        "ids": ((None, 12), "int32"), "image": ((None, 4, 4, 3), "float32"), "mask": ((None, 12), "int32")}
    every = dataset.train.take(np.arange(len(dataset.train)))
    assert every["ids"].min() >= 0 and every["ids"].max() < 100 and len(np.unique(every["ids"])) > 90
    kept = every["mask"].sum(1)
    assert kept.min() >= 1 and len(np.unique(kept)) > 5
    assert all((np.diff(row) <= 0).all() for row in every["mask"])  # ones, then padding
    last = list(held_out_batches(dataset, 8))[-1]
    assert last["weights"].sum() == (len(dataset.held_out) - 1) % 8 + 1


def test_a_seed_and_a_spec_are_of_the_data_and_of_the_recipe(recipe):
    one, other, more = (recipe(inputs=INPUTS, **said) for said in ({}, {"seed": 1}, {"rows": 60}))
    assert open_dataset(one).manifest == open_dataset(one).manifest
    assert len({open_dataset(x).manifest["sha256"] for x in (one, other, more)}) == 3
    assert len({x.meaning for x in (one, other, more)}) == 3


def test_random_data_of_a_recipe_is_written_and_read_again(recipe, tmp_path):
    asked = recipe(inputs=INPUTS, rows=50)
    (tmp_path / "again.toml").write_text(dumps(asked))
    assert given(tmp_path / "again.toml") == asked


@pytest.mark.parametrize(("inputs", "said"), [
    ({}, "data.inputs: .* draws what they say, and they say nothing"),
    ({"ids": {"shape": [3], "below": 2**31 + 1}}, "data.inputs.ids: int32 holds no ids up to 2147483648"),
    ({"ids": {"shape": [3], "below": 7, "dtype": "bool"}}, "data.inputs.ids: bool holds no ids up to 6"),
    ({"x": {"shape": [3], "dtype": "int32"}}, "data.inputs.x: normal numbers are floats, not int32"),
    ({"x": {"shape": [3], "below": 3, "padding": True}}, "data.inputs.x: ids have below, a mask has padding"),
    ({"labels": {"shape": [], "below": 3}}, "has no inputs, but labels"),
    ({"row": {"shape": [2]}}, "row: cannot be an array's name")])
def test_what_cannot_be_drawn_is_refused_by_name(recipe, inputs, said):
    with pytest.raises(BadInput, match=said):
        open_dataset(recipe(inputs=inputs))


@pytest.mark.parametrize(("inputs", "said"), [
    ({"a b": {"shape": [3]}}, "a b"), ({"x": {"shape": [0]}}, "greater than 0"), ({"x": {"shap": [2]}}, "shap"),
    ({"x": {"dtype": "complex"}}, "bool")])
def test_a_spec_that_is_none_is_refused_with_the_recipe(recipe, inputs, said):
    with pytest.raises(ValueError, match=said):
        recipe(inputs=inputs)


def test_an_archive_is_read_as_int32_and_float32_and_its_labels_are_those_of_the_objective(recipe, tmp_path):
    drawn = np.random.default_rng(0)
    source = saved(tmp_path, x=drawn.standard_normal((40, 3)), kind=drawn.integers(0, 9, 40, np.int64),
                   flag=drawn.random(40) < 0.5, labels=drawn.integers(0, 3, 40))
    classes, numbers, none = (open_dataset(recipe(source, objective)) for objective in (
        "cross-entropy", "squared-error", "probe"))
    assert (classes.classes, numbers.classes, none.classes) == (3, 0, 0)
    batch = classes.train.take(np.arange(4))
    assert {name: x.dtype.name for name, x in batch.items()} == {
        "x": "float32", "kind": "int32", "flag": "bool", "labels": "int32", "weights": "float32"}
    assert not none.train.take(np.arange(4))["labels"].any() and batch["labels"].any()


GOOD = {"x": np.ones((20, 3)), "y": np.zeros(20, np.int64)}


@pytest.mark.parametrize(("change", "said"), [
    ({"x": np.ones((19, 3))}, "y has 20 rows, but x has 19"),
    ({"x": np.array([object()] * 20)}, "rows.npz: x: holds Python objects, which are not loaded"),
    ({"x": np.where(np.arange(20) == 7, np.nan, 1)}, "x: holds nan in row 7, which is no number"),
    ({"x": np.full(20, 1e300)}, "x: holds 1e.300 in row 0, which float32 does not hold"),
    ({"y": np.full(20, 2**31)}, "y: holds 2147483648 in row 0, which int32 does not hold"),
    ({"y": np.array(["a"] * 20)}, "y: is of <U1: give bools, whole numbers or floats"),
    ({"y": np.float64(3)}, "y: is one number"),
    ({"signals": np.ones(20)}, "signals: cannot be an array's name")])
def test_what_an_archive_may_not_hold_is_one_line_with_its_key(recipe, tmp_path, change, said):
    with pytest.raises(BadInput, match=said) as told:
        open_dataset(recipe(saved(tmp_path, **GOOD | change)))
    assert "\n" not in str(told.value) and "rows.npz" in str(told.value)


def test_a_file_that_is_no_archive_is_one_line(recipe, tmp_path):
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "text.npz").write_text("no zip")
    whole = saved(tmp_path, **GOOD).partition(":")[2]
    (tmp_path / "half.npz").write_bytes(Path(whole).read_bytes()[:200])
    for name, said in (("none.npz", "cannot be read"), (".", "is a folder: give the path of a .npz file"),
                       ("one.npy", "one array, but an archive of arrays is wanted"),
                       ("text.npz", "not a whole .npz file"), ("half.npz", "not a whole .npz file")):
        with pytest.raises(BadInput, match=said) as told:
            open_dataset(recipe(f"arrays:{tmp_path}/{name}"))
        assert "\n" not in str(told.value)


def test_labels_and_weights_are_what_an_objective_reads():
    found, rows = {"x": np.ones((4, 2), np.float32)}, np.arange(4, dtype=np.int32)
    tokens = {**found, "labels": np.array([[0, 1], [2, 0], [1, 1], [0, 0]], np.int32)}
    made, classes = with_labels(tokens, CROSS_ENTROPY, "s")
    assert classes == 3 and made["weights"].shape == (4, 2)  # a position each
    assert with_labels(tokens, SQUARED_ERROR, "s")[0]["weights"].shape == (4,)
    assert with_labels(found, PROBE, "s")[0]["labels"].tolist() == [0] * 4
    for given_, objective, said in (
            (found, SQUARED_ERROR, 's: has no array "labels", which objective "squared error" reads'),
            ({**found, "labels": rows - 1}, CROSS_ENTROPY, "labels: .* is of classes from 0 on, but they are int32"),
            ({**found, "labels": found["x"]}, CROSS_ENTROPY, "but they are float32"),
            ({**found, "weights": rows.astype(np.float32) - 1}, PROBE, "weights: from -1.0 to 2.0"),
            ({**found, "weights": np.zeros(4, np.float32)}, PROBE, "nor all 0")):
        with pytest.raises(BadInput, match=said):
            with_labels(given_, objective, "s")


def test_a_function_that_gives_no_arrays_is_told_what_is_wanted(recipe, tmp_path, trusting):
    (tmp_path / "rows.py").write_text("def rows():\n    return [1]\n")
    with pytest.raises(BadInput, match="rows.py:rows.*: gives list: {name: array} is wanted"):
        arrays(Data(source=f"{tmp_path}/rows.py:rows"))


def test_what_holds_no_arrays_and_what_reads_none_are_refused(recipe):
    with pytest.raises(ValueError, match='"digits" holds images, which model.family="pair" does not read: it reads a'):
        recipe("digits")
    with pytest.raises(ValueError, match='data.tokenizer="bytes" is for text that is packed'):
        recipe("csv:a.csv")
    with pytest.raises(ValueError, match='"random" holds arrays, which model.family="mlp" does not read'):
        Recipe(name="x", data={"source": "random"}, model={"family": "mlp"})
    with pytest.raises(ValueError, match="data.augment is for images, but .* reads arrays"):
        recipe(inputs=INPUTS, augment=["flip"])


def test_labels_that_an_objective_does_not_read_are_said_and_those_that_it_reads_are_not(recipe, tmp_path):
    np.savez(tmp_path / "rows.npz", x=np.eye(64, dtype=np.float32), labels=np.arange(64) % 3)
    np.savez(tmp_path / "bare.npz", x=np.eye(64, dtype=np.float32))

    def said(file, **objective):
        return unread(open_dataset(recipe(source=f"arrays:{tmp_path / file}", **objective)).manifest)

    assert "labels, which objective.name" in said("rows.npz") and not said("bare.npz")
