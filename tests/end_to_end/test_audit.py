"""The gate itself: planted errors are caught and placed, harmless changes pass, and only where asked for."""

import json

import pytest

from twinscale.benchmarks import audit as auditing
from twinscale.common.errors import BadInput
from twinscale.common.planted.mutants import CHANGES
from twinscale.common.planted.planting import HAS
from twinscale.common.recipe.schema import Recipe

PORTING = {"adam_epsilon", "tanh_gelu", "decayed_biases", "late_schedule"}
# Forward, in the sum, in the update and in a later step; and a harmless change. The slow test has all, in the audit's
# own recipes; here they show in the one of them that has all that they need, but shorter and without random bits, which
# take half of the time that it computes.
SOME = [*sorted(PORTING), "last_micro_batch", "reversed_rows"]
DENSE = auditing.RECIPES["dense"]
OWN = Recipe.model_validate({"name": "small", "keras": {"jit_compile": False}, **DENSE, "model": auditing.MLP,
                             "train": {**DENSE["train"], "steps": 4}})


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("audit") / "out"
    code = auditing.audit(out, only=SOME, own=OWN, asked=("small.toml",))
    return code, json.loads((out / "audit.json").read_text())


def test_what_is_planted_is_caught_and_placed_and_what_is_harmless_passes(found):
    code, audit = found
    assert code == 0, [row for row in audit["rows"] if row["caught"] != bool(row["operation"])]
    # Both backends have an epsilon of Adam and a GELU of their own.
    assert (audit["mutants"], audit["caught"], audit["placed"]) == (7, 7, 7)
    assert (audit["neutral"], audit["flagged"]) == (1, 0)


@pytest.mark.slow
def test_all_that_can_be_planted_is_caught_and_placed_and_no_harmless_change_is_flagged(tmp_path):
    assert auditing.audit(tmp_path / "out") == 0


def test_a_wrong_model_fails_the_gradient_and_a_wrong_update_the_optimizer(found):
    failed = {row["name"]: set(row["failed"]) for row in found[1]["rows"] if row["name"] in PORTING}
    assert failed.keys() == PORTING
    for name, rungs in failed.items():
        assert "P4" in rungs
        assert ("P2" in rungs) == (name == "tanh_gelu"), name
        assert ("P3" in rungs) == (name != "tanh_gelu"), name


def test_signal_stands_far_above_noise(found):
    """A semantic error in float64 is a million times the rounding that a bound allows."""
    assert min(row["signal"] or 0 for row in found[1]["rows"] if row["operation"]) > 1e6


@pytest.fixture(scope="module")
def listed():
    """What each backend's worker says that it can plant."""
    rooms = {"keras": "tfscale", "jax": "jaxscale"}
    modules = {b: __import__(f"twinscale.{room}.mutants", fromlist=["MUTANTS"]) for b, room in rooms.items()}
    return {b: {name: vars(c) | {"needs": c.needs, "phase": c.phase, "meaning": c.meaning, "shared": name in CHANGES}
                for name, c in (module.MUTANTS | module.NEUTRAL).items()} for b, module in modules.items()}


def test_both_backends_have_enough_to_plant(listed):
    trials, left = auditing.plan(listed, None)
    assert not left and all(t["meaning"] for t in trials)
    assert sum(bool(t["operation"]) for t in trials) >= 100 and sum(not t["operation"] for t in trials) >= 24
    assert {t["backend"] for t in trials} == {"keras", "jax"}
    phases = {"data", "forward", "loss", "backward", "accumulation", "clip", "optimizer", "EMA", "schedule",
              "evaluation", "checkpoint", "devices"}
    assert phases <= {t["phase"] for t in trials}
    with pytest.raises(BadInput, match="no change has such a name"):
        auditing.plan(listed, ["no_such_*"])


def test_every_change_is_planted_where_it_shows(listed, tmp_path):
    """In a recipe that has all that it needs; and between them they have every precision, optimizer and family."""
    recipes = auditing.make_recipes(tmp_path)
    lacking = [(b, name, word) for b, changes in listed.items() for name, c in changes.items() for word in c["needs"]
               if not HAS[word](recipes[c["recipe"]])]
    assert not lacking
    of = {"precision": {r.train.precision for r in recipes.values()}, "name": {r.optimizer.name for r in recipes.values(
        )}, "family": {r.model.family for r in recipes.values()}}
    assert of == {"precision": {"float64", "float32", "bfloat16"}, "name": {"adamw", "lion", "lamb", "sgd"},
                  "family": {"decoder", "convnet", "mlp", "encoder", "resnet", "vit"}}
    used = {c["recipe"] for changes in listed.values() for c in changes.values() if c["operation"]}
    assert used == recipes.keys()
