"""A design becomes recipes, all of which are looked at before one is trained."""

import pytest

from tests.benchmarks.studies.conftest import SIZES
from twinscale.benchmarks.studies.design import planned, read_study
from twinscale.common.errors import BadInput

HEAD = 'recipe = "mlp-digits"\nbackend = "jax"\n'
TEXT = """
recipe = "decoder-stdlib"
[design]
kind = "grid"
sizes = [{ model.layers = 1, model.width = 16, model.heads = 2 }, { model.width = 64 }]
tokens = [10_240, 204_800]
"""


def runs_of(tmp_path, text, *overrides):
    file = tmp_path / "study.toml"
    file.write_text(text)
    return planned(read_study(file), file, overrides)


def test_updates_are_those_of_the_tokens_and_the_schedule_keeps_its_proportion(tmp_path):
    runs = runs_of(tmp_path, TEXT, "train.global_batch=16")
    assert len(runs) == 8 and [run.backend for run in runs[:2]] == ["jax", "keras"]
    by_steps = {run.recipe.train.steps: run for run in runs}
    assert set(by_steps) == {5, 100} and by_steps[100].tokens == 204_800  # of 16 rows of 128
    assert (by_steps[5].recipe.schedule.warmup, by_steps[100].recipe.schedule.warmup) == (1, 10)  # 20 of 200
    assert [run.flops for run in runs] == sorted(run.flops for run in runs)
    small = runs[0]
    assert small.size.total - small.size.without_embeddings == 257 * 16 + 128 * 16
    assert 0.5 < small.flops / (6 * small.size.total * small.tokens) < 2


def test_a_decay_keeps_its_proportion_too_and_fits_beside_the_warmup(tmp_path):
    wsd = ('schedule={kind="wsd", warmup=100, decay=100, final=0.1}', "train.steps=200", "train.global_batch=16")
    runs = {run.recipe.train.steps: run.recipe.schedule for run in runs_of(tmp_path, TEXT, *wsd)}
    assert (runs[5].warmup, runs[5].decay) in ((2, 2), (3, 2)) and (runs[100].warmup, runs[100].decay) == (50, 50)


def test_tokens_a_parameter_grow_with_the_size(tmp_path):
    text = HEAD + f'[design]\nkind = "grid"\nsizes = {SIZES}\ntokens_per_parameter = [10]'
    runs = runs_of(tmp_path, text)
    assert len(runs) == 2 and all(abs(run.tokens / run.size.total - 10) < 0.5 for run in runs)


def test_profiles_have_equal_operations_and_the_sizes_nearest_to_the_best_of_a_law(tmp_path):
    sizes = ", ".join(f"{{ model.hidden = [{width}] }}" for width in (8, 12, 16, 24, 32, 48, 64))
    text = HEAD + f'[design]\nkind = "isoflop"\nbudgets = [3e8, 1e9]\nsizes = [{sizes}]\n'
    everything = runs_of(tmp_path, text)
    assert len(everything) == 14
    for run in everything:
        assert min(abs(run.flops / flops - 1) for flops in (3e8, 1e9)) < 0.02
    (tmp_path / "law.toml").write_text("e = 1.0\na = 20.0\nb = 20.0\nalpha = 0.4\nbeta = 0.4\n")  # N* = sqrt(C / 6)
    few = runs_of(tmp_path, text + 'around = "law.toml"\nnearest = 4\n')
    assert len(few) == 8
    largest = {flops: max(run.size.total for run in few if abs(run.flops / flops - 1) < 0.02) for flops in (3e8, 1e9)}
    assert largest[3e8] <= largest[1e9] and min(run.size.total for run in few) > min(
        run.size.total for run in everything)


def test_a_ladder_varies_any_key_over_every_combination_and_seed(tmp_path):
    text = HEAD + ('seeds = [1, 2]\n[design]\nkind = "ladder"\n'
                   "vary = { optimizer.learning_rate = [1e-3, 1e-2], train.global_batch = [8, 16] }")
    runs = runs_of(tmp_path, text)
    assert len({run.recipe.hash for run in runs}) == len(runs) == 8
    assert {run.recipe.seed for run in runs} == {1, 2} and {run.recipe.train.global_batch for run in runs} == {8, 16}


@pytest.mark.parametrize("design, words", [
    ('kind = "grid"\nsizes = [{ model.hiden = [3] }]\ntokens = [99]', "hiden"),
    ('kind = "grid"\nsizes = [{ model.hidden = [3] }]\ntokens = [1]', "its tokens are less than half of an update's"),
    ('kind = "grid"\nsizes = [{ model.hidden = [3] }]', "set one of tokens and tokens_per_parameter"),
    ('kind = "grid"\ntokens = [99]', "design.sizes: missing or empty"),
    ('kind = "grid"\nsizes = [{ model.hidden = [3] }]\nbudgets = [1e9]', "design.budgets: not of kind"),
    ('kind = "ladder"\nvary = { optimizer.learning_rate = 3 }', "expected a list of values"),
    ('kind = "ladder"\nvary = { devices.hosts = [2] }', "devices.hosts"),
    ('kind = "lader"', "design.kind")])
def test_what_cannot_be_trained_is_named_with_its_key(tmp_path, design, words):
    with pytest.raises(BadInput, match=words):
        runs_of(tmp_path, HEAD + f"[design]\n{design}\n")


def test_a_recipe_beside_the_study_is_taken(tmp_path):
    (tmp_path / "mine.toml").write_text('name = "mine"\n[model]\nfamily = "mlp"\n[data]\nsource = "digits"\n')
    text = 'recipe = "mine.toml"\n[design]\nkind = "ladder"\nvary = { model.hidden = [[3]] }'
    assert {run.recipe.name for run in runs_of(tmp_path, text)} == {"mine"}
