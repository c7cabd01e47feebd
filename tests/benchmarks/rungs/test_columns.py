"""On what a parting of three columns is laid: which pairs agree says whether the program or the runtime parts."""

import itertools

import numpy as np
import pytest

from twinscale.benchmarks.rungs.columns import laid_on, losses_apart, step_of
from twinscale.benchmarks.sides import COLUMNS

PAIRS = [*itertools.combinations(COLUMNS, 2)]  # keras+keras-jax, keras+jax, keras-jax+jax


def pairs_of(*answers):
    """The three pairs, as they would be found with these answers; what fails does so at P2, and says where."""
    found = []
    for columns, answer in zip(PAIRS, answers, strict=True):
        where = "+".join(columns)
        rungs = [{"name": name, "title": title, "answer": said, "worst": 3.0, "bound": 1e-15, "where": where}
                 for name, title, said in (("P0", "contract", "agrees"), ("P2", "gradient", answer))]
        losses = {"float64": {"steps": 200, "absolute": 1e-12, "relative": 2e-13, "step": 7}}
        found.append({"columns": list(columns), "answer": answer, "rungs": rungs, "losses": losses})
    return found


def test_columns_that_all_agree_do_so_within_what_their_logs_say():
    pairs = pairs_of("agrees", "agrees", "agrees")
    pairs[1]["losses"]["float64"]["relative"] = 4e-13  # the furthest of them
    found = laid_on(pairs)
    assert found["agrees"] and found["conclusive"] and found["blame"] == "none"
    assert (found["by"], found["at"]) == (None, None)
    assert found["sentence"] == ("Keras on TensorFlow, Keras on JAX and Flax on JAX train the same: every rung of "
                                 "every pair holds, and in float64 all losses lie within 4.0e-13 relative over 200 "
                                 "steps.")


@pytest.mark.parametrize(("answers", "blame", "by", "agree", "whose", "where"), [
    (("fails", "fails", "agrees"), "runtime", "keras", "Keras on JAX and Flax on JAX agree",
     "runtime's, of TensorFlow or of JAX",
     "keras+keras-jax"),
    (("agrees", "fails", "fails"), "program", "jax", "Keras on TensorFlow and Keras on JAX agree",
     "program's, of Keras or of Flax",
     "keras-jax+jax"),
    (("fails", "agrees", "fails"), "one column", "keras-jax", "Keras on TensorFlow and Flax on JAX agree",
     "neither the program's nor the runtime's, but of Keras on JAX alone", "keras+keras-jax")])
def test_a_column_that_parts_alone_is_laid_on_what_it_has_alone(answers, blame, by, agree, whose, where):
    found = laid_on(pairs_of(*answers))
    assert (found["agrees"], found["blame"], found["by"]) == (False, blame, by)
    # the rung is that of the pair which shares the program or the runtime: there one thing differs
    assert (found["at"]["name"], found["at"]["where"]) == ("P2", where)
    assert found["sentence"].startswith(f"{agree}; {COLUMNS[by].title} parts from both at P2 (gradient): {where}, 3.0 ")
    assert found["sentence"].endswith(f": it is {'the ' if 'neither' not in whose else ''}{whose}.")


@pytest.mark.parametrize("answers", [("fails", "fails", "fails"), ("fails", "agrees", "agrees"),
                                     ("agrees", "fails", "agrees")])
def test_what_no_single_column_explains_is_several_and_each_pair_is_said(answers):
    found = laid_on(pairs_of(*answers))
    assert (found["agrees"], found["conclusive"], found["blame"], found["by"]) == (False, True, "several", None)
    for columns, answer in zip(PAIRS, answers, strict=True):
        both = " and ".join(COLUMNS[name].title for name in columns)
        assert f"{both} {'part at P2' if answer == 'fails' else 'agree'}" in found["sentence"]


@pytest.mark.parametrize("answers", [("open", "open", "open"), ("fails", "open", "agrees")])
def test_where_a_pair_stays_open_nothing_is_blamed(answers):
    found = laid_on(pairs_of(*answers))
    assert (found["agrees"], found["conclusive"], found["blame"]) == (False, False, None)
    assert "stays open" in found["sentence"] and "stay open" in found["sentence"]


def test_losses_are_held_together_over_all_steps_as_a_share_of_the_larger():
    found = losses_apart(np.array([2.0, 1.0, 4.0]), np.array([2.0, 1.5, 4.6]))
    assert found == {"steps": 3, "absolute": pytest.approx(0.6), "relative": pytest.approx(1 / 3), "step": 1}
    broken = losses_apart(np.array([2.0, np.nan]), np.array([2.0, 1.0]))
    assert broken["step"] == 1 and np.isnan(broken["relative"]) and np.isnan(broken["absolute"])


@pytest.mark.parametrize(("of", "answer"), [
    ({"agrees": True}, "agrees"), ({"agrees": False}, "fails"), ({"agrees": False, "open": True}, "open"),
    ({"agrees": False, "conclusive": False}, "open"), ({"agrees": True, "conclusive": True}, "agrees")])
def test_a_rung_in_short_says_whether_it_stays_open(of, answer):
    rung = {"name": "P7", "title": "outcome", "worst": 1.0, "bound": 2.0, "where": "loss", "checks": [1]} | of
    assert step_of(rung) == {"name": "P7", "title": "outcome", "worst": 1.0, "bound": 2.0, "where": "loss",
                             "answer": answer}
