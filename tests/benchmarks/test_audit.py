"""An audit without its trainings: what applies to a recipe, what is counted, and how what goes wrong in a run that goes
on, on several devices or in a whole step is placed."""


import pytest

from twinscale.benchmarks import audit, audit_result, compare_collect
from twinscale.benchmarks.rungs.later import step_path
from twinscale.benchmarks.rungs.operations import places_path
from twinscale.benchmarks.workers import ROOMS
from twinscale.common.errors import BadInput, CannotSave, HostLost, Hung, Stopped, TwinscaleError
from twinscale.common.families.adapters import check_adapters, tree_of
from twinscale.common.optimizers.factors import check_factors
from twinscale.common.recipe.schema import Recipe

MLP = Recipe.model_validate({"name": "mine", "data": {"source": "digits"}, "model": {"family": "mlp", "hidden": [8]},
                             "train": {"steps": 8, "global_batch": 4, "precision": "float64"}})


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


def test_what_its_recipes_adapt_and_freeze_is_there(tmp_path):
    recipes = {name: recipe for name, recipe in audit.make_recipes(tmp_path).items()
               if recipe.adapt.kind != "none" or recipe.optimizer.freeze}
    assert recipes.keys() == {"patches", "adapted"}
    for recipe in recipes.values():
        tree = tree_of(recipe, 10, (8, 8, 1))
        assert check_adapters(recipe, tree) is None is check_factors(recipe, tree)


def test_a_cause_is_right_where_it_names_what_was_planted_and_its_place():
    def is_right(operation, where, found):
        return audit.is_right({"operation": operation, "where": where}, found)

    norm = {"operation": "norm", "where": "block_0.norm_1"}
    assert is_right("norm", "*norm*", norm) and not is_right("linear", "*norm*", norm)
    at = {"operation": "program", "where": "fc", "place": "between in and fc, whose inputs differ"}
    assert is_right("program", "in", at) and not is_right("program", "fc", at)  # before fc is not at it
    assert is_right("program", "block/fc", {"operation": "program", "where": "block.fc"})
    assert not is_right("update", "fc", at)


def test_a_changes_name_is_that_of_a_directory_whatever_is_in_a_modules_path():
    for name in ("norm_epsilon", "scaled_output@fc"):
        assert audit.plain_name(name) == name
    names = ["a@b/c", "a@b-c", "a@b c", "a@" + "b" * 300, "a@" + "b" * 299, "swapped@a/k&b/k"]
    made = {audit.plain_name(name) for name in names}
    assert len(made) == len(names) and all(len(name) < 100 and "/" not in name and " " not in name for name in made)


def test_a_trial_that_fails_is_a_row_and_no_end(tmp_path):
    class Worker:
        backend = "keras"
        process = type("Process", (), {"poll": staticmethod(lambda: None)})
        error = TwinscaleError

        def ask(self, call, **arguments):
            if arguments["change"]:
                raise self.error("keras: it broke")

    planned = {"name": "x", **change("norm")}
    found = audit.trial(planned, MLP, Worker(), tmp_path, lambda: None)
    assert found["error"] == "keras: it broke" and not found["caught"]
    assert not audit.sound(audit_result.summary([found]))
    assert not list(tmp_path.iterdir())  # and the next tries it again
    Worker.process.poll = staticmethod(lambda: -9)
    for Worker.error in (TwinscaleError, CannotSave, Hung, HostLost, Stopped):  # the code of its end is the audit's
        with pytest.raises(Worker.error, match="with x planted: keras: it broke") as caught:
            audit.trial(planned, MLP, Worker(), tmp_path, lambda: None)
        assert caught.value.exit_code == Worker.error.exit_code


def test_an_audit_that_was_cut_short_makes_no_trial_twice(tmp_path, monkeypatch):
    class Worker:
        backend, asked = "keras", []

        def ask(self, call, **arguments):
            self.asked.append(call)

    found = {"caught": True, "placed": True, "failed": {"P2": float("inf"), "P4": 3.0}, "signal": float("inf"),
             "found": None}
    monkeypatch.setattr(audit, "judged", lambda *_: found)
    planned = {"name": "x@a/b", "backend": "keras", "meaning": "one of them", **change("norm")}
    asked, out, steps = {"verb": "audit", "only": [], "recipe": None}, tmp_path / "out", []
    audit.begin(out, asked, overwrite=False)
    first = audit.trial(planned, MLP, Worker(), out, lambda: steps.append(1))
    (out / "trials" / "layer").mkdir(parents=True)
    audit.begin(out, asked, overwrite=False)
    assert not (out / "trials").exists() and Worker.asked == ["plant", "plant"]
    again = audit.trial(planned, MLP, Worker(), out, lambda: steps.append(1))
    assert audit_result.summary([again]) == audit_result.summary([first])
    assert Worker.asked == ["plant", "plant"] and len(steps) == 2
    for other in ({"only": ["x"]}, {"recipe": MLP.hash}):
        with pytest.raises(BadInput, match="holds an unfinished result"):
            audit.begin(out, asked | other, overwrite=False)
    audit.begin(out, asked, overwrite=True)
    assert not (out / "rows").exists()


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
