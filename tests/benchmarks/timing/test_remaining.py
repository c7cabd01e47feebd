"""The time that a comparison still takes: nothing is said before anything is known, then what is ahead is counted."""

from twinscale.benchmarks.timing.remaining import PLACES, TIMED, Pace, words_left
from twinscale.common.training.progress import duration


def test_nothing_is_said_before_a_training_is_done():
    assert words_left(None, [(100, True)]) == ""


def test_what_is_ahead_counts_by_its_steps_and_what_is_compiled():
    pace = Pace(compiling=10, step=0.5)
    shared = PLACES * 10 + TIMED * 0.5
    assert words_left(pace, []) == f", about {duration(shared)} left"
    assert words_left(pace, [(200, True), (200, False)]) == f", about {duration(shared + 10 + 200)} left"
    assert duration(3723) == "1:02:03" and duration(83) == "1:23"
