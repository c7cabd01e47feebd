"""What a fit leaves is what is read again, and nothing that is damaged or another fit's."""

import json

import numpy as np
import pytest

from tests.benchmarks.laws.tables import PLANTED, planted
from tests.benchmarks.laws.test_fitting import asked, table_of
from twinscale.benchmarks.laws.fit import completed, left
from twinscale.benchmarks.laws.fitting import fit_table
from twinscale.benchmarks.laws.kept import FILE, RESAMPLES, keep, read_fit
from twinscale.benchmarks.planning.laws import LAWS
from twinscale.common.errors import BadInput
from twinscale.common.files.tensors import load_tensors, save_tensors


def leave(folder, name="chinchilla", boots=40, **more):
    """A fit of a planted law, left in a folder; the fit."""
    columns, y = planted(name, noise=0.003)
    table, wanted = table_of(columns, y), asked(name, boots=boots, **more)
    found = fit_table(table, wanted)
    left(found, table, completed(found, wanted, (), folder), folder)
    return found


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """(a folder with what a fit has left, the fit)."""
    folder = tmp_path_factory.mktemp("law")
    return folder, leave(folder, boots=20)


@pytest.fixture
def copied(kept, tmp_path):
    """A copy of that folder's files of figures."""
    for name in (FILE, RESAMPLES):
        (tmp_path / name).write_bytes((kept[0] / name).read_bytes())
    return tmp_path


def test_every_digit_comes_back(kept):
    tmp_path, found = kept
    for name in (tmp_path, tmp_path / FILE):
        law = read_fit(str(name))
        assert law.form.name == "chinchilla" and np.array_equal(law.public, found.public)
        assert np.array_equal(law.boots, found.boots.public) and np.array_equal(law.residuals, found.boots.residuals)
    assert law.spans["N"] == pytest.approx([1e7, 3e9]) and law.level == 0.9


def test_a_fit_without_resamples_has_none_and_takes_away_those_of_an_earlier_one(kept, copied):
    keep(copied, kept[1]._replace(boots=None))
    assert not (copied / RESAMPLES).exists() and read_fit(str(copied)).boots is None


def test_what_is_not_fitted_is_one(tmp_path):
    columns, _ = planted("accuracy", sizes=4)
    y = 1 - 0.75 / (1 + 900 * np.exp(-3.0 * columns["loss"]) * np.exp(
        0.01 * np.random.default_rng(0).standard_normal(len(columns["loss"]))))
    wanted = asked("accuracy", boots=0)
    found = fit_table(table_of(columns, y), wanted)
    left(found, table_of(columns, y), completed(found, wanted, (), tmp_path), tmp_path)
    assert read_fit(str(tmp_path)).public == pytest.approx(PLANTED["accuracy"], rel=0.1)


def test_a_name_and_a_law_file_are_laws_of_which_no_more_is_known(tmp_path):
    law = read_fit("besiroglu2024")
    assert law.public[4] == LAWS["besiroglu2024"].e and law.boots is None and law.spans == {}
    assert "literature" in law.origin
    (tmp_path / "law.toml").write_text("e = 1.69\na = 406.4\nb = 410.7\nalpha = 0.34\nbeta = 0.28\n")
    for name in (tmp_path, tmp_path / "law.toml"):
        assert list(read_fit(str(name)).public) == [0.34, 0.28, 406.4, 410.7, 1.69]
    with pytest.raises(BadInput, match="FIT hofmann2022: neither a file nor one of"):
        read_fit("hofmann2022")


@pytest.mark.parametrize("change, words", [
    (lambda x: x | {"parameters": x["parameters"] * 1.001}, "another fit"),
    (lambda x: x | {"resamples": x["resamples"][:, :3]}, "no file of resamples"),
    (lambda x: x | {"residuals": x["residuals"] * np.nan}, "no file of resamples"),
    (lambda x: {"resamples": x["resamples"]}, "no file of resamples"),
    (lambda x: x | {"resamples": x["resamples"].astype(np.float32)}, "no file of resamples")])
def test_resamples_of_something_else_are_refused(copied, change, words):
    save_tensors(copied / RESAMPLES, change(load_tensors(copied / RESAMPLES)))
    with pytest.raises(BadInput, match=f"{RESAMPLES}: .*{words}.*fit the law again"):
        read_fit(str(copied))


@pytest.mark.parametrize("change, words", [
    ({"law": {"name": "x"}}, "law.name = x: is none of"), ({"parameters": []}, "alpha, beta, A, B, E are wanted"),
    ({"parameters": [{"name": "E", "value": None}]}, "value = null: expected a number"),
    ({"results": {"spans": {"N": [1.0]}}}, "spans.N"), ({"schema_version": 2}, "another version's file")])
def test_a_fit_file_that_is_none_is_one_line(copied, change, words):
    values = json.loads((copied / FILE).read_text())
    (copied / FILE).write_text(json.dumps(values | change))
    with pytest.raises(BadInput, match=words):
        read_fit(str(copied))
