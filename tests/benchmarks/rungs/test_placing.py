"""Where two backends part, from tensors made by hand: what one side lacks is named, and so is a dtype."""

import json

import numpy as np
import pytest

from twinscale.benchmarks.rungs import ladder, placing
from twinscale.benchmarks.rungs.ladder import check, rung
from twinscale.benchmarks.rungs.operations import operations_rung
from twinscale.common.families.places import WHOLE, Place, places
from twinscale.common.recipe.schema import Recipe

RECIPE = Recipe.model_validate({
    "name": "tiny", "data": {"source": "text:*.txt", "sequence": 4}, "train": {"precision": "float64"},
    "model": {"family": "decoder", "layers": 1, "width": 4, "heads": 2}})
KNOWN = places(RECIPE.model)


def taps():
    """Taps of a step in which every tensor is ones."""
    ones, held = np.ones((2, 3)), dict.fromkeys(place.holds for place in KNOWN.values() if place.holds)
    return {**{f"{way}/{name}": ones for name in KNOWN for way in ("forward", "backward")},
            **{f"loss/{name}": ones for name in ("weight", "loss", "correct")},
            **{f"gradients/{name}.kernel": ones for name in held}}


@pytest.mark.parametrize("teacher", ladder.SIDES)
@pytest.mark.parametrize("without", ladder.SIDES)
def test_an_operation_that_one_side_lacks_is_the_cause(teacher, without):
    sides = {b: taps() for b in (teacher, *(b for b in ladder.SIDES if b != teacher))}
    assert placing.operation_cause(RECIPE, 12, sides, 0) is None
    for group in ("forward/norm", "backward/norm", "gradients/norm.kernel"):
        del sides[without][group]
    found = placing.operation_cause(RECIPE, 12, sides, 0)
    assert (found["operation"], found["where"]) == ("norm", "norm")
    assert found["sentence"].endswith(f"{ladder.BACKENDS[without]} has no `norm`")


def test_a_gradient_that_one_side_lacks_is_named_by_the_place_that_holds_it():
    sides = {b: taps() for b in ladder.SIDES}
    del sides["keras"]["gradients/block_0.attention.query.kernel"]
    found = placing.operation_cause(RECIPE, 12, sides, 3)
    assert (found["operation"], found["where"], found["step"]) == ("linear", "block_0.attention.query", 3)


def first_steps(**of):
    """The first step of both backends and their twins, which `of` changes."""
    rng = np.random.default_rng(0)
    exact = {"logits": rng.normal(size=6), "loss": np.array(2.0), "gradients/norm.scale": rng.normal(size=4),
             "gradients/head.kernel": rng.normal(size=4)}
    runs = ("keras", "keras-twin", "jax", "jax-twin")
    return {run: {name: x for name, x in exact.items() if name != of.get(run)} for run in runs}


@pytest.mark.parametrize("without", ladder.SIDES)
def test_a_tensor_that_one_side_lacks_fails_its_rung_and_not_the_judge(without):
    lost = dict.fromkeys((without, f"{without}-twin"), "gradients/norm.scale")
    rung, _ = ladder.gradient_rung({"float64": {"first": first_steps(**lost)}}, "float64", 12)
    assert {c["where"] for c in rung["checks"] if not c["agrees"]} == {"gradients/norm.scale"}
    assert ladder.gradient_rung({"float64": {"first": first_steps()}}, "float64", 12)[0]["agrees"]
    states = {b: {"0/m/norm.scale": np.ones(4), "0/weights/norm.scale": np.ones(4)} for b in ladder.SIDES}
    assert ladder.optimizer_rung({"float64": states})["agrees"]
    del states[without]["0/m/norm.scale"]
    assert not ladder.optimizer_rung({"float64": states})["agrees"]


def contract(out, contracts):
    (out / "tensors").mkdir()
    for backend, found in contracts.items():
        (out / "tensors" / f"contract-{backend}.json").write_text(json.dumps({"recipe": "r", "data": "d"} | found))


def test_a_weight_that_one_side_lacks_is_placed_at_its_operation(tmp_path):
    contracts = {"keras": {"weights/norm.scale": "x"}, "jax": {}}
    contract(tmp_path, contracts)
    found = placing.contract_cause(RECIPE, tmp_path, ladder.contract_rung(contracts))
    assert (found["operation"], found["where"]) == ("norm", "norm") and "JAX has no `norm.scale`" in found["sentence"]


def test_a_dtype_that_differs_is_named_by_p0_and_placed(tmp_path):
    contract(tmp_path, {"keras": {}, "jax": {}})
    equal = {"float32 weights/norm.scale": "float32", "float32 m/norm.scale": "float32"}
    dtypes = {"keras": equal, "jax": equal | {"float32 m/norm.scale": "bfloat16"}}
    hashes = {b: {"recipe": "r", "data": "d"} for b in ladder.SIDES}
    rung = ladder.contract_rung(hashes, dtypes=dtypes)
    assert not rung["agrees"]
    assert rung["where"] == "2 dtypes: float32 m/norm.scale (float32 in Keras, bfloat16 in JAX)"
    found = placing.contract_cause(RECIPE, tmp_path, rung)
    assert (found["operation"], found["where"]) == ("moment", "norm.scale")
    healthy = ladder.contract_rung(hashes, dtypes=dict.fromkeys(ladder.SIDES, equal))
    assert healthy["agrees"] and placing.contract_cause(RECIPE, tmp_path, healthy) is None


def test_a_place_whose_dtype_differs_is_a_finding_of_p0_in_forward_order(tmp_path):
    contract(tmp_path, {"keras": {}, "jax": {}})
    recipe = RECIPE.with_values(train={"precision": "bfloat16"})
    shares, mix = (f"bfloat16 forward/block_0.attention.{name}" for name in ("shares", "mix"))
    keras = {shares: "float32", mix: "bfloat16", "bfloat16 loss/loss": "float32"}
    dtypes = {"keras": keras, "jax": keras | {shares: "bfloat16", mix: "float32"}}
    hashes = {b: {"recipe": "r", "data": "d"} for b in ladder.SIDES}
    rung = ladder.contract_rung(hashes, dtypes=dtypes)
    assert not rung["agrees"] and f"{shares} (float32 in Keras, bfloat16 in JAX)" in rung["where"]
    found = placing.contract_cause(recipe, tmp_path, rung)
    assert (found["operation"], found["where"], found["tensor"]) == ("softmax", "block_0.attention.shares", shares)
    assert ladder.contract_rung(hashes, dtypes=dict.fromkeys(ladder.SIDES, keras))["agrees"]


MLP = Recipe.model_validate({"name": "mine", "data": {"source": "digits"}, "model": {"family": "mlp", "hidden": [8]},
                             "train": {"steps": 8, "global_batch": 4, "precision": "float64"}})


TEXT = Recipe.model_validate({"name": "mine", "model": {"family": "decoder", "layers": 1, "width": 16, "heads": 2},
                              "optimizer": {"weight_decay": 0.1}, "train": {"precision": "float64"}})


def second(logits, gradients):
    """P2 of several devices: what its twins hide, they being far off themselves."""
    return rung("P2", "gradient", "", [check("float64", logits, 1.0, "logits", ""),
                                       check("float64", gradients, 1.0, "gradients/head.kernel", ""),
                                       check("float64, keras against its twin", 0.5, 1e-8, "logits", "")])


@pytest.mark.parametrize("model, logits, operation", [
    ({"family": "mlp", "dropout": 0.1}, 1e-3, "random bits"), ({"family": "convnet"}, 1e-3, "norm"),
    ({"family": "mlp"}, 1e-3, "data"), ({"family": "convnet"}, 0.0, "accumulation")])
def test_what_several_devices_alone_make_is_of_what_reads_other_devices_rows(model, logits, operation):
    recipe = Recipe.model_validate({**MLP.model_dump(), "model": model, "devices": {"data": 2}})
    assert placing.shares_cause(recipe, 4, second(logits, 1e-3))["operation"] == operation
    assert placing.shares_cause(recipe.with_values(devices={"data": 1}), 4, second(logits, 1e-3)) is None


@pytest.mark.parametrize("norm, operation", [(2.0, "clip or update"), (2.5, "accumulation or clip")])
def test_a_step_that_is_not_the_sum_of_its_parts_is_told_by_its_gradients_norm(tmp_path, norm, operation):
    for backend, found in (("keras", norm), ("jax", 2.0)):
        (tmp_path / "runs" / f"{backend}-float64").mkdir(parents=True)
        lines = [{"step": 0, "train/loss": 1.0, "train/gradient_norm": found}]
        (tmp_path / "runs" / f"{backend}-float64" / "metrics.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in lines))
    right = {"agrees": True}
    rungs = {"P2": right, "P3": right, "P4": {"checks": [check("float64 loss", 0.1, 1e-9, "step 1 of 8", "")]}}
    assert placing.step_cause(MLP, 4, tmp_path, rungs)["operation"] == operation
    assert placing.step_cause(MLP, 4, tmp_path, rungs | {"P3": {"agrees": False}}) is None


def test_gradients_that_differ_in_one_precision_or_at_one_point_are_a_sum_where_most_of_them_do():
    points = ("", " at the generic point", " at the stress point")
    checks = [check(precision, float((precision, point) == ("float32", points[2])), 1e-3, f"gradients/{name}{point}",
                    "") for precision in ("float64", "float32") for point in points
              for name in ("layer_0.kernel", "layer_0.bias", "head.kernel")]
    assert placing.gradient_cause(MLP, {"checks": checks})["operation"] == "accumulation"
    one = [c | {"agrees": c["agrees"] or "head" not in c["where"]} for c in checks]
    assert placing.gradient_cause(MLP, {"checks": one})["operation"] == "linear"


def test_a_gradient_in_a_program_that_is_one_place_is_that_of_the_module_that_its_name_says(monkeypatch):
    whole = {"head": Place(WHOLE, (), "")}
    monkeypatch.setattr(placing, "places", lambda model: whole)
    checks = [check("float64", float(name == "fc.bias"), 1e-3, f"gradients/{name}", "")
              for name in ("fc.kernel", "fc.bias", "norm.scale")]
    found = placing.gradient_cause(MLP, {"checks": checks})
    assert (found["operation"], found["where"], found["phase"]) == (WHOLE, "fc", "backward")
    assert placing.blamed(whole, {"running/norm.mean"})[:3] == (WHOLE, "head", "running statistics")


def test_who_hands_nothing_on_is_blamed_before_who_makes_nothing_of_it():
    """A branch that no gradient enters: its last layer's own gradients are zero too."""
    off = ["backward/block_0.attention.output", "gradients/block_0.attention.output.kernel"]
    found = placing.blamed(places(TEXT.model), off)
    assert found[:3] == ("residual", "block_0.residual_1", "backward")
    assert placing.blamed(places(TEXT.model), off[1:])[:2] == ("linear", "block_0.attention.output")


BY_ITSELF = {"operation": "rms_norm", "backend": "keras", "dtype": "bfloat16", "case": "rows", "how": "jitted",
             "error": 2.0, "bound": 0.5, "bound_from": "one rounding", "known": None, "stock": False, "agrees": False}
IN_PLACE = {"place": "norm", "operation": "norm", "way": "forward", "tensor": "forward/norm", "error": 1.5,
            "bound": 0.5, "beside": None, "rare": None}


def failed_operations(rows, own=(), float64=()):
    """P0 to P5 of which P1 alone has failed, from its rows by themselves and those in their places."""
    found = {"keras": {"generic": {"own": list(own), "float64": list(float64)}}}
    right = rung("P2", "gradient", "", [check("float64", 0.0, 1e-15, "logits", "")])
    return [operations_rung(rows, found, "bfloat16") | {"known": [], "stale": []}, right]


def test_a_cause_is_looked_for_in_the_precision_that_alone_has_failed_however_a_check_says_so():
    """Operations by themselves say theirs last, those in their places first: in float64 neither would be seen."""
    narrow = TEXT.with_values(train={"precision": "bfloat16"})
    for rows, own in (([BY_ITSELF], []), ([], [IN_PLACE]), ([BY_ITSELF], [IN_PLACE])):
        looked = placing.looked_at(narrow, failed_operations(rows, own))
        assert looked.train.precision == "bfloat16"
    for rows, float64 in (([BY_ITSELF | {"dtype": "float64"}], []), ([BY_ITSELF], [IN_PLACE])):
        looked = placing.looked_at(narrow, failed_operations(rows, float64=float64))
        assert looked.train.precision == "float64"


def test_an_operation_that_is_off_by_itself_alone_is_the_cause_where_nothing_else_is():
    rungs = failed_operations([BY_ITSELF | {"error": 1.0, "case": "one row"}, BY_ITSELF])
    found = placing.alone_cause(rungs[0])
    assert (found["operation"], found["difference"], found["bound"]) == ("rms_norm", 2.0, 0.5)
    assert "keras bfloat16" in found["sentence"]
    assert placing.alone_cause(failed_operations([], [IN_PLACE])[0]) is None and placing.alone_cause(None) is None
