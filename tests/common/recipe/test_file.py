"""Recipes from TOML: layers, origins, a stable hash, and errors that name place, key, value and fix."""

import os
import re
import time
import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.common.earlier import hashed_earlier
from twinscale.common import registry
from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.optimizers import described
from twinscale.common.recipe import file as recipe_file
from twinscale.common.recipe.file import RECIPES, differences, dumps, load, resolve
from twinscale.common.recipe.schema import Recipe

BASE = 'name = "base"\n[model]\nfamily = "decoder"\nlayers = 3\n[train]\nsteps = 5\n'


@pytest.fixture
def recipe(tmp_path):
    """Writes a file and returns its path."""
    def write(text, name="recipe.toml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path
    return write


def refusal(path, *overrides):
    with pytest.raises(BadInput) as caught:
        load(path, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


# ---- layers

def test_an_override_has_the_type_toml_gives_it_and_a_bare_word_is_text(recipe):
    got = load(recipe(BASE), ["train.steps=200", "model.dropout=0.1", "jax.scan=false", "data.augment=[]",
                              "name=other", 'data.field="3"', "data.source=text:/tmp/*.py"])
    assert (got.train.steps, got.model.dropout, got.jax.scan, got.data.augment) == (200, 0.1, False, ())
    assert (got.name, got.data.field, got.data.source) == ("other", "3", "text:/tmp/*.py")


def test_tables_merge_key_by_key_and_the_nearest_layer_wins(recipe):
    recipe(BASE, "base.toml")
    recipe("[train]\nsteps = 6\nglobal_batch = 4\n", "batch.toml")
    child = recipe('extends = ["base.toml", "batch.toml"]\nname = "child"\n[train]\nglobal_batch = 2\n', "child.toml")
    got, origins = resolve(child, ["train.keep=3"])
    assert (got.name, got.model.layers, got.train.steps, got.train.global_batch) == ("child", 3, 6, 2)
    places = ("name", "model.layers", "train.steps", "train.global_batch", "train.keep", "seed")
    assert [origins[key].rpartition("/")[2] for key in places] == [
        "child.toml", "base.toml", "batch.toml", "child.toml", "override", "default"]


def test_a_file_may_be_reached_twice_but_not_through_itself(recipe):
    recipe(BASE, "base.toml")
    recipe('extends = ["base.toml"]', "left.toml")
    recipe('extends = ["base.toml"]\nseed = 7', "right.toml")
    assert load(recipe('extends = ["left.toml", "right.toml"]', "diamond.toml")).seed == 7
    recipe('extends = ["b.toml"]', "a.toml")
    assert "a.toml -> b.toml -> a.toml" in refusal(recipe('extends = ["a.toml"]', "b.toml").with_name("a.toml"))


def test_many_ways_through_many_files_cost_no_more_than_the_files(recipe):
    recipe(BASE, "f0.toml")
    for i in range(60):  # 2**60 ways down
        last = recipe(f'extends = ["f{i}.toml", "f{i}.toml"]', f"f{i + 1}.toml")
    assert load(last).model.layers == 3


def test_a_family_chosen_later_must_fit_the_keys_chosen_earlier(recipe):
    path = recipe(BASE)
    message = refusal(path, "model.family=mlp", "data.source=digits")
    assert message == (f'{path}: key "model.layers": unknown key of model.family = "mlp"; '
                       "known here: family, hidden, activation, dropout")
    fits = recipe('name = "x"\n[model]\nfamily = "decoder"\ndropout = 0.5')
    assert load(fits, ["model.family=mlp", "data.source=digits"]).model.family == "mlp"


# ---- hash and text

def test_the_hash_ignores_file_order_and_spelling(recipe):
    one = load(recipe(BASE))
    two = load(recipe('[train]\nsteps=0b101\n[model]\nlayers=3\nfamily="decoder"\n[data]\n', "two.toml"), ["name=base"])
    assert one.hash == two.hash != load(recipe(BASE), ["train.steps=6"]).hash
    whole, decimal = (load(recipe(BASE), [f"optimizer.learning_rate={rate}"]) for rate in ("1", "1.0"))
    assert whole.hash == decimal.hash


text = st.text(st.characters(blacklist_categories=("Cc", "Cs")), max_size=20)
floats = st.floats(1e-300, 0.999)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(field=text, seed=st.integers(0, 2**63 - 1), rate=floats, beta=floats, steps=st.integers(1, 2**62),
       scan=st.booleans(), widths=st.lists(st.integers(1, 9)))
def test_a_resolved_recipe_written_as_toml_loads_to_the_same_hash(recipe, field, seed, rate, beta, steps, scan, widths):
    made = Recipe(name="x", seed=seed, data={"field": field, "source": "digits"},
                  model={"family": "mlp", "hidden": widths}, optimizer={"learning_rate": rate, "beta1": beta},
                  compare={"float64_steps": steps}, jax={"scan": scan})
    assert load(recipe(dumps(made))).hash == made.hash
    assert load(recipe(dumps(made, {"seed": "a # b\n\x00\"", "name": "default"}))).hash == made.hash


def test_free_options_of_xla_change_the_hash_alone_and_their_absence_does_not(recipe):
    """Recipes were hashed before there were any."""
    path = recipe(BASE)
    plain, none = load(path), load(path, ["jax.xla_options={}"])
    some = load(path, ["jax.xla_options.xla_a=true", "jax.xla_options.xla_b=3"])
    assert plain == none and plain.hash == none.hash != some.hash and plain.meaning == some.meaning
    assert plain.hash == hashed_earlier(plain) and some.hash != hashed_earlier(some)
    assert some.jax.xla_options == {"xla_a": True, "xla_b": 3} and load(recipe(dumps(some))) == some
    assert len({plain, none, some}) == 2 and hash(some) == hash(some.with_values(train={"steps": 5}))


def test_the_written_recipe_says_where_each_value_came_from(recipe):
    lines = dumps(*resolve(recipe(BASE), ["train.steps=9"])).splitlines()
    written = {line.split(" = ")[0]: line for line in lines if " = " in line}
    assert written["steps"].endswith("# override") and written["layers"].endswith("# " + str(recipe(BASE)))
    assert all(" # " in line for line in written.values())


def test_differences_name_the_keys(recipe):
    one, two = (load(recipe(BASE), o).model_dump(mode="json") for o in ([], ["train.steps=9", "data.augment=[]"]))
    assert differences(one, two) == ["train.steps is 5 there and 9 here"]
    assert differences({}, {"a": {"b": 1}}) == ["a.b is absent there and 1 here"]


# ---- refusals

@pytest.mark.parametrize("override, line", [
    ("train.step=1", 'override: key "train.step": unknown key; did you mean "train.steps"?'),
    ("learning_rate=1", 'override: key "learning_rate": unknown key; did you mean "optimizer.learning_rate"?'),
    ("train.steps=x", 'override: train.steps = "x": expected a whole number'),
    ("train.steps=1.5", "override: train.steps = 1.5: expected a whole number"),
    ("train.steps=0", "override: train.steps = 0: expected a value above 0"),
    ("train=3", "override: train = 3: expected a table"),
    ("model.tied=True", 'override: model.tied = "True": expected true or false'),
    ("name=3", 'override: name = 3: expected text in quotes, "..."'),
    ("optimizer.learning_rate=nan", "override: optimizer.learning_rate = NaN: expected a finite number"),
    ("schedule.kind=cosin", 'override: schedule.kind = "cosin": expected one of "constant", "cosine", "linear", "wsd"; '
                            'did you mean "cosine"?'),
    ("model.family=decodr", 'override: model.family = "decodr": expected one of "decoder", "convnet", "mlp", '
                            '"encoder", "pair", "resnet", "vit"; did you mean "decoder"?'),
    ("data.augment=flip", 'override: data.augment = "flip": expected a list in brackets, [...]'),
    ('data.augment=["flp"]', 'override: data.augment[0] = "flp": expected one of "flip", "shift", "cutout", "crop", '
                             '"resized-crop", "rand-augment", "mixup", "word-dropout", "span-mask"; '
                             'did you mean "flip"?'),
    ("data.augment=[flip]", "not TOML; text inside brackets needs quotes"),
    ("model.heads=3", "override: model.heads=3 does not divide model.width=128"),
    ("train.steps", 'override: "train.steps": expected key=value, such as train.steps=200'),
    ("train.steps=", 'override: "train.steps=": expected key=value'),
    ("=3", 'override: "=3": expected a dotted key'),
    ("jax.xla_options.xla-a=1", 'jax.xla_options: "xla-a": names are letters, digits and \'_\''),
    ("jax.xla_options.xla_a=[1]", "jax.xla_options.xla_a: a number, true, false or a text is wanted"),
    ("jax.xla_options.xla_a=inf", "jax.xla_options.xla_a: a number, true, false or a text is wanted"),
    ("jax.xla_options=3", "override: jax.xla_options = 3: expected a table"),
    ("extends=[]", 'override: key "extends": unknown key'),
    ('compress.stages=[{kind="prun"}]', 'override: compress.stages[0].kind = "prun": expected one of "prune", '
                                        '"quantize", "post_training", "cluster", "distil"; did you mean "prune"?'),
    ("compress.stages=[{every=7}]", "compress.stages[0].kind: missing; expected one of"),
    ('compress.stages=[{kind="prune", evry=7}]', 'did you mean "compress.stages[0].every"'),
    ('compress.stages=[{kind="distil", student={widht=3}}]', 'did you mean "compress.stages[0].student.width"'),
])
def test_a_wrong_override_is_one_line_with_place_value_and_fix(recipe, override, line):
    message = refusal(recipe(BASE), override)
    assert line in message and "\n" not in message and "Value error" not in message


@pytest.mark.parametrize("override", [
    "train.steps=" + "9" * 6000, "train.steps=0x" + "f" * 6000, "seed=9223372036854775808", "x" + ".x" * 5000 + "=1",
    "train.steps=" + "[" * 9000, "a={b={c={d={e={f={g={h={i=1}}}}}}}}", "name=a\nb", 'name="a\\u001b[2J"', "name=../up",
    "name=" + "n" * 65, "train.steps=1\ntrain.keep=9", "data.source=\udcff", "data.field=\x00", "model.layers=true",
    "seed=2020-01-01", "model=[[{}]]", "model.family=[1]", "model.family={}", "\x1b[2J=1", "optimizer.epsilon=-inf"])
def test_hostile_overrides_are_refused_in_one_short_safe_line(recipe, override):
    message = refusal(recipe(BASE), override)
    assert message.isprintable() and len(message) < 400 and message.startswith("override")


@pytest.mark.parametrize("content, words", [
    ("", "name: missing"),
    ("a = 1\na = 2", "is the key or table there twice?"),
    ("[train\n", "not TOML: Expected"),
    (b"name = '\xff'", "not UTF-8 text (byte 8)"),
    ("x = " + "[" * 9000, "nested too deeply"),
    ("[" + ".".join("a" * 4000) + "]", "nested too deeply"),
    ("x = " + "1" * 5000, "thousands of digits"),
    ("#" * (1 << 21), "larger than"),
    ('extends = "base.toml"', 'expected a list of files, extends = ["base.toml"]'),
    ('extends = ["bas.toml"]', 'extends = "bas.toml": no such file; did you mean "base.toml"?'),
    ('extends = [".."]', "no such file"),
    ('name = "x"\n[[model]]\nfamily = "mlp"', "model = [a table]: expected a table"),
    ('name = "x"\n[model]\nlayers = 2', 'model.family: missing; expected one of "decoder"'),
    (b'"a\\u001b" = 1\n' + BASE.encode(), 'key "a\\u001b": unknown key'),
])
def test_a_wrong_file_is_refused_by_name(recipe, content, words):
    recipe(BASE, "base.toml")
    path = recipe(content)
    message = refusal(path)
    assert words in message and all(line.startswith(str(path)) and line.isprintable() for line in message.splitlines())


def test_every_problem_is_listed_with_the_layer_it_came_from(recipe):
    recipe(BASE.replace("steps", "step"), "base.toml")
    child = recipe('extends = ["base.toml"]\nseed = -1', "child.toml")
    lines = refusal(child, "train.keep=no", "foo=1").splitlines()
    assert sorted(line.split(": ")[0].rpartition("/")[2] for line in lines) == [
        "base.toml", "child.toml", "override", "override"]
    assert len(refusal(recipe(BASE + "".join(f"k{i} = 1\n" for i in range(500)))).splitlines()) < 30


def test_a_clash_of_several_keys_names_the_layers_they_came_from(recipe):
    path = recipe(BASE)
    assert refusal(path, "data.source=digits").startswith(f"{path}, override: data.source=")


def test_a_recipe_of_ours_is_found_by_its_name_wherever_one_is_unless_a_file_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mlp-digits", "tpu/decoder-125m"):
        assert load(name) == load(RECIPES / f"{name}.toml")
    (tmp_path / "mlp-digits").write_text(BASE)
    assert load("mlp-digits") == load(tmp_path / "mlp-digits")
    assert "no such recipe file" in refusal("mlp-digits.toml")  # a path, and of no file


def test_paths_that_are_no_recipe_are_refused_and_a_near_name_is_offered(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("twinscale.common.recipe.file.RECIPES", tmp_path)
    recipe(BASE, "decoder-stdlib.toml")
    assert refusal("decoder-stdlb.toml") == 'decoder-stdlb.toml: no such recipe file; did you mean "decoder-stdlib"?'
    assert 'did you mean "decoder-stdlib"' in refusal("decoder-stdlb")
    assert "a directory" in refusal(tmp_path)
    for path in ("/dev/zero", "\0", "a" * 5000, tmp_path / "a\x1b.toml"):
        assert refusal(path).isprintable()


def test_a_message_about_a_long_value_keeps_its_end(recipe):
    message = refusal(recipe('name = "x"\n[model]\nfamily = "mlp"\n'), f"data.source=text:{'x' * 100_000}")
    assert len(message) < 1000 and 'model.family="mlp" does not read' in message


def test_what_turns_text_round_is_written_escaped(recipe):
    """A recipe goes to the terminal (`recipe show`) and comes back from a run with an equal hash."""
    made = load(recipe('name = "x"\n[data]\nsource = "text:\\u202e\\u2066\u6b65"\n[model]\nfamily = "decoder"\n'))
    text = dumps(made)
    assert "\u202e" not in text and "\u6b65" in text and load(recipe(text, "again.toml")).hash == made.hash


def test_what_is_no_regular_file_is_no_recipe_and_not_waited_for(recipe, tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    assert "a pipe, a socket or a device" in refusal(tmp_path / "pipe.toml")
    assert "no such file" in refusal(recipe('extends = ["pipe.toml"]', "child.toml"))


@pytest.mark.parametrize("text", ["".join(f"k{i} = 1\n" for i in range(50_000)),
                                  "[train]\n" + "".join(f"k{i} = 1\n" for i in range(50_000)),
                                  "".join(f'k{i} = "\\u001b"\n' for i in range(40_000)),
                                  ".".join("a" * 400_000) + " = 1", "x = {" + ".".join("a" * 400_000) + " = 1}",
                                  "a" * 1_000_000 + " = 1", 'extends = [' + '"base.toml",' * 70_000 + "]"],
                         ids=["root", "table", "hostile", "dotted", "inline", "long", "parents"])
def test_a_file_of_very_many_problems_is_answered_at_once(recipe, text):
    """In processor time: each of these has taken minutes or more. Twenty lines may name the file and a table's keys,
    which take 300 characters."""
    recipe(BASE, "base.toml")
    path = recipe(text)
    began = time.process_time()
    message = refusal(path)
    assert time.process_time() - began < 2 and len(message.splitlines()) <= 21 and len(message) < 21 * 400
    assert "k0" not in message or "... and" in message


def test_very_many_overrides_are_answered_at_once(recipe):
    path, began = recipe(BASE), time.process_time()
    assert load(path, [f"train.steps={i + 1}" for i in range(5000)]).train.steps == 5000
    assert "... and 4,980 more" in refusal(path, *(f"k{i}=1" for i in range(5000)))
    assert "nested too deeply" in refusal(path, "train.steps={" + "a." * 50_000 + "a=1}")
    assert time.process_time() - began < 3


@pytest.mark.parametrize("many", [[f"k{i}={i}" for i in range(50_000)], [f"train.k{i}=x" for i in range(50_000)],
                                  [f"train.steps={i}.5" for i in range(50_000)]], ids=["root", "table", "known"])
def test_fifty_thousand_overrides_are_answered_in_a_second(recipe, many):
    path, began = recipe(BASE), time.process_time()
    assert len(refusal(path, *many).splitlines()) <= 21
    assert time.process_time() - began < 1


@pytest.mark.parametrize("value", [
    "0", "-0", "+5", "007", "1.5", "-0.25", "1.", ".5", "1e3", "true", "false", "trueish", "inf", "nan", "+inf", "lion",
    "gelu_tanh", "a-b", "999999999999999999", "9223372036854775807", "1_000", "0x10", "2026-01-01", "12:00:00", "é"])
def test_what_is_sure_to_be_a_number_or_a_word_is_what_toml_says(value):
    try:
        said = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        said = value
    (_, found) = recipe_file._override(f"a.b={value}")
    assert repr(found) == repr(said)


def test_a_layer_leaves_those_it_is_laid_on_as_they_were(recipe):
    """One file reached on two ways, with another laid between, is the same file both times."""
    recipe(BASE, "base.toml")
    recipe('extends = ["base.toml"]\n[model]\nlayers = 7', "seven.toml")
    both = recipe('extends = ["seven.toml", "base.toml"]', "both.toml")
    assert load(both).model.layers == 3 and load(both, ["model.layers=5"]).model.layers == 5


# ---- what is somebody else's

PLUGIN = """
from pydantic import Field
from twinscale.common.optimizers import Optimizer, Options

class MineOptions(Options):
    warmth: float = Field(0.5, ge=0)

MINE = Optimizer("Mine", "w <- w", MineOptions, lambda o: {}, None, None, None)
"""


@pytest.fixture
def plugged(tmp_path, trusting):
    """A recipe beside a file that adds an optimizer, which the recipe names."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "mine.py").write_text(PLUGIN)
    recipe = folder / "recipe.toml"
    recipe.write_text('name = "theirs"\ndata.source = "digits"\nmodel.family = "mlp"\n'
                      'optimizer = {name = "mine.py:MINE", warmth = 2.0}\n')
    return recipe


def test_an_optimizer_of_a_file_has_its_own_options(plugged):
    recipe = load(plugged)
    assert recipe.optimizer.warmth == 2.0 and recipe.optimizer.learning_rate == 1e-3
    assert described(recipe.optimizer).title == "Mine"
    for value, said in {"optimizer.warmth=-1": "optimizer.warmth = -1: expected 0 or more",
                        "optimizer.beta1=0.5": 'key "optimizer.beta1": unknown key; known here: ',
                        "optimizer.warmht=1.0": 'did you mean "optimizer.warmth"?'}.items():
        with pytest.raises(BadInput, match=re.escape(said)):
            load(plugged, [value])


def test_a_file_is_beside_its_recipe_and_an_overrides_is_beside_the_caller(plugged, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    further = tmp_path / "further.toml"
    further.write_text('extends = ["theirs/recipe.toml"]\nname = "further"\n')
    own = f"{plugged.parent}/mine.py:MINE#sha256="
    assert load(further).optimizer.name.startswith(own)
    (tmp_path / "other.toml").write_text('name = "x"\ndata.source = "digits"\nmodel.family = "mlp"\n')
    assert load("other.toml", ["optimizer.name=theirs/mine.py:MINE"]).optimizer.name.startswith(own)


def test_a_files_content_is_part_of_the_hash_and_its_folder_is_not(plugged, tmp_path):
    first = load(plugged)
    moved = tmp_path / "moved"
    plugged.parent.rename(moved)
    again = load(moved / "recipe.toml")
    assert first.optimizer.name != again.optimizer.name
    assert (first.hash, first.meaning) == (again.hash, again.meaning)
    (moved / "mine.py").write_text(PLUGIN + "\n# changed\n")
    changed = load(moved / "recipe.toml")
    assert changed.hash != again.hash and changed.meaning != again.meaning


def test_a_resolved_recipe_takes_no_other_content_of_a_file(plugged, tmp_path):
    """What a run or another process is given says which content it means; what this process has, it keeps."""
    recipe = load(plugged)
    (tmp_path / "resolved.toml").write_text(dumps(recipe))
    assert load(tmp_path / "resolved.toml") == recipe
    (plugged.parent / "mine.py").write_text(PLUGIN + "\n# changed\n")
    assert load(tmp_path / "resolved.toml") == recipe
    registry.FILES.clear()  # as another process has it
    with pytest.raises(BadInput, match="mine.py: has another content than what was meant"):
        load(tmp_path / "resolved.toml")


def test_a_plugin_that_is_missing_or_breaks_is_one_line_of_the_recipe(plugged):
    for name, said in {"mne.py:MINE": "mne.py: no such file", "mine.py:MIEN": 'has no MIEN; did you mean "MINE"?',
                       "mine.py:Options": "is the class Options, but Optimizer of",
                       "nowhere_at_all:MINE": "Python finds no module nowhere_at_all"}.items():
        plugged.write_text(plugged.read_text().split("optimizer")[0] + f'optimizer.name = "{name}"\n')
        with pytest.raises((BadInput, MissingEnvironment), match=re.escape(said)) as error:
            load(plugged)
        assert str(error.value).startswith("optimizer.name = ") and "\n" not in str(error.value)
