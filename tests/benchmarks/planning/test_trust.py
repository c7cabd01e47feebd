"""Plans by a fit have its intervals, and are warned of and refused where they leave its rows."""

import json
from dataclasses import astuple

import pytest

from tests.benchmarks.laws.test_kept import leave
from twinscale.benchmarks.planning.laws import read_law
from twinscale.benchmarks.planning.plan import plan
from twinscale.benchmarks.planning.trust import said, trusted
from twinscale.common.errors import BadInput

C = 1e21  # within the planted runs' 1.8e16 to 1.8e21


@pytest.fixture(scope="module")
def law(tmp_path_factory):
    folder = tmp_path_factory.mktemp("law")
    leave(folder, boots=60)
    return str(folder)


@pytest.fixture
def planned(law, tmp_path):
    """planned(**options): the work in plan.json."""
    def make(**options):
        assert plan(None, topologies=("v5e-256",), **({"law": law, "out": tmp_path} | options)) == 0
        return json.loads((tmp_path / "plan.json").read_text())["work"]

    return make


@pytest.mark.parametrize("more", [{}, {"serve": 1e10}, {"unique": 1e9}])
def test_what_a_fit_chooses_has_intervals_that_hold_it(planned, more, capsys):
    work = planned(flops=C, **more)
    told, ends = work["by_law"], work["by_law"]["intervals"]
    for key, value in (("parameters", work["parameters"]), ("tokens", work["tokens"]), ("loss", told["loss"])):
        assert ends[key][0] < value < ends[key][1]
    assert ends["loss_of_a_run"][0] < ends["loss"][0] and told["resamples"] == 60 and not told["warnings"]
    assert "90% intervals: parameters" in capsys.readouterr().out


def test_a_law_of_others_has_a_loss_and_no_interval(planned, law, tmp_path):
    told = planned(flops=C, law="besiroglu2024")["by_law"]
    assert told["intervals"] is None and told["beyond"] == {} and "no intervals" in said(told)[0]
    found = read_law(law)
    edited = type(found)(*(value * 1.01 for value in astuple(found)))
    work = {"parameters": 1e8, "tokens": 1e10, "flops": 6e18, "flops_per_token": None, "from": "stated"}
    assert trusted(law, edited, work, None, False)["intervals"] is None  # law.toml is the fit's no more


def test_budgets_beyond_the_rows_are_warned_of_and_refused(planned):
    told = planned(flops=50 * 1.8e21)["by_law"]
    assert told["beyond"]["C"] == pytest.approx(50) and "C = 9e+22 is 50 times" in told["warnings"][0]
    for options in ({"flops": 1e25}, {"flops": 1e26, "serve": 1e12}, {"days": 1000.0}):
        with pytest.raises(BadInput, match="not trusted beyond 100 times.*--far"):
            planned(**options)
    assert planned(flops=1e25, far=True)["by_law"]["beyond"]["C"] > 100


def test_a_size_that_is_given_says_nothing_of_the_law(law):
    work = {"parameters": 1e8, "tokens": 1e10, "flops": 6e18, "flops_per_token": 6e8, "from": "the law, for this size"}
    found = trusted(law, read_law(law), work, None, False)["intervals"]
    assert "parameters" not in found and found["tokens"][0] < read_law(law).tokens_for(1e8) < found["tokens"][1]
    assert trusted(law, read_law(law), work | {"tokens": None}, None, False) is None
