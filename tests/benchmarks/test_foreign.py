"""Two trainings of which Twinscale ran one at the most: their differences are told, and nothing is bounded."""

import json

import numpy as np
import pytest

from twinscale.benchmarks import foreign
from twinscale.benchmarks.foreign import Asked, compare_foreign, compared_foreign
from twinscale.common.errors import INCONCLUSIVE, BadInput

LOSSES = [2.5, 2.0, 1.5, 1.25]


@pytest.fixture
def csv(tmp_path):
    """csv("a.csv", [2.5, ...]): a file of losses, from a step on."""
    def make(name, losses=LOSSES, first=0, head="step,loss"):
        path = tmp_path / name
        path.write_text(head + "\n" + "".join(f"{first + i},{float(loss)!r}\n" for i, loss in enumerate(losses)))
        return path

    return make


def test_the_first_the_largest_and_the_last_difference_are_told_and_it_stays_open(csv, tmp_path, capsys):
    other = csv("b.csv", [2.5, 2.125, 1.0, 1.5])
    assert compare_foreign(csv("a.csv"), other, tmp_path / "out", Asked(), as_json=True) == INCONCLUSIVE
    found = json.loads((tmp_path / "out" / "differences.json").read_text())
    assert json.loads(capsys.readouterr().out) == found
    assert found["first"] == {"step": 1, "a": 2.0, "b": 2.125, "difference": 0.125, "relative": 0.125 / 2.125}
    assert found["largest"]["step"] == 2 and found["largest"]["difference"] == 0.5
    assert found["final"]["step"] == 3 and found["final"]["difference"] == 0.25
    assert found["equal"] == 1 and found["shared"] == 4 and found["bounded"] is False
    assert found["curve"]["difference"] == [0, 0.125, 0.5, 0.25] and found["curve"]["bound"] == [None] * 4
    assert "It cannot be said whether they agree" in found["sentence"] and "agrees" not in found
    assert sum("no twin" in limit for limit in found["limits"]) == 2
    page = (tmp_path / "out" / "report.html").read_text()
    assert "It cannot be said" in page and page.count("<svg") == 2 and "b.csv" in page


def test_equal_losses_are_no_agreement_either(csv, tmp_path, capsys):
    assert compare_foreign(csv("a.csv"), csv("b.csv"), tmp_path / "out", Asked()) == INCONCLUSIVE
    said = " ".join(capsys.readouterr().out.split())
    assert "equal losses in all 4 steps that both have. It cannot be said whether they agree" in said


def test_steps_that_one_of_them_has_are_not_compared_and_said(csv, tmp_path):
    found = compared_foreign(csv("a.csv"), csv("b.csv", LOSSES, first=1, head="epoch,loss"), tmp_path / "out", Asked())
    assert found.shared == 3 and found.first["step"] == 1
    limits = "\n".join(found.limits)
    assert "of a.csv (CSV) 1 of 4 steps are not in the other" in limits and "may not be one thing" in limits
    assert "`--shift` N" in limits
    shifted = compared_foreign(tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "again", Asked(shift=-1))
    assert shifted.shared == shifted.equal == 4 and shifted.first is None and "--shift -1" in shifted.commands[0]


def test_no_step_in_both_is_refused_and_nothing_is_left(csv, tmp_path):
    with pytest.raises(BadInput, match="a.csv has 4 from 0 to 3, .*b.csv has 4 from 9 to 12; .*--shift N"):
        compared_foreign(csv("a.csv"), csv("b.csv", first=9), tmp_path / "out", Asked())
    assert not (tmp_path / "out").exists()


def test_columns_are_of_both_or_of_each(csv, tmp_path):
    a, b = csv("a.csv", head="step,nll"), csv("b.csv", head="step,cost")
    found = compared_foreign(a, b, tmp_path / "out", Asked(loss=("nll", "cost")))
    assert found.equal == 4 and [found.read[side].loss for side in "ab"] == ["nll", "cost"]
    with pytest.raises(BadInput, match="b.csv: --loss-column nll: there is no such column; there are step, cost"):
        compared_foreign(a, b, tmp_path / "again", Asked(loss=("nll",)))
    with pytest.raises(BadInput, match="--loss-column: given 3 times, but 2 of the sides"):
        compared_foreign(a, b, tmp_path / "again", Asked(loss=("nll", "cost", "x")))


def test_checkpoints_are_compared_besides_and_no_match_is_for_nothing(csv, tmp_path, capsys):
    a, b = csv("a.csv"), csv("b.csv")
    kernel = np.arange(6.0).reshape(2, 3)
    np.savez(tmp_path / "a.npz", **{"fc/kernel": kernel, "fc/bias": np.ones(3), "left": np.ones(2)})
    np.savez(tmp_path / "b.npz", **{"dense/kernel": kernel.T + 0.5, "dense/bias": np.ones(3)})
    (tmp_path / "match.toml").write_text('[tensors]\n"dense/kernel" = "fc/kernel | transpose 1 0"\n'
                                         '"dense/bias" = "fc/bias"\n')
    asked = Asked(weights=(tmp_path / "a.npz", tmp_path / "b.npz"), match=tmp_path / "match.toml")
    assert compare_foreign(a, b, tmp_path / "out", asked) == INCONCLUSIVE
    said = capsys.readouterr().out
    assert "dense/kernel" in said and "equal" in said and "unmatched of" in said and "left" in said
    found = json.loads((tmp_path / "out" / "differences.json").read_text())
    assert [row["tensor"] for row in found["weights"]["tensors"]] == ["dense/kernel", "dense/bias"]
    assert "--weights" in found["commands"][0] and "dense/kernel" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(BadInput, match="--match: for --weights CK_A CK_B"):
        compared_foreign(a, b, tmp_path / "again", Asked(match=tmp_path / "match.toml"))


def test_only_the_same_verbs_directory_is_written_again(csv, tmp_path):
    a, b, out = csv("a.csv"), csv("b.csv"), tmp_path / "out"
    compared_foreign(a, b, out, Asked())
    with pytest.raises(BadInput, match="holds a finished result; .*--overwrite"):
        compared_foreign(a, b, out, Asked())
    compared_foreign(a, b, out, Asked(), overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="not empty and not ours"):
        compared_foreign(a, b, tmp_path / "mine", Asked(), overwrite=True)


def test_of_very_many_steps_the_largest_differences_are_kept(csv, tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "MOST", 10)
    a, b = np.linspace(2, 1, 200), np.linspace(2, 1, 200)
    b[123] += 0.5
    found = compared_foreign(csv("a.csv", a), csv("b.csv", b), tmp_path / "out", Asked())
    assert found.thinned and found.shared == 200 and len(found.curve.steps) == 10
    assert {123, 199} <= set(found.curve.steps) and found.largest["step"] == 123
