"""An audit without its trainings: what applies to a recipe, what is counted, and how what goes wrong in a run that goes
on, on several devices or in a whole step is placed."""

import json

import numpy as np
import pytest

from twinscale.benchmarks import audit, compare_collect, placing
from twinscale.benchmarks.ladder import check, rung
from twinscale.benchmarks.later import step_path
from twinscale.benchmarks.operations import places_path
from twinscale.benchmarks.resuming import Resumed, resume_cause, stopped_path
from twinscale.benchmarks.workers import ROOMS
from twinscale.common import cli
from twinscale.common.errors import BadInput, CannotSave, HostLost, Hung, Stopped, TwinscaleError
from twinscale.common.mutants import CHANGES
from twinscale.common.places import places
from twinscale.common.planting import HAS, PHASES
from twinscale.common.recipe import Recipe
from twinscale.common.tensors import save_tensors

MLP = Recipe.model_validate({"name": "mine", "data": {"source": "digits"}, "model": {"family": "mlp", "hidden": [8]},
                             "train": {"steps": 8, "global_batch": 4, "precision": "float64"}})
TEXT = Recipe.model_validate({"name": "mine", "model": {"family": "decoder", "layers": 1, "width": 16, "heads": 2},
                              "optimizer": {"weight_decay": 0.1}, "train": {"precision": "float64"}})


def change(operation="", needs=(), recipe="dense", **more):
    return {"recipe": recipe, "operation": operation, "where": "*", "needs": list(needs), "phase": "", **more}


LISTED = {"keras": {"mine": change("norm", ["a norm"]), "both": change("data", shared=True), "own": change("clip"),
                    "resumed": change("checkpoint", recipe="resumed")},
          "jax": {"both": change("data", shared=True), "own": change("clip"), "masks": change("mask", ["text"]),
                  "other": change("", shared=True)}}


def test_what_both_share_is_planted_once_and_what_each_has_of_its_own_in_each():
    trials, left = audit.plan(LISTED, None)
    assert not left and [(t["name"], t["backend"]) for t in trials] == [
        ("mine", "keras"), ("both", "keras"), ("own", "keras"), ("own", "jax"), ("resumed", "keras"), ("masks", "jax"),
        ("other", "jax")]


def test_in_a_recipe_of_ones_own_what_does_not_apply_is_listed_with_what_it_lacks():
    trials, left = audit.plan(LISTED, None, MLP)
    assert left == [{"name": "mine", "backend": "keras", "lacks": ["a norm"]},
                    {"name": "masks", "backend": "jax", "lacks": ["text"]}]
    assert {t["name"]: t["recipe"] for t in trials} == {"both": "own", "own": "own", "other": "own",
                                                        "resumed": "own-resumed"}
    assert audit.resumed_after("own-resumed") == audit.resumed_after("resumed") == 3 and not audit.resumed_after("own")
    with pytest.raises(BadInput, match="nothing applies to this recipe.*masks: it has no text"):
        audit.plan(LISTED, ["masks"], MLP)
    with pytest.raises(BadInput, match="no change has such a name"):
        audit.plan(LISTED, ["no_such_*"], MLP)


def test_what_a_recipe_has_is_read_from_it():
    both = {word: (has(MLP), has(TEXT)) for word, has in HAS.items() if word != "an epoch that ends"}
    assert {word for word, (mlp, _) in both.items() if mlp} == {
        "pictures", "mlp", "ReLU", "biases", "a scan", "documents kept apart", "AdamW", "more than three updates"}
    assert {word for word, (_, text) in both.items() if text} == {
        "text", "decoder", "a norm", "layer norm", "GELU", "learned positions", "a tied head", "biases",
        "key heads of their own", "a scan", "documents kept apart", "weight decay", "AdamW", "more than three updates"}


def test_every_shared_change_says_what_it_needs_in_known_words_and_its_phase():
    assert {word for c in CHANGES.values() for word in c.needs} <= HAS.keys()
    assert {c.phase for c in CHANGES.values() if c.operation} >= {"data", "schedule", "evaluation", "checkpoint"}
    assert not [name for name, c in CHANGES.items() if bool(c.phase) != bool(c.operation)]
    assert CHANGES["data_from_the_start"].phase == "checkpoint" != PHASES["data"]


def row(name, failed, operation="norm", placed=True, **more):
    return {"name": name, "backend": "keras", "operation": operation, "where": "*", "failed": failed, "found": None,
            "signal": max(failed.values(), default=None), "caught": bool(failed), "placed": placed and bool(failed),
            "precision": "float64", "phase": "forward", "error": None, **more}


def test_an_audit_counts_by_precision_and_phase_and_what_one_rung_alone_has_seen():
    found = audit.summary([row("one", {"P2": 1e9, "P4": 1e6}), row("two", {"P4": 7.0}, phase="clip"),
                           row("three", {"P2": 3.0}, placed=False, precision="bfloat16"), row("missed", {}),
                           row("same", {}, operation="")])
    assert (found["mutants"], found["caught"], found["placed"], found["neutral"], found["flagged"]) == (4, 3, 2, 1, 0)
    assert found["by"]["precision"] == {"float64": {"mutants": 3, "caught": 2, "placed": 2},
                                        "bfloat16": {"mutants": 1, "caught": 1, "placed": 0}}
    assert found["by"]["phase"]["clip"] == {"mutants": 1, "caught": 1, "placed": 1}
    assert found["rungs"] == {
        "P2": {"caught": 2, "smallest": 3.0, "faintest": "three in keras", "alone": ["three in keras"]},
        "P4": {"caught": 2, "smallest": 7.0, "faintest": "two in keras", "alone": ["two in keras"]}}
    said = "\n".join(audit.lines(found | {"seconds": 1.0, "inapplicable": [
        {"name": "x", "backend": "jax", "lacks": ["SwiGLU", "dropout"]}]}))
    assert "P4 has seen 2, the faintest at 7.0 times its bound (two in keras); 1 it alone: two in keras" in said
    assert "by precision: float64 3 (2 caught, 2 placed), bfloat16 1 (1 caught, 0 placed)" in said
    assert "x in jax does not apply: no SwiGLU, no dropout" in said


def test_a_trial_that_fails_is_a_row_and_no_end():
    class Worker:
        backend = "keras"
        process = type("Process", (), {"poll": staticmethod(lambda: None)})
        error = TwinscaleError

        def ask(self, call, **arguments):
            if arguments["change"]:
                raise self.error("keras: it broke")

    planned = {"name": "x", **change("norm")}
    found = audit.trial(planned, MLP, Worker(), None, lambda: None)
    assert found["error"] == "keras: it broke" and not found["caught"] and not audit.sound(audit.summary([found]))
    Worker.process.poll = staticmethod(lambda: -9)
    for Worker.error in (TwinscaleError, CannotSave, Hung, HostLost, Stopped):  # the code of its end is the audit's
        with pytest.raises(Worker.error, match="with x planted: keras: it broke") as caught:
            audit.trial(planned, MLP, Worker(), None, lambda: None)
        assert caught.value.exit_code == Worker.error.exit_code


# ---- placing


def test_what_is_read_back_otherwise_than_saved_is_the_checkpoint_s(tmp_path):
    asked = []

    class Worker:
        backend = "keras"

        def ask(self, call, recipe, **arguments):
            asked.append((call, arguments.get("probe")))
            if call == "run_training":
                save_tensors(arguments["run_dir"] / "trace" / "final.safetensors",
                             {"weights/a": np.ones(2), "m/a": np.full(2, 0.5)})

    worker = Resumed(Worker(), tmp_path, 3)
    for backend in ("keras", "jax"):
        run = tmp_path / "runs" / f"{backend}-float64"
        (run / "trace").mkdir(parents=True)
        (tmp_path / "tensors").mkdir(exist_ok=True)
        worker.ask("run_training", MLP, run_dir=run, probe={"stop": 8, "saved": False})
        assert stopped_path(tmp_path, run.name).is_file()
        save_tensors(run / "trace" / "step_3.safetensors", {"weights/a": np.ones(2), "m/a": np.full(2, 0.5)})
    assert [probe["stop"] for _, probe in asked] == [3, 8, 3, 8] and all(probe["saved"] for _, probe in asked)
    assert resume_cause(MLP, tmp_path, 3) is None
    save_tensors(run / "trace" / "step_3.safetensors", {"weights/a": np.ones(2), "m/a": np.zeros(2)})
    found = resume_cause(MLP, tmp_path, 3)
    assert (found["operation"], found["where"], found["tensor"], found["step"]) == ("checkpoint", "a", "m/a", 3)


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


def test_who_hands_nothing_on_is_blamed_before_who_makes_nothing_of_it():
    """A branch that no gradient enters: its last layer's own gradients are zero too."""
    off = ["backward/block_0.attention.output", "gradients/block_0.attention.output.kernel"]
    found = placing.blamed(places(TEXT.model), off)
    assert found[:3] == ("residual", "block_0.residual_1", "backward")
    assert placing.blamed(places(TEXT.model), off[1:])[:2] == ("linear", "block_0.attention.output")


# ---- the command


@pytest.mark.parametrize("words, said", [
    (["--recipe", "recipes/mlp-digits.toml", "--clean", "3"], "--recipe: says where to plant"),
    (["train.steps=8"], "train.steps=8: changes a recipe, and none is given")])
def test_what_says_where_to_plant_needs_something_to_plant(words, said, tmp_path, capsys):
    assert cli.main(["audit", *words, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


# ---- what a trial takes of the backend in which nothing is planted

def test_a_backend_has_left_what_has_its_name_for_a_word(tmp_path):
    for backend in ROOMS:
        left = [compare_collect.run_path(tmp_path, run, MLP) for run in (backend, f"{backend}-twin")]
        left += [compare_collect.first_step_path(tmp_path, backend, MLP),
                 compare_collect.optimizer_path(tmp_path, backend, MLP),
                 compare_collect.taps_path(tmp_path, backend, MLP, 0), places_path(tmp_path, backend),
                 step_path(tmp_path, backend, MLP, "first"), tmp_path / f"contract-{backend}.json"]
        assert [audit.left_by(path.name) for path in left] == [backend] * len(left)
    assert audit.left_by("taps-keras-jaxonian-0.safetensors") == "keras"
    assert audit.left_by("jaxonian.json") is None is audit.left_by("kerastic-float64")
