"""The family of pairs: what is asked of it without either program."""

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.families import family_of, reads_text, traits_of
from twinscale.common.families.pair import check_backend, is_of_one, refuse_of_one, side_in, sides_of, whence
from twinscale.common.families.parameters import initial_values, parameters
from twinscale.common.families.places import WHOLE, places
from twinscale.common.pairs.first import write_first
from twinscale.common.pairs.tensors import Tensor
from twinscale.common.recipe.file import dumps, resolve
from twinscale.common.recipe.file import given as load
from twinscale.common.recipe.schema import mesh_shape

TENSORS = (Tensor("dense/kernel", (4, 3)), Tensor("bn/moving_mean", (3,), False))
TEXT = """name = "pair"
[data]
source = "digits"
[model]
family = "pair"
reads = "images"
keras = "mine.py:build"
flax = "mine.py:port"
match = "match.toml"
[model.options]
width = 3
sizes = [1, 2]
"""


@pytest.fixture
def recipe(tmp_path):
    """The recipe's file, beside a file of the programs, which nobody here runs."""
    (tmp_path / "mine.py").write_text("raise SystemExit\n")
    (tmp_path / "pair.toml").write_text(TEXT)
    return tmp_path / "pair.toml"


def left(folder, value=1.0):
    write_first(folder / "match.safetensors", TENSORS, {tensor.path: np.full(tensor.shape, value, np.float32)
                                                        for tensor in TENSORS})
    (folder / "match.toml").write_text('[tensors]\n"w" = "dense/kernel"\n')


def test_the_tree_is_that_of_the_file_of_first_weights(recipe):
    left(recipe.parent, 0.1)
    model = load(recipe).model
    tree = parameters(model, 10, (8, 8, 1))
    assert {name: p.shape for name, p in tree.items()} == {"dense.kernel": (4, 3), "bn.mean": (3,)}
    first = initial_values(tree, 0, "float32")
    assert np.array_equal(first["dense.kernel"], np.full((4, 3), 0.1, np.float32))
    twin = initial_values(tree, 0, "float32", 2.0**-10)["dense.kernel"]
    assert 0 < np.abs(twin - first["dense.kernel"]).max() <= 0.1 * 2.0**-10 * 1.01
    assert [place.operation for place in places(model).values()] == [WHOLE] and not reads_text(model)
    assert family_of(model).reads == "images"


def test_no_program_is_run_by_who_only_reads_the_recipe_and_what_its_files_hold_is_its_meaning(recipe, tmp_path):
    before = load(recipe)
    left(recipe.parent)
    matched = load(recipe)
    left(recipe.parent, 2.0)
    other = load(recipe)
    assert len({before.meaning, matched.meaning, other.meaning}) == 3
    written = tmp_path / "elsewhere.toml"
    written.write_text(dumps(other))
    assert load(written).hash == other.hash
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in ("mine.py", "pair.toml", "match.toml", "match.safetensors"):
        (moved / file).write_bytes((recipe.parent / file).read_bytes())
    assert load(moved / "pair.toml").hash == other.hash


@pytest.mark.parametrize(("old", "new", "said"), [
    ("[model.options]", "[model.inputs]\nids = {}\n[model.options]",
     'model.inputs.ids: a batch of images has no such array: it has inputs, .*; model.reads = "arrays"'),
    ('"mine.py:build"', '"mine.py"', '"mine.py" names no program: write FILE.py:OBJECT'),
    ('"mine.py:port"', '"other.py:port"', r"other\.py"),
    ('reads = "images"\n', "", "model.reads: missing"),
    ("width = 3", "width = {}", "model.options.width"),
    ('match = "match.toml"\n', "", "model.match: missing")])
def test_what_does_not_fit_is_refused_with_the_key(recipe, old, new, said):
    recipe.write_text(TEXT.replace(old, new))
    with pytest.raises(BadInput, match=said):
        load(recipe)


def test_a_pair_that_was_not_matched_yet_is_told_the_verb(recipe):
    with pytest.raises(BadInput, match=r"match.safetensors: no such file: `twinscale match RECIPE` makes it"):
        parameters(load(recipe).model, 10, (8, 8, 1))


def test_who_names_no_match_is_asked_for_that_alone(recipe):
    """First weights lie beside it."""
    recipe.write_text(TEXT.replace('match = "match.toml"\n', ""))
    with pytest.raises(BadInput, match=r"model\.match: missing") as caught:
        load(recipe)
    assert "weights" not in str(caught.value)


SHARD = """[model.shard]
"dense/*" = ["fsdp", "tensor"]
"""


def test_rules_of_how_tensors_lie_are_over_names_as_a_match_has_them_and_refused_where_they_do_not_fit(recipe):
    left(recipe.parent)
    assert traits_of(load(recipe).model).sharding.rules == ()
    recipe.write_text(TEXT.replace("[model.options]", f"{SHARD}[model.options]"))
    assert traits_of(load(recipe).model).sharding.rules == (("dense.*", ("fsdp", "tensor")),)
    fits = load(recipe, ["devices.fsdp=2", "devices.tensor=3"])
    assert mesh_shape(fits, "JAX", 6, "cpu")["tensor"] == 3
    with pytest.raises(BadInput, match=r"devices.tensor=2 does not divide 3 of dense.kernel \(4, 3\)"):
        mesh_shape(load(recipe, ["devices.tensor=2"]), "JAX", 2, "cpu")
    for axes, said in (('["rows", ""]', '"rows": expected "fsdp", "tensor" or ""'),
                       ('["fsdp", "fsdp"]', '"fsdp" shares one dimension of a tensor alone')):
        recipe.write_text(TEXT.replace("[model.options]", SHARD.replace('["fsdp", "tensor"]', axes)
                                       + "[model.options]"))
        with pytest.raises(BadInput, match=said):
            load(recipe)


# ---- two programs of one framework

PROGRAMS = """
[programs]
framework = "keras"
a = "mine.py:build"
b = "mine.py:rewritten"
"""
OF_ONE = TEXT.replace('keras = "mine.py:build"\nflax = "mine.py:port"\n', "") + PROGRAMS


def test_programs_of_one_framework_are_of_the_model_and_each_side_is_one_training_of_one_meaning(recipe):
    usual = load(recipe)
    recipe.write_text(OF_ONE)
    one, other = load(recipe), load(recipe, ["programs.side=b"])
    assert is_of_one(one.model) and sides_of(one.model) == ("a", "b") and not is_of_one(usual.model)
    assert one.model.b.startswith(f"{recipe.parent}/mine.py:rewritten#sha256=")
    assert (side_in(one.model, "keras"), side_in(other.model, "keras")) == ("a", "b")
    assert (side_in(usual.model, "keras"), side_in(usual.model, "flax")) == ("keras", "flax")
    assert one.meaning == other.meaning and one.hash != other.hash
    written = recipe.with_name("written.toml")
    written.write_text(dumps(other))
    assert load(written).hash == other.hash and 'side = "b"' in dumps(other)
    assert not {"a", "b", "framework", "side"} & usual.model_dump()["model"].keys()  # whose hash is what it was
    assert resolve(recipe, [f"programs.b={recipe.parent}/mine.py:build"])[1]["model.b"] == "override"


def test_a_process_of_the_other_framework_and_verbs_without_such_pairs_refuse_them_by_name(recipe):
    recipe.write_text(OF_ONE)
    model = load(recipe).model
    check_backend(model, "keras")
    with pytest.raises(BadInput, match='model.framework = "keras": .* none runs on JAX: take --backend keras'):
        check_backend(model, "jax")
    with pytest.raises(BadInput, match="bench takes no two programs of one framework: why"):
        refuse_of_one(model, "bench", "why")
    with pytest.raises(BadInput, match="model.side='c': nothing here is called so"):
        side_in(model.model_copy(update={"side": "c"}), "keras")
    recipe.write_text(TEXT)
    refuse_of_one(load(recipe).model, "bench", "why")
    check_backend(load(recipe).model, "jax")


@pytest.mark.parametrize(("old", "new", "said"), [
    ('framework = "keras"\n', "", 'model.framework: missing; say .* framework = "keras" or "flax"'),
    ('b = "mine.py:rewritten"\n', "", "model.b: missing; add model.b = "),
    ('framework = "keras"', 'framework = "torch"', 'model.framework = "torch": expected one of'),
    ('b = "mine.py:rewritten"', 'c = "mine.py:rewritten"', 'key "model.c": unknown key'),
    ("[programs]", "[model.outputs]\nkeras = \"x\"\n[programs]",
     "model.outputs.keras: the programs of this pair are a and b"),
    ('match = "match.toml"', 'match = "match.toml"\nkeras = "mine.py:build"',
     "model.keras: a pair is of keras and flax, or of a and b"),
    ('family = "pair"', 'family = "mlp"', r"\[programs\] are those of a pair")])
def test_what_is_no_two_programs_is_refused_with_the_key(recipe, old, new, said):
    recipe.write_text(OF_ONE.replace(old, new))
    with pytest.raises(BadInput, match=said):
        load(recipe)


def test_where_first_weights_come_from_is_said(recipe):
    left(recipe.parent)
    assert whence(load(recipe).model) == "match.safetensors"
    (recipe.parent / "match.toml").write_text("# First weights: the Keras model's initial values.\n[tensors]\n")
    assert whence(load(recipe).model) == "the Keras model's initial values"
    np.savez(recipe.parent / "port.npz", w=np.ones(2))
    recipe.write_text(TEXT.replace('match = "match.toml"', 'match = "match.toml"\nweights = "port.npz"\n'
                                   'weights_of = "flax"'))
    before = load(recipe)
    assert whence(before.model) == "the checkpoint port.npz, of its port"
    np.savez(recipe.parent / "port.npz", w=np.zeros(2))
    assert load(recipe).meaning != before.meaning


def test_what_moves_without_being_trained_is_of_each_micro_batch_and_nothing_is_known_inside(recipe):
    left(recipe.parent)
    traits = traits_of(load(recipe).model)
    assert traits.foreign and traits.norm == "batch"
    write_first(recipe.parent / "match.safetensors", TENSORS[:1], {"dense/kernel": np.ones((4, 3), np.float32)})
    assert traits_of(load(recipe).model).norm == ""


def test_programs_that_nothing_can_train_are_refused(recipe):
    left(recipe.parent)
    write_first(recipe.parent / "match.safetensors", TENSORS[1:], {"bn/moving_mean": np.ones(3, np.float32)})
    with pytest.raises(BadInput, match="model.keras: the program has no tensor that is trained"):
        parameters(load(recipe).model, 10, (8, 8, 1))
