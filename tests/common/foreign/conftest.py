"""Checkpoints of a real program and its port."""

import numpy as np
import pytest

MATCH = """[tensors]
"fc/kernel" = "hidden/kernel"
"fc/bias" = "hidden/bias"
"head/kernel" = "logits/kernel | transpose 1 0"
"bn/scale" = "norm/gamma"
"bn/bias" = "norm/beta"
"bn/mean" = "norm/moving_mean"
"bn/var" = "norm/moving_variance"
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(folder, {path: array} of the Keras model): model.keras; port.msgpack of equal weights under the match; its
    Orbax directory, one kernel of which is an eighth off."""
    keras, ocp = pytest.importorskip("keras"), pytest.importorskip("orbax.checkpoint")
    from flax import serialization

    folder, rng = tmp_path_factory.mktemp("both"), np.random.default_rng(0)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, name="hidden")(keras.layers.BatchNormalization(name="norm")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False, name="logits")(x))
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    model.save(folder / "model.keras")
    of = {weight.path: np.array(weight) for weight in model.weights}
    params = {"fc": {"kernel": of["hidden/kernel"], "bias": of["hidden/bias"]},
              "head": {"kernel": of["logits/kernel"].T.copy()}, "bn": {"scale": of["norm/gamma"],
                                                                       "bias": of["norm/beta"]}}
    variables = {"params": params, "batch_stats": {"bn": {"mean": of["norm/moving_mean"],
                                                          "var": of["norm/moving_variance"]}}}
    (folder / "port.msgpack").write_bytes(serialization.to_bytes(variables))
    params["head"]["kernel"] = params["head"]["kernel"] + np.abs(of["logits/kernel"]).max() / 8
    params["extra"] = {"kernel": np.ones((2, 2), np.float32)}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "port.orbax", variables)
    (folder / "match.toml").write_text(MATCH)
    return folder, of
