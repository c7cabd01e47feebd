"""Images less a mean and divided by a deviation: exact numbers, the same everywhere, and the library's own rule."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.common.data import held_out_batches, open_dataset, training_batches
from twinscale.common.data import kept as keeping
from twinscale.common.data.standard import Standard, as_told, beside_weights, measured, standard_of, standardised, told
from twinscale.common.errors import BadInput
from twinscale.common.export import predict
from twinscale.common.export.check import held_out_rows
from twinscale.common.recipe.schema import Recipe
from twinscale.common.sources import Data

IMAGENET = {"mean": (0.485, 0.456, 0.406), "deviation": (0.229, 0.224, 0.225)}
CHANNELS = Data(source="digits", standardise="channels")
PIXELS = np.random.default_rng(3).integers(0, 256, (300, 5, 4, 3), np.uint8)


def recipe(**data):
    return Recipe.model_validate({"name": "x", "data": {"source": "digits"} | data, "model": {"family": "mlp"},
                                  "train": {"steps": 3, "global_batch": 32}})


def test_the_numbers_are_those_of_the_training_images_rounded_once(monkeypatch):
    members = np.arange(0, 300, 2)
    monkeypatch.setattr("twinscale.common.data.standard.AT_ONCE", 1000)  # in many parts
    found = measured(CHANNELS, PIXELS, members)
    own = PIXELS[members].reshape(-1, 3).astype(np.longdouble) / 255
    assert found.mean.dtype == np.float32 and np.array_equal(found.mean, own.mean(0).astype(np.float32))
    assert np.array_equal(found.deviation, own.std(0).astype(np.float32))
    assert not np.array_equal(found.mean, measured(CHANNELS, PIXELS, np.arange(300)).mean)
    again = json.loads(json.dumps(told(found)))
    assert all(np.array_equal(a, b) for a, b in zip(as_told(again), found, strict=True)) and as_told(None) is None


@pytest.mark.parametrize("given", [IMAGENET, {"mean": (0.5,) * 3, "deviation": (0.5,) * 3}])
def test_given_numbers_do_what_the_library_does_by_its_preprocessor_config(given, tmp_path):
    """Its image processors: pixels times rescale_factor in float64, made float32, then (x - image_mean) / image_std of
    float32."""
    config = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": list(given["mean"]),
              "image_std": list(given["deviation"])}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    rescaled = (levels.astype(np.float64) * config["rescale_factor"]).astype(np.float32)
    theirs = (rescaled - np.float32(config["image_mean"])) / np.float32(config["image_std"])
    data = Data(source="digits", **given)
    ours = standardised(levels.astype(np.float32) / np.float32(255), standard_of(data, PIXELS, np.arange(3)))
    assert ours.dtype == np.float32 and np.array_equal(ours, theirs)
    assert beside_weights(tmp_path, data) == "" and beside_weights(tmp_path / "none", data) == ""
    assert "data.mean = [0." in beside_weights(tmp_path, Data(source="digits"))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config | {"do_normalize": False}))
    assert beside_weights(tmp_path, Data(source="digits")) == ""


@pytest.fixture(scope="module")
def pair():
    """The same data as it is and standardised."""
    return open_dataset(recipe()), open_dataset(recipe(standardise="channels"))


def test_training_and_held_out_images_are_standardised_by_the_same_numbers(pair):
    plain, made = pair
    every = np.concatenate([standardised(plain.train.take(np.array([i]))["inputs"], made.standard)
                            for i in range(len(plain.train))]).astype(np.float64)
    assert abs(every.mean()) < 1e-6 and abs(every.std() - 1) < 1e-6
    assert plain.manifest["sha256"] == made.manifest["sha256"] and "standardise" not in plain.manifest
    assert made.manifest["standardise"] == told(made.standard)
    one, other = (next(training_batches(dataset, recipe(), 0, 1))[1] for dataset in pair)
    assert np.array_equal(standardised(one["inputs"], made.standard), other["inputs"])
    rows, others = (next(held_out_batches(dataset, 8)) for dataset in pair)
    assert np.array_equal(standardised(rows["inputs"], made.standard), others["inputs"])
    assert np.array_equal(held_out_rows(made)["inputs"][:8], others["inputs"])  # of an export's check
    assert np.array_equal(made.held_out.take(np.arange(8))["inputs"], rows["inputs"])  # as they are shown


def test_images_are_augmented_and_mixed_before_and_zeros_of_a_border_are_black(pair):
    plain, made = pair
    asked = recipe(augment=["shift", "mixup"])
    one, other = (next(training_batches(dataset, asked, 0, 1))[1] for dataset in pair)
    assert np.array_equal(standardised(one["inputs"], made.standard), other["inputs"])
    black = -made.standard.mean / made.standard.deviation
    assert other["inputs"].min() == black and np.array_equal(one["mixed_share"], other["mixed_share"])


def test_a_run_keeps_its_numbers_whatever_its_images_are_by_now(pair, tmp_path):
    _, made = pair
    before = {"mean": [0.25], "deviation": [0.5]}
    kept = keeping.kept_in(tmp_path, made.manifest | {"sha256": "0" * 64, "standardise": before})
    asked = recipe(standardise="channels")
    again = keeping.open_kept(asked, kept, accept=True)
    assert again.manifest["standardise"] == before != made.manifest["standardise"]
    inputs = made.held_out.take(np.arange(8))["inputs"]
    assert np.array_equal(next(held_out_batches(again, 8))["inputs"], (inputs - np.float32(0.25)) / np.float32(0.5))
    other = keeping.kept_in(tmp_path, made.manifest | {"standardise": {"mean": [0.1] * 3, "deviation": [1.0] * 3}})
    with pytest.raises(BadInput, match="its images had 3 channels, and those of now have 1; restore the data"):
        keeping.open_kept(asked, other, accept=True)


def test_predict_standardises_as_the_training_did(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    shape = SimpleNamespace(classes=2, example_shape=(4, 4, 1))
    about = {"classes": 2, "example_shape": [4, 4, 1], "tokenizer": None,
             "standardise": {"mean": [0.25], "deviation": [0.5]}}
    opened = predict.Opened("savedmodel", tmp_path, about, tmp_path)
    seen = []
    monkeypatch.setattr(predict, "open_export", lambda *of: opened)
    monkeypatch.setattr(predict, "function_of", lambda of: lambda x: (seen.append(x), np.zeros((len(x), 2)))[1])
    predict.predict(tmp_path, tmp_path / "x.npy")
    wanted = standardised(pixels / np.float32(255), Standard(np.float32([0.25]), np.float32([0.5])))
    assert np.array_equal(seen[0], wanted) and shape.example_shape == opened.shape.example_shape


@pytest.mark.parametrize(("data", "words"), [
    ({"mean": [0.5], "deviation": []}, "data.mean has 1 values and data.deviation 0: give one of each"),
    ({"mean": [0.5], "deviation": [0.5], "standardise": "channels"}, "leave out data.standardise, which measures them"),
    ({"mean": [0.5], "deviation": [0.0]}, "greater than 0"),
    ({"mean": [float("nan")], "deviation": [0.5]}, "finite"),
    ({"source": "stdlib", "standardise": "channels"}, "data.standardise is for images")])
def test_what_does_not_fit_is_refused_by_its_key(data, words):
    values = {"name": "x", "data": {"source": "digits"} | data, "model": {
        "family": "decoder" if data.get("source") else "mlp"}}
    with pytest.raises(ValueError, match=words):
        Recipe.model_validate(values)


def test_channels_that_are_not_there_or_never_change_are_refused():
    with pytest.raises(BadInput, match="data.mean has 3 values, but the images of .* have 1 channels"):
        open_dataset(recipe(**IMAGENET))
    flat = PIXELS.copy()
    flat[::2, ..., 1] = 7
    with pytest.raises(BadInput, match="channel 1 of the training images .* is the same everywhere"):
        measured(CHANNELS, flat, np.arange(0, 300, 2))
    with pytest.raises(BadInput, match="data.standardise='pixels'"):
        standard_of(CHANNELS.model_copy(update={"standardise": "pixels"}), PIXELS, np.arange(9))
