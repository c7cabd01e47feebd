"""A study trains what it lacks and nothing twice, keeps what failed, and leaves a table that `fit` reads."""

from dataclasses import replace

import pandas
import pytest

from tests.benchmarks.studies.conftest import TEXT
from twinscale.benchmarks.laws.forms import FORMS
from twinscale.benchmarks.laws.table import read_table
from twinscale.benchmarks.studies import study
from twinscale.common.errors import BadInput, CannotSave

LARGER = TEXT.replace("tokens = [3200, 12800]", "tokens = [1600, 3200, 6400, 12800]").replace(
    "hidden = [32] }", "hidden = [32] }, { model.hidden = [64] }")


def test_two_sizes_on_two_numbers_of_tokens_in_both_backends(asked, fake):
    found = study.studied(asked())
    assert found.counts == {"planned": 8, "finished": 8, "failed": 0} and len(set(fake.told)) == len(fake.told) == 8
    assert [name for name, _ in fake.told[:2]] == ["jax", "keras"] and fake.told[0][1] == fake.told[1][1]
    assert found.laws == {} and "4 finished runs" in found.lacking["jax"] and found.parity["pairs"] == 4
    frame = pandas.read_parquet(asked().out / "results.parquet")
    ends = frame[frame.state == "finished"]
    assert len(ends) == 8 and sorted(set(ends.D)) == [3200, 12800] and set(frame.state) == {"finished", "checkpoint"}
    assert (ends.C_6ND == 6 * ends.N * ends.D).all() and (ends.seconds == 2.0).all() and (ends.accuracy == 0.5).all()
    assert (ends.training_loss < ends.loss).all() and set(frame.run.value_counts()) == {2}
    most = ends.unique_D.max()
    assert (ends.unique_D == ends.D.clip(upper=most)).all() and most < 1797 and (ends.epochs == ends.D / most).all()


def test_a_study_that_is_killed_goes_on_and_one_that_grows_trains_what_is_new(asked, fake):
    fake.lives = 3
    with pytest.raises(KeyboardInterrupt):
        study.studied(asked())
    assert len(pandas.read_parquet(asked().out / "results.parquet").run.unique()) == 3
    assert study.studied(asked(trains=False)).counts == {"planned": 8, "finished": 3, "failed": 0}
    fake.told, fake.lives = [], 1000
    assert study.studied(asked()).counts["finished"] == 8 and len(fake.told) == 5
    fake.told = []
    grown = study.studied(asked(text=TEXT.replace("[32] }", "[32] }, { model.hidden = [64] }"), jobs=2, boots=0))
    assert grown.counts["finished"] == 12 and len(fake.told) == 4


def test_laws_of_both_backends_and_their_parity_and_the_table_is_read_by_fit(asked, fake):
    one = asked(text=LARGER)
    found = study.studied(one)
    assert set(found.laws) == {"jax", "keras"} and found.parity.agree and "agree within" in found.sentence
    assert found.parity.largest["difference"] == pytest.approx(1e-6, rel=1e-6)
    assert (one.out / "law-jax.toml").read_text().count("=") == 5
    table = read_table(str(one.out / "results.parquet"), FORMS["chinchilla"], {})
    assert len(table.y) == 24 and table.dropped == {"not finished": 24}


def test_a_run_that_fails_is_kept_with_its_reason(asked, fake):
    text = TEXT + "vary = { optimizer.learning_rate = [1e-3, 1.0] }\n"
    found = study.studied(asked(text=text))
    assert found.counts == {"planned": 16, "finished": 8, "failed": 8}
    failed = [run for run in found.runs if run.state == "failed"]
    assert {run.learning_rate for run in failed} == {1.0}
    assert all("not finite at step 7" in run.reason for run in failed)
    table = read_table(str(asked().out / "results.parquet"), FORMS["chinchilla"], {})
    assert len(table.y) == 8


def test_what_is_no_matter_of_a_run_ends_the_study(asked, fake, monkeypatch):
    def full(*_, **__):
        raise CannotSave("no space left on device")

    monkeypatch.setattr(fake, "ask", full)
    with pytest.raises(CannotSave):
        study.studied(asked())
    assert not (asked().out / "study.json").exists()


@pytest.mark.parametrize("changes, words", [
    ({"overrides": ("model.hiden=[3]",)}, "model.hiden"), ({"on": "slurm"}, "--on slurm: expected ray=HOST:PORT"),
    ({"overrides": ("train.global_batch=1700",)}, "1700 is more than the .* training examples|its tokens are less")])
def test_what_cannot_be_studied_is_said_before_anything_is_written(asked, fake, changes, words):
    one = replace(asked(), **changes)
    with pytest.raises(BadInput, match=words):
        study.study(**vars(one))
    assert not one.out.exists() and not fake.told


def test_a_dry_run_says_what_there_is_and_trains_nothing(asked, fake, capsys):
    assert study.study(**vars(asked()), dry=True) == 0
    said = capsys.readouterr().err
    assert "8 runs to train" in said and "about" in said and not asked().out.exists() and not fake.told


def test_another_recipes_study_is_not_mixed_with_it(asked, fake):
    assert study.studied(asked(trains=False)).counts["finished"] == 0
    with pytest.raises(BadInput, match="holds a study of another recipe"):
        study.studied(asked('name="other"'))
