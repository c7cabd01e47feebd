"""The file of a search: what it may say, and in one line what it may not."""

import pytest

from twinscale.benchmarks.tuning.space import Axis, direction_of, grid_of, overrides_of, read_search
from twinscale.common.errors import BadInput


def written(tmp_path, text):
    file = tmp_path / "space.toml"
    file.write_text(text)
    return file


def test_a_key_is_the_same_dotted_quoted_and_in_a_table(tmp_path):
    said = "{ low = 1e-4, high = 1, log = true }"
    spellings = (f"[space]\noptimizer.learning_rate = {said}", f'[space]\n"optimizer.learning_rate" = {said}',
                 f"[space.optimizer]\nlearning_rate = {said}")
    for text in spellings:
        search, axes = read_search(written(tmp_path, text))
        assert axes == (Axis("optimizer.learning_rate", 1e-4, 1.0, log=True),)
        assert search.metric == "loss" and direction_of(search, tmp_path, ()) == "minimize"


def test_lists_are_choices_and_become_what_the_recipe_takes(tmp_path):
    _, axes = read_search(written(tmp_path, "[space]\nmodel.hidden = { choices = [[64], [64, 32]] }\n"
                                            "model.layers = { low = 1, high = 5, step = 2 }"))
    assert grid_of(axes) == {"model.hidden": ["[64]", "[64, 32]"], "model.layers": [1, 3, 5]}
    assert overrides_of(axes, {"model.hidden": "[64, 32]", "model.layers": 3}) == ["model.hidden=[64, 32]",
                                                                                  "model.layers=3"]


def test_steps_of_fractions_reach_the_end():
    assert len(grid_of((Axis("x", 0.0, 0.3, 0.1),))["x"]) == 4


@pytest.mark.parametrize("text, words", [
    ("[space]", "space: empty"),
    ("[space]\ntrain.steps = 7", "space.train.steps = 7: expected"),
    ("[space]\ntrain.steps = { low = 1 }", "space.train.steps.high: missing"),
    ("[space]\ntrain.steps = { low = 9, high = 3 }", "low = 9: expected less than high = 3"),
    ("[space]\ntrain.steps = { low = 1, high = 3, stepp = 1 }", 'stepp: unknown.*did you mean "step"'),
    ("[space]\ntrain.steps = { low = 0, high = 3, log = true }", "low = 0: log = true wants it above 0"),
    ("[space]\ntrain.steps = { low = 1, high = 9, step = 0.5 }", "step = 0.5: expected a whole number"),
    ("[space]\ntrain.steps = { low = 1.0, high = 9.0, step = 1, log = true }", "has no steps"),
    ("[space]\ntrain.steps = { low = 1, high = inf }", "high = inf: expected a finite number"),
    ("[space]\nmodel.norm = { choices = [] }", "expected a list"),
    ('[space]\nmodel.norm = { choices = ["rms", "rms"] }', "there twice"),
    ('sampler = "tpf"\n[space]\ntrain.steps = { low = 1, high = 3 }', "sampler = .*tpf"),
    ('metrik = "loss"\n[space]\ntrain.steps = { low = 1, high = 3 }', "metrik"),
    ('sampler = "grid"\n[space]\ntrain.steps = { low = 1.0, high = 3.0 }', "no steps; give it a step"),
    ('sampler = "grid"\n[space]\ntrain.steps = { low = 1, high = 1000000 }', "1,000,000 points, and 100,000 at most"),
    ('pruner = "median"\ncost = "flops"\n[space]\ntrain.steps = { low = 1, high = 3 }', "a second one; leave one"),
])
def test_what_cannot_be_is_one_line_with_the_key_and_its_value(tmp_path, text, words):
    with pytest.raises(BadInput, match=words) as caught:
        read_search(written(tmp_path, text))
    assert "space.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_metric_that_nobody_knows_wants_a_direction(tmp_path):
    text = '\n[space]\ntrain.steps = { low = 1, high = 3 }'
    search, _ = read_search(written(tmp_path, f'metric = "entity_f1"{text}'))
    with pytest.raises(BadInput, match='direction: missing.*metric = "entity_f1"'):
        direction_of(search, tmp_path, ())
    assert direction_of(search, tmp_path, ("entities",)) == "maximize"
    search, _ = read_search(written(tmp_path, f'metric = "entity_f1"\ndirection = "minimize"{text}'))
    assert direction_of(search, tmp_path, ("entities",)) == "minimize"


@pytest.mark.parametrize("metric, direction", [("accuracy", "maximize"), ("perplexity", "minimize")])
def test_what_is_always_measured_needs_no_direction(tmp_path, metric, direction):
    search, _ = read_search(written(tmp_path, f'metric = "{metric}"\n[space]\ntrain.steps = {{ low = 1, high = 3 }}'))
    assert direction_of(search, tmp_path, ()) == direction
