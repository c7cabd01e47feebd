"""The user's own pair of optimizers in a recipe: what it may say, and what is called."""

import numpy as np
import pytest
from pydantic import ValidationError

from twinscale.common.errors import BadInput
from twinscale.common.optimizers import described
from twinscale.common.optimizers.pair import in_both
from twinscale.common.own import called
from twinscale.common.recipe import file
from twinscale.common.recipe.schema import Recipe
from twinscale.common.trust import Untrusted

FILE = """
def made(rate=0.5, betas=()):
    return ["made", rate, betas]

def breaks():
    raise KeyError("rate")

NUMBER = 1
"""


@pytest.fixture
def written(tmp_path, trusting):
    """The text of a recipe beside FILE, and what it is read as."""
    (tmp_path / "mine.py").write_text(FILE)

    def of(table, *overrides, read=file.given):
        path = tmp_path / "r.toml"
        path.write_text('name = "x"\n[data]\nsource = "digits"\n[model]\nfamily = "mlp"\n' + table)
        return read(path, overrides)

    return of


OWN = '[optimizer]\nkeras = "mine.py:made"\njax = "mine.py:made"\n'


def test_two_functions_are_a_pair_whose_content_is_of_the_recipe(written, tmp_path):
    recipe = written(OWN + "options = { rate = 0.25, betas = [1, 2] }\n")
    assert recipe.optimizer.name == "pair" and described(recipe.optimizer).theirs and "#sha256=" in recipe.optimizer.jax
    assert called("optimizer", recipe.optimizer, "keras", "an optimizer") == ["made", 0.25, [1, 2]]
    assert written(file.dumps(recipe)[file.dumps(recipe).index("[optimizer]"):].partition("[schedule]")[0]) == recipe
    (tmp_path / "mine.py").write_text(FILE + "#")
    assert written(OWN + "options = { rate = 0.25, betas = [1, 2] }\n").hash != recipe.hash


@pytest.mark.parametrize("more,said", [
    ("learning_rate = 0.1\n", "optimizer.learning_rate=0.1: .* inside of your own"),
    ("weight_decay = 0.1\n", "optimizer.weight_decay=0.1: .* inside of your own"),
    ('[schedule]\nkind = "cosine"\n', "schedule.kind=cosine: .*leave out"), ("beta1 = 0.5\n", "beta1"),
    ('name = "adamw"\n', "keras")])
def test_what_is_inside_of_them_is_not_said_here(written, more, said):
    with pytest.raises(BadInput, match=said):
        written(OWN + more)


def test_one_of_them_alone_is_no_pair(written):
    with pytest.raises(BadInput, match=r"optimizer.jax"):
        written('[optimizer]\nkeras = "mine.py:made"\n')
    with pytest.raises(BadInput, match="names no function: write FILE.py:OBJECT"):
        written(OWN.replace("mine.py:made", "made"))
    with pytest.raises(BadInput, match="no such file|cannot be read"):
        written(OWN.replace("mine.py", "mines.py"))


def test_what_breaks_or_is_no_function_is_said_with_its_line(written):
    breaks, number = (written(OWN.replace("made", name)).optimizer for name in ("breaks", "NUMBER"))
    with pytest.raises(BadInput, match=r"optimizer.jax = mine.py:breaks: breaks when .*KeyError[^$]*line 6"):
        called("optimizer", breaks, "jax", "an optimizer")
    with pytest.raises(BadInput, match="optimizer.keras = mine.py:NUMBER: int: a function .* an optimizer"):
        called("optimizer", number, "keras", "an optimizer")


def test_a_recipe_of_somebody_elses_does_not_run_them(written, monkeypatch):
    recipe = written(OWN)
    monkeypatch.setattr("twinscale.common.registry.is_trusted", lambda key: False)
    with pytest.raises(Untrusted):
        called("optimizer", recipe.optimizer, "jax", "an optimizer")


def test_a_pair_is_refused_by_a_schema_that_is_given_values():
    with pytest.raises(ValidationError, match="keras"):
        Recipe(name="x", data={"source": "digits"}, model={"family": "mlp"}, optimizer={"name": "pair"})


def test_slots_that_one_side_lacks_are_left_out_and_weights_are_not():
    ours = {"weights/a": np.zeros(1), "m/a": np.zeros(1), "keras.x/a": np.zeros(1)}
    theirs = {"weights/a": np.ones(1), "weights/b": np.ones(1), "m/a": np.ones(1), "optax.y/a": np.ones(1)}
    given, held = in_both(theirs, ours)
    assert given.keys() == {"weights/a", "weights/b", "m/a"} and held.keys() == {"weights/a", "m/a"}
