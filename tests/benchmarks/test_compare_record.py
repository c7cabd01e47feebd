"""A verdict's circumstances: how it is asked for again."""

import shlex
from pathlib import Path

from twinscale.benchmarks.compare_record import reproducible


def test_a_report_asks_for_what_was_asked_for():
    made = reproducible(Path("a b"), ("r.toml", "train.steps=20"), plant="keras:adam_epsilon", operations=False,
                        place=True, swap=False, meshes=True, outcome="SEEDS=3")
    words = shlex.split(made["commands"][0])
    assert words == ["twinscale", "compare", "a b/recipe.toml", "--plant", "keras:adam_epsilon", "--place", "--meshes",
                     "--outcome", "SEEDS=3", "--out", "a b-again"]
    again = reproducible(Path("a b"), **made["arguments"] | {"swap": True})  # as bisect adds --place
    assert again["commands"][0].count("--swap") == 1 and again["arguments"]["overrides"] == ["train.steps=20"]
