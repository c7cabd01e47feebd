"""Losses of the user's own, a function of (outputs, labels) for each room."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from twinscale.benchmarks.compare import compared
from twinscale.benchmarks.matching import match
from twinscale.common.errors import BadInput
from twinscale.common.numbers.formats import EPS, MASTERS
from twinscale.common.recipe.file import given

PAIR = Path(__file__).parents[2] / "docs" / "pair"
OWN = {side: f"training_{side}.py" for side in ("keras", "jax")}
OTHERS = """
import jax.numpy as jnp
import keras

def mean(outputs, labels):
    return (outputs ** 2).mean() if hasattr(outputs, "mean") else keras.ops.mean(outputs ** 2)

def narrow(outputs, labels):
    x = keras.ops.cast(outputs, "float32") if hasattr(outputs, "numpy") else outputs.astype("float32")
    return x[:, 0]

def breaks(outputs, labels):
    return outputs.nothing
"""


@pytest.fixture
def recipe(tmp_path, trusting):
    """recipe(): an MLP with the focal losses of docs/pair; recipe("mean"): with another of OTHERS in both rooms."""
    def make(name="", *overrides):
        for file in OWN.values():
            shutil.copy(PAIR / file, tmp_path)
        (tmp_path / "others.py").write_text(OTHERS)
        named = {side: f"others.py:{name}" if name else f"{file}:loss" for side, file in OWN.items()}
        (tmp_path / "r.toml").write_text(
            'name = "x"\n[data]\nsource = "digits"\nheld_out = 0.2\n[model]\nfamily = "mlp"\nhidden = [8]\n'
            '[objective]\n'
            + "".join(f'{side} = "{name}"\n' for side, name in named.items())
            + '[train]\nglobal_batch = 8\nprecision = "float64"\n[keras]\njit_compile = false\n')
        return given(tmp_path / "r.toml", overrides)

    return make


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
def test_a_step_and_an_evaluation_of_both_rooms_are_of_the_users_loss(recipe, open_room, precision, gamma):
    recipe = recipe("", f"train.precision={precision}", f"objective.options={{gamma={gamma}}}")
    found = {}
    for name in ("tfscale", "jaxscale"):
        with open_room(name, recipe) as opened:
            evaluate = opened.room.make_evaluate(recipe, opened.state, opened.devices)
            found[name] = opened.tensors(), evaluate(opened.state, [opened.batch()]), opened.batch()
    (ours, sums, batch), (theirs, others, _) = found.values()
    eps = EPS[MASTERS[precision]] if precision != "bfloat16" else 2.0**-8
    for name, x in ours.items():
        assert np.abs(x.astype(np.float64) - theirs[name]).max() <= 500 * eps * np.abs(theirs[name]).max(), name
        assert x.any()
    logged = ours["logits"] - np.log(np.exp(ours["logits"]).sum(-1, keepdims=True))
    right = np.take_along_axis(logged, batch["labels"][:, None].astype(int), -1)[:, 0]
    wanted = (-((1 - np.exp(right)) ** gamma) * right).mean()
    assert abs(wanted - float(ours["loss"])) <= 1e-5 * wanted
    assert abs(sums["loss"] / sums["weight"] - wanted) <= (1e-2 if precision == "bfloat16" else 1e-5) * wanted
    assert "correct" not in sums and sums.keys() == others.keys()  # it is not of classes


@pytest.mark.parametrize("name,said", [
    ("mean", r"gives \(\) of outputs \(8, 10\) and labels \(8,\): a loss of each row .* leave out the mean"),
    ("narrow", "gives float32 of outputs float64: let it compute in what comes in"),
    ("breaks", "breaks when it is called with options {}: AttributeError"), ("absent", "has no absent")])
def test_what_is_no_loss_of_each_row_is_refused_with_what_to_do(recipe, open_room, name, said):
    for room, side in (("tfscale", "keras"), ("jaxscale", "jax")):
        with open_room(room, recipe(name)) as opened, pytest.raises(BadInput, match=f"objective.{side} = .*{said}"):
            opened.tensors()


@pytest.mark.slow
def test_a_pair_trains_with_its_own_optimizers_and_losses_and_stock_adam_is_caught(tmp_path):
    shutil.copytree(PAIR, tmp_path, dirs_exist_ok=True)
    own = [f"objective.{side}={tmp_path}/{file}:loss" for side, file in OWN.items()]
    own += ["model.flax=digits_flax.py:mended", f"optimizer.jax={tmp_path}/training_jax.py:optimizer"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert match(given(tmp_path / "pair.toml", ["model.flax=digits_flax.py:mended"]))["exit_code"] == 0
        same, other = (compared(given(tmp_path / "pair.toml", [*own, f"optimizer.keras=training_keras.py:{name}"]),
                                tmp_path / name, place=True) for name in ("mended", "optimizer"))
    assert same.agrees and not [(rung.name, rung.where) for rung in same.rungs if not rung.agrees]
    assert [rung.name for rung in other.rungs if not rung.agrees][0] == "P3"
    assert "Keras adds an epsilon of 1.0e-7" in other.cause["sentence"]
