"""Any two runs: a mesh against one device, a backend against the other, and what is planted between them."""

import json
import shutil

import numpy as np
import pytest

from twinscale.benchmarks.foreign import Asked, compared_foreign
from twinscale.benchmarks.runs import compare_runs
from twinscale.common.errors import DID_IT, INCONCLUSIVE, NO, BadInput, MissingEnvironment
from twinscale.common.files.access import write_json
from twinscale.common.files.tensors import load_tensors
from twinscale.common.numbers.sketch import distance, sketch
from twinscale.common.training.loop import Probe, run_training, traced_steps
from twinscale.common.training.run import read_run
from twinscale.common.training.run_metrics import read_metrics

EPS = 2.0**-52


def described(recipe_of, **sections):
    return recipe_of("mlp", train={"steps": 12, "global_batch": 16, "precision": "float32", "save_every": 5,
                                   "eval_every": 5, "metrics": ["report", "confusion"]}, **sections)


def probe(recipe, form="sketch"):
    return Probe(trace=form, traced=traced_steps(recipe, 5), twin_steps=12, log_every=1)


@pytest.fixture(scope="module")
def run_of(room_of, recipe_of, tmp_path_factory):
    """run_of("jaxscale", devices=4): the directory of a traced training, once a session."""
    known = {}

    def make(name, devices=1, form="sketch", change=None):
        asked = name, devices, form, change
        if asked not in known:
            recipe, room = described(recipe_of, devices={"data": devices}), room_of(name)
            known[asked] = tmp_path_factory.mktemp("runs") / f"{name}-{devices}-{form}-{change}"
            run_training(room, recipe, known[asked], probe=probe(recipe, form), progress=False)
        return known[asked]

    return make


def verdict_of(out):
    return json.loads((out / "verdict.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tfscale", "jaxscale"])
def test_four_devices_train_as_one_does(run_of, name, tmp_path):
    assert compare_runs(run_of(name), run_of(name, devices=4), tmp_path / "out") == DID_IT
    verdict = verdict_of(tmp_path / "out")
    assert [rung["name"] for rung in verdict["rungs"]] == ["P0", "P2", "P6"]
    assert len(verdict["devices"]["b"]) == 4 and ["devices.data", "1", "4"] in verdict["differences"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "4 devices" in page and "P6" in page
    losses = verdict["curves"]["float32"]
    assert losses["a"] != losses["b"]  # else there would be nothing to judge


def test_backends_are_compared_in_the_form_that_both_left(run_of, tmp_path):
    assert compare_runs(run_of("jaxscale"), run_of("tfscale", form="full"), tmp_path / "out") == DID_IT
    verdict = verdict_of(tmp_path / "out")
    assert verdict["rungs"][-1]["name"] == "P5" and any("sketches" in limit for limit in verdict["limits"])


@pytest.mark.parametrize("form", ["sketch", "full"])
def test_a_planted_error_is_found_at_its_first_step(run_of, room_of, recipe_of, tmp_path, form):
    from twinscale.common.training import session
    from twinscale.jaxscale.mutants import MUTANTS

    recipe = described(recipe_of)
    session.SESSIONS.clear()
    with MUTANTS["adam_epsilon"].plant():
        run_training(room_of("jaxscale"), recipe, tmp_path / "planted", probe=probe(recipe, form), progress=False)
    session.SESSIONS.clear()
    assert compare_runs(run_of("tfscale", form="full"), tmp_path / "planted", tmp_path / "out") == NO
    cause = verdict_of(tmp_path / "out")["cause"]
    assert cause["step"] == 1 and cause["where"].startswith("weights/")


def test_what_cannot_be_compared_says_what_to_do(run_of, room_of, recipe_of, tmp_path):
    recipe = described(recipe_of)
    run_training(room_of("jaxscale"), recipe, tmp_path / "plain", progress=False)
    with pytest.raises(BadInput, match="plain: has no trace; train it with"):
        compare_runs(run_of("jaxscale"), tmp_path / "plain", tmp_path / "out")
    with pytest.raises(BadInput, match="not a run"):
        compare_runs(tmp_path, run_of("jaxscale"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_goes_on_only_with_the_trace_that_it_began_with(room_of, recipe_of, tmp_path, monkeypatch):
    recipe, room = described(recipe_of), room_of("jaxscale")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("twinscale.common.training.loop.train_twin", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run_training(room, recipe, tmp_path, probe=probe(recipe), progress=False)
    before = read_run(tmp_path)
    with pytest.raises(BadInput, match="began with trace sketch, not full; pass the same --trace"):
        run_training(room, recipe, tmp_path, probe=probe(recipe, "full"), progress=False)
    run_training(room, recipe, tmp_path, probe=probe(recipe), progress=False)
    after = read_run(tmp_path)
    assert after["state"] == "finished" and after["performance"] == before["performance"]
    assert len(json.loads((tmp_path / "trace" / "batches.json").read_text())) == 12
    assert compare_runs(tmp_path, tmp_path, tmp_path.with_name("out")) == DID_IT


def test_a_mesh_that_does_not_fit_leaves_the_old_run(run_of, room_of, recipe_of, tmp_path):
    recipe = described(recipe_of)
    run_training(room_of("jaxscale"), recipe, tmp_path, progress=False)
    left = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(BadInput, match="do not divide"):
        run_training(room_of("jaxscale"), described(recipe_of, devices={"data": 3}), tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == left and read_run(tmp_path)["state"] == "finished"


def test_data_that_parts_later_is_named(run_of, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run_of("jaxscale"), copy)
    batches = json.loads((copy / "trace" / "batches.json").read_text())
    write_json(copy / "trace" / "batches.json", [*batches[:7], "other", *batches[8:]])
    assert compare_runs(run_of("jaxscale"), copy, tmp_path / "out") == NO
    assert "P0 (contract) parts" in verdict_of(tmp_path / "out")["sentence"]
    assert "batch 7" in verdict_of(tmp_path / "out")["rungs"][0]["where"]
    task, page = verdict_of(tmp_path / "out")["task"], (tmp_path / "out" / "report.html").read_text()
    assert task["matrix"].keys() == {"a", "b"} and {"precision", "recall", "f1"} == task["classes"][0]["b"].keys()
    assert "Confusion of 10 classes" in page and "0 of 100 cells differ" in page and task["curves"]["f1_macro"]


def test_a_trace_holds_its_twin_and_leaves_the_run_as_it_was(run_of, room_of, recipe_of, tmp_path):
    recipe, traced = described(recipe_of), run_of("jaxscale")
    run_training(room_of("jaxscale"), recipe, tmp_path / "plain", probe=Probe(trace="full"), progress=False)
    plain, final = (load_tensors(path / "trace" / "final.safetensors") for path in (tmp_path / "plain", traced))
    assert {name: sketch(np, x)[1] for name, x in plain.items()} == {name: x[1] for name, x in final.items()}
    twin = read_run(traced / "trace" / "twin")  # whose recipe would save and evaluate on its way
    assert twin["state"] == "finished" and not any((traced / "trace" / "twin" / "checkpoints").glob("*"))


def test_a_run_of_ours_stands_beside_a_curve_of_others(run_of, tmp_path):
    """Its own twin says how far rounding takes it, and bounds nothing of the other."""
    lines = [(line["step"] + 1, line["train/loss"]) for line in read_metrics(run_of("jaxscale"))
             if "train/loss" in line]
    (tmp_path / "theirs.csv").write_text("step,loss\n" + "".join(f"{step},{loss!r}\n" for step, loss in lines))
    found = compared_foreign(run_of("jaxscale"), tmp_path / "theirs.csv", tmp_path / "out", Asked(shift=-1))
    assert found.shared == found.equal == 12 and found.read["a"].form == "Twinscale"
    assert found.sides["a"].endswith("(JAX, 1 device)") and found.exit_code == INCONCLUSIVE
    ours, limits = found.sides["a"], "\n".join(found.limits)
    assert f"{ours} and its own twin are apart by up to" in limits and "bounds nothing" in limits
    assert "theirs.csv (CSV) was not run by Twinscale" in limits and f"{ours} was not" not in limits


# ---- meshes


DECODER, CONVNET = {"model": {"dropout": 0.25, "layers": 1}, "train": {"accumulate": 2}}, {"train": {"accumulate": 2}}


@pytest.mark.parametrize("name,family,sections", [
    ("tfscale", "decoder", DECODER), ("jaxscale", "convnet", CONVNET),
    pytest.param("tfscale", "convnet", CONVNET, marks=pytest.mark.slow),
    pytest.param("jaxscale", "decoder", DECODER, marks=pytest.mark.slow)])
def test_a_step_is_the_same_over_four_devices(first_step, recipe_of, name, family, sections):
    """Sums over N positions in another order: apart by no more than their roundings walk, 16 sqrt(N) eps."""
    recipes = [recipe_of(family, devices={"data": devices}, **sections) for devices in (1, 4)]
    (_, batch, one), (_, _, four) = (first_step(name, recipe) for recipe in recipes)
    bound = 16 * np.sqrt(np.prod(batch["inputs"].shape[:3])) * EPS
    kernels = [name for name in one if not name.endswith("key.bias")]  # a null direction
    assert max(np.abs(four[name] - one[name]).max() / np.abs(one[name]).max() for name in kernels) < bound
    assert any((four[name] != one[name]).any() for name in kernels)


def test_a_mesh_that_does_not_fit_is_refused(room_of, recipe_of, name):
    open_devices = room_of(name).open_devices
    with pytest.raises(BadInput, match="devices.data=4: 4 shares of a batch do not divide the 2 rows of a micro-batch"):
        open_devices(recipe_of("mlp", devices={"data": 4}, train={"accumulate": 4}))
    with pytest.raises(MissingEnvironment, match="devices.data=64 needs 64 devices, but .* finds 4"):
        open_devices(recipe_of("mlp", devices={"data": 64}, train={"global_batch": 64}))


def test_where_a_run_trains_is_not_what_it_trains(recipe_of):
    one, four = (recipe_of("mlp", devices={"data": devices}) for devices in (1, 4))
    assert one.hash == four.hash and one.meaning == four.meaning and one != four
    other = recipe_of("mlp", optimizer={"beta2": 0.9})
    assert other.meaning != one.meaning and recipe_of("mlp", train={"log_every": 3}).meaning == one.meaning


@pytest.mark.parametrize("shape", [(33,), (16, 24), (3, 3, 4, 8)])
def test_sketches_are_the_same_in_both_frameworks(shape):
    import jax.numpy as jnp
    import keras

    x = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    wanted = sketch(np, x.astype(np.float64))
    for found in (sketch(jnp, jnp.asarray(x)), sketch(keras.ops, keras.ops.convert_to_tensor(x))):
        apart, hidden, _ = distance(np.asarray(found), wanted)
        assert apart < hidden and np.allclose(np.asarray(found)[:2], wanted[:2], rtol=1e-5)
