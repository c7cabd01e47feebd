"""A verdict's circumstances: how it is asked for again."""

import shlex
from pathlib import Path
from types import SimpleNamespace

from twinscale.benchmarks.compare_record import figures_of, reproducible, unheeded
from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.rungs import ladder
from twinscale.common.files.run_files import RunFiles
from twinscale.common.recipe.schema import Recipe


def test_a_report_asks_for_what_was_asked_for():
    made = reproducible(Path("a b"), ("r.toml", "train.steps=20"), plant="keras:adam_epsilon", operations=False,
                        place=True, swap=False, meshes=True, outcome="SEEDS=3")
    words = shlex.split(made["commands"][0])
    assert words == ["twinscale", "compare", "a b/recipe.toml", "--plant", "keras:adam_epsilon", "--place", "--meshes",
                     "--outcome", "SEEDS=3", "--out", "a b-again"]
    again = reproducible(Path("a b"), **made["arguments"] | {"swap": True})  # as bisect adds --place
    assert again["commands"][0].count("--swap") == 1 and again["arguments"]["overrides"] == ["train.steps=20"]


def test_a_comparison_says_where_each_side_would_have_ended_early(tmp_path):
    recipe = Recipe(name="x", data={"source": "digits"}, model={"family": "mlp"}, train={
        "steps": 20, "eval_every": 5, "stop_after": 1})
    for side, losses in {"keras": (0.5, 0.6, 0.4), "jax": (0.5, 0.4, 0.3)}.items():
        file = RunFiles(ComparisonFiles(tmp_path).run(side, "float32")).metrics
        file.parent.mkdir(parents=True)
        file.write_text("".join(f'{{"step": {5 * i + 4}, "held_out/loss": {x}}}\n' for i, x in enumerate(losses)))
    assert unheeded(recipe.with_values(train={"stop_after": 0}), tmp_path) == []
    said, = unheeded(recipe, tmp_path)
    assert "Keras after step 10 and JAX not would have ended early, apart" in said


def test_what_a_tracker_shows_of_a_verdict_are_finite_numbers():
    near = ladder.rung("P2", "gradient", "one function", [ladder.check("float64", 1.0, 2, "logits", "eps")])
    exact = ladder.rung("P0", "contract", "same", [ladder.check("float64", 0, 0, "hashes", "bitwise")])
    assert figures_of(SimpleNamespace(agrees=True, rungs=[exact, near])) == {"agrees": 1.0, "margin/P2": 2.0}
