"""tfscale's program on Keras' JAX runtime: float64 that holds, of a user's stock layers too, what can be
planted there too, and no TensorFlow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
# Whose float64 Keras 3.15 takes for float32 on JAX, of stock layers that take one array of floats.
LEAKING = {"Activation", "BatchNormalization", "GRU", "GroupNormalization", "LSTM", "LayerNormalization",
           "RMSNormalization", *(f"GlobalAveragePooling{n}D" for n in (1, 2, 3))}
SHOWN = "halved_residual", "adam_epsilon", "trust_of_kernels"
MODULE = """import keras
import tensorflow as tf


class MyNorm(keras.layers.Layer):
    def call(self, x: tf.Tensor | None):
        return x - tf.reduce_mean(x, -1, keepdims=True)


def model():
    x = keras.Input((4,))
    return keras.Model(x, MyNorm(name="my_norm")(x))


def derived():
    class Own(tf.keras.layers.Dense):
        pass
"""


def answers(folder, *questions):
    """{question: what a process with Keras on JAX says}."""
    done = subprocess.run([sys.executable, str(HERE / "keras_on_jax.py"), str(folder), *questions], text=True,
                          capture_output=True, env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu",
                                                  "JAX_ENABLE_X64": "1"}, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """`answers` to what fast tests ask."""
    folder = tmp_path_factory.mktemp("asked")
    (folder / "norms.py").write_text(MODULE)
    return answers(folder, "families", "wide", "kept", "refused", f"planted:{' '.join(SHOWN)}")


def test_every_family_computes_in_float64_and_nothing_imports_tensorflow(said):
    """Forward and backward, of all layers that any family's models have; with Keras' own norms it would not."""
    found = said["families"]
    assert not found["tensorflow"]
    ours, theirs = ({name.rpartition(", ")[0]: lower for name, lower in found["lower"].items() if name.endswith(whose)}
                    for whose in ("ours", "own"))
    assert {name.rpartition(", ")[2] for name in ours} == {"decoder", "convnet", "mlp", "encoder", "resnet", "vit"}
    assert not any(ours.values()), ours
    assert {name.rpartition(", ")[2] for name, lower in theirs.items() if not lower} == {"mlp"}


def test_norms_and_pools_are_their_formulas_forward_and_backward(said):
    for layer, far in said["wide"].items():
        assert len(far) > 1 and max(far.values()) < 1e-15, (layer, far)


@pytest.mark.slow
def test_which_stock_layers_leak_is_measured_and_none_does_in_a_users_program(tmp_path):
    """By their jaxprs; it fails when Keras mends one, and then `tfscale/models/layers_wide.py` can go."""
    found = answers(tmp_path, "leaking")["leaking"]
    assert len(found) > 40
    leaking = {name for name, (lower, *_) in found.items() if lower}
    aliases = {"GlobalAvgPool1D", "GlobalAvgPool2D", "GlobalAvgPool3D", "GroupQueryAttention"}
    assert leaking - aliases == LEAKING
    assert not {name: lower for name, (_, lower, _) in found.items() if lower}
    assert {name for name, (*_, kept) in found.items() if kept} == leaking


def test_where_float64_is_kept_for_a_users_layers_is_named(said):
    assert said["kept"] == {"float64": ["norm", "attention", "dense", "pool"], "float32": []}


@pytest.mark.slow  # 20 s
def test_a_users_program_computes_as_on_tensorflow_to_the_last_digits(tmp_path, monkeypatch):
    from twinscale.tfscale.programs import open_program

    found = answers(tmp_path, "pair")["pair"]
    monkeypatch.syspath_prepend(str(HERE.parent / "pairs"))
    model = __import__("gpt").keras_model()
    ids = np.arange(10, dtype=np.int32).reshape(2, 5)
    program = open_program(model, ids, precision="float64")
    start = {path: np.asarray(x) for path, x in found["float64"].pop("start").items()}
    ones = {name: np.ones(x.shape) for name, x in program.call(start, ids)[0].items()}
    gradients, outputs = program.gradients(start, ids, ones)
    wide = found["float64"]
    for name, x in outputs.items():  # sums of at most 24 terms, in another order, through two blocks
        assert np.abs(np.asarray(wide["outputs"][name]) - x).max() < 1e-13 * np.abs(x).max()
    assert gradients.keys() == wide["gradients"].keys() and program.lower == wide["lower"] == ""
    largest = max(np.abs(x).max() for x in gradients.values())
    for name, x in gradients.items():
        assert np.abs(np.asarray(wide["gradients"][name]) - x.ravel()[:4]).max() < 1e-13 * largest, name


@pytest.mark.parametrize("names", [SHOWN, pytest.param((), marks=pytest.mark.slow)])
def test_what_is_planted_in_a_program_shows_on_jax_too(tmp_path, names, request):
    """In the first step or in what updates make of it, and what is harmless does not."""
    found = (request.getfixturevalue("said") if names else answers(tmp_path, "planted"))["planted"]
    assert len(found) == len(names) or len(found) > 65
    # Scores of its recipe are of bfloat16 as they are: it shows where places are fed.
    found.pop("narrow_softmax", None)
    odd = {name: told for name, told in found.items()
           if not isinstance(told[0], float) or (told[0] < 1e-12) == bool(told[1])}
    assert not odd, odd


def test_a_call_of_tensorflow_is_refused_by_its_name_layer_and_place(said):
    found = said["refused"]
    assert found["model"] == ("layer `my_norm` (MyNorm) calls tf.reduce_mean (norms.py:7), which Keras' JAX runtime "
                              "has not: write keras.ops.mean, or take --runtime tensorflow")
    assert found["derived"] == ("derives from tf.keras.layers.Dense (norms.py:16), which Keras' JAX runtime has not: "
                                "write keras.layers.Dense, or take --runtime tensorflow")
    assert found["tensorflow"] is False


def test_a_process_whose_keras_runs_on_jax_and_that_is_no_room_is_told_what_to_set(monkeypatch):
    from twinscale.common.errors import BadInput
    from twinscale.tfscale import programs

    monkeypatch.setattr(programs.keras.backend, "backend", lambda: "jax")
    with pytest.raises(BadInput, match="keras: it runs on jax: set KERAS_BACKEND=tensorflow"):
        programs.open_program(programs.keras.layers.Dense(2), np.zeros((1, 2)))
