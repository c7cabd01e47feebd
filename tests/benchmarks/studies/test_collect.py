"""What study.json says of a study that has no law."""

from twinscale.benchmarks.studies import collect
from twinscale.benchmarks.studies.design import Study
from twinscale.benchmarks.studies.laws import Wanted


def study_of(backend):
    return Study.model_validate({"recipe": "r", "backend": backend, "design": {"kind": "grid"}})


def test_the_sentence_says_what_failed_and_why_there_is_no_law():
    content = {"counts": {"planned": 4, "finished": 3, "failed": 1}, "flops": 2e9, "laws": {"jax": {"sentence": "L."}},
               "lacking": {"keras": "1 finished runs"}, "parity": {"pairs": 1, "lacking": "few"}}
    assert collect.sentence(content) == ("3 of 4 runs finished, 1 failed: 2.00e9 operations. jax: L. keras: no law, "
                                         "1 finished runs.")


def test_parity_is_of_two_backends_with_resamples():
    assert collect.compared(study_of("jax"), [], Wanted(0, 1, 0.9), "x", {}) is None
    assert "--boots 0" in collect.compared(study_of("both"), [], Wanted(0, 1, 0.9), "x", {})["lacking"]
