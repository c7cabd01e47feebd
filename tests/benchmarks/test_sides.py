"""What stands on the two sides of a comparison, and what they are called."""

import pytest

from twinscale.benchmarks.compare_judge import sentence
from twinscale.benchmarks.compare_record import between, differences
from twinscale.benchmarks.rungs import ladder, operations, outcome, own_optimizers
from twinscale.benchmarks.sides import (
    LABELS,
    framework_of,
    labelled,
    rooms_of,
    runtime_of,
    sides_of,
    spoken,
    titles_of,
    who,
)
from twinscale.common.recipe.file import given

OF_ONE = """name = "pair"
[data]
source = "digits"
[model]
family = "pair"
reads = "images"
match = "match.toml"
[programs]
framework = "FRAMEWORK"
a = "one.py:build"
b = "two.py:build"
"""


@pytest.fixture
def recipe_of(tmp_path):
    """recipe_of("flax"): a pair of two programs of a framework, which nobody here runs."""
    def of(framework):
        for name in ("one.py", "two.py"):
            (tmp_path / name).write_text("raise SystemExit\n")
        (tmp_path / "pair.toml").write_text(OF_ONE.replace("FRAMEWORK", framework))
        return given(tmp_path / "pair.toml")

    return of


@pytest.mark.parametrize(("framework", "key", "room"), [("keras", "keras", "tfscale"), ("flax", "jax", "jaxscale")])
def test_both_sides_of_one_framework_run_in_its_room_and_each_is_called_a_or_b(recipe_of, framework, key, room):
    model = recipe_of(framework).model
    assert framework_of(model) == key and set(rooms_of(model).values()) == {f"twinscale.{room}"}
    assert sides_of(model) == {"keras": "a", "jax": "b"}
    assert titles_of(model) == {"keras": "a (one.py:build)", "jax": "b (two.py:build)"}
    assert who(model) == f"a is one.py:build, b two.py:build, both {'Keras' if key == 'keras' else 'JAX'}"
    assert differences(recipe_of(framework)) == [["program", "one.py:build", "two.py:build"]]


def test_sides_of_two_frameworks_have_no_names_of_their_own():
    model = given("mlp-digits").model
    assert rooms_of(model) == {"keras": "twinscale.tfscale", "jax": "twinscale.jaxscale"}
    assert framework_of(model) is None and sides_of(model) == titles_of(model) == {}
    assert "Keras" in who(model)


def test_words_name_the_sides_of_the_comparison_that_is_made_and_no_other_framework(recipe_of):
    rungs = [ladder.rung("P2", "gradient", "one function", [ladder.check("float64", 1.0, 1e-9, "kernel", "twins")])]
    runs = {run: {"gradients/kernel": [1.0]} for run in ("keras", "keras-twin", "jax", "jax-twin")}
    metrics = {side: {seed: {"loss": 1.0} for seed in range(3)} for side in ("keras", "jax")}
    with labelled(recipe_of("keras").model):
        said = [sentence(rungs, "float32", {}), ladder.twin_check("jax", runs, set())["what"],
                *outcome.outcome_lines(outcome.outcome_rung(metrics, {"loss": 0.1})), spoken("jax-twin"),
                spoken("both")]
    assert said[0].startswith("a and b do not agree: P2") and said[1] == "float64, b against its twin"
    assert said[2].startswith("loss: a - b = ") and said[3:] == ["b-twin", "both"]
    assert LABELS == {"keras": "Keras", "jax": "JAX"} and spoken("jax-twin") == "jax-twin"
    assert sentence(rungs, "float32", {}).startswith("Keras and JAX do not agree")


@pytest.mark.parametrize(("pair", "one", "other"), [
    (("keras", "keras-jax"), "Keras on TensorFlow", "Keras on JAX"), ((), "Keras", "JAX"),
    (("keras-jax", "jax"), "Keras on JAX", "Flax on JAX"), (("keras", "jax"), "Keras on TensorFlow", "Flax on JAX")])
def test_checks_name_columns_by_their_titles_and_lines_of_progress_by_their_ids(pair, one, other):
    """A side's key is no name: of Keras on JAX it may be "keras" or "jax"."""
    row = {"place": "head", "operation": "dense", "way": "forward", "tensor": "forward/head", "error": 0.1,
           "bound": 1.0, "beside": None, "rare": None}
    places = {key: {"generic": {"own": [row], "float64": []}} for key in ("keras", "jax")}
    runs = {run: {"gradients/kernel": [1.0]} for run in ("keras", "keras-twin", "jax", "jax-twin")}
    with labelled(given("mlp-digits").model, pair):
        said = [check["what"] for check in operations.operations_rung([], places, "float32")["checks"]]
        twins = [ladder.twin_check(key, runs, set())["what"] for key in ("keras", "jax")]
        left = own_optimizers.said({"keras": {"v"}, "jax": {"m"}})
        progress = [spoken(run) for run in ("keras-twin", "jax")]
        named = who(None)
    assert said == [f"float32, {one}", f"float32, {other}"]
    assert twins == [f"float64, {one} against its twin", f"float64, {other} against its twin"]
    assert f"{one}'{'' if one == 'Keras' else 's'} v and {other}'s m" in left
    assert progress == [f"{(pair or ('keras', 'jax'))[0]}-twin", (pair or ("keras", "jax"))[1]]
    assert named == (f"a is {one}, b {other}" if pair else "a is the Keras model, b its port")


def test_names_are_put_back_where_a_comparison_fails(recipe_of):
    with pytest.raises(KeyError), labelled(recipe_of("keras").model):
        raise KeyError
    assert LABELS == {"keras": "Keras", "jax": "JAX"}


@pytest.mark.parametrize(("pair", "rooms", "labels", "meshes"), [
    (("keras", "keras-jax"), ("tfscale", "kerasjax"), ["Keras on TensorFlow", "Keras on JAX"], ["keras", "jax"]),
    (("keras-jax", "jax"), ("kerasjax", "jaxscale"), ["Keras on JAX", "Flax on JAX"], ["jax", "jax"])])
def test_a_pair_of_columns_has_the_two_keys_and_goes_by_its_columns_names(pair, rooms, labels, meshes):
    model, keys = given("mlp-digits").model, ("keras", "jax")
    assert rooms_of(model, pair) == {key: f"twinscale.{room}" for key, room in zip(keys, rooms, strict=True)}
    assert titles_of(model, pair) == dict(zip(keys, labels, strict=True))
    rungs = [ladder.rung("P2", "gradient", "one function", [ladder.check("float64", 1.0, 1e-9, "kernel", "twins")])]
    with labelled(model, pair):
        said = sentence(rungs, "float32", {})
        assert [spoken(key) for key in keys] == list(pair) and spoken("jax-twin") == f"{pair[1]}-twin"
        assert [runtime_of(key) for key in keys] == meshes
    assert said.startswith(" and ".join(labels) + " do not agree")
    assert spoken("keras") == "keras" and runtime_of("keras") == "keras" and LABELS["jax"] == "JAX"


def test_what_two_columns_share_is_no_difference_between_them():
    recipe = given("mlp-digits")
    assert [row[0] for row in between(recipe, ("keras", "keras-jax"))] == ["runtime", "how it runs"]
    assert between(recipe, ("keras-jax", "jax")) == [["program", "Keras functional graph", "Flax NNX modules"]]
