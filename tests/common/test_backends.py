"""One list of backends, which all that knows them agrees with."""

from pathlib import Path
from typing import get_args

import pytest

from twinscale.benchmarks.preflight.compilers import COMPILES, LOWERS
from twinscale.benchmarks.report.plots import MARKS, TITLES
from twinscale.benchmarks.studies.board import BESIDE
from twinscale.common.backends import BACKENDS, BOTH, RUNTIMES, module_of, on_jax, options_of
from twinscale.common.export.formats import FORMATS, NEEDS, READERS, WRITERS
from twinscale.common.files.kinds import Backend
from twinscale.common.files.run_files import STEPS
from twinscale.common.machine import doctor
from twinscale.common.verbs import shared

ROOT = Path(__file__).parents[2]


def test_whatever_knows_backends_knows_all_of_them():
    for known in (get_args(Backend), MARKS, TITLES, BESIDE, STEPS, WRITERS, READERS, LOWERS, COMPILES, shared.ROOMS,
                  doctor.BACKENDS):
        assert set(known) == set(BACKENDS)
    assert len({each.title for each in BACKENDS.values()}) == len(set(MARKS.values())) == len(BACKENDS)
    assert set(BOTH) < set(BACKENDS) and {each.runtime for each in BACKENDS.values()} == set(RUNTIMES)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_options_of_a_backend_name_it_and_its_modules_are_there(backend):
    words = options_of(backend)
    assert shared.backend_of(words[1], dict(zip(words[::2], words[1::2], strict=True)).get("--runtime")) == backend
    for module in (f"{module_of(backend)}.__main__", f"{module_of(backend)}.room", LOWERS[backend], COMPILES[backend]):
        _, *names = module.split(".")  # looked up by its file: to import kerasjax is to choose Keras' runtime
        assert (ROOT.joinpath(*names).with_suffix(".py")).is_file(), module
    about = BACKENDS[backend]
    assert BACKENDS[about.sampler].runtime == about.runtime and BACKENDS[about.exporter].program == about.program


def test_a_backend_keeps_its_checkpoints_as_its_runtime_does():
    assert STEPS["keras-jax"] == STEPS["jax"] != STEPS["keras"]
    assert [name for name in BACKENDS if on_jax(name)] == ["keras-jax", "jax"]


def test_weights_of_keras_on_jax_have_the_formats_of_both():
    mine = {name for name, form in FORMATS.items() if "keras-jax" in form.writers}
    assert mine == set(FORMATS) == {name for name, form in FORMATS.items() if {"keras", "jax"} & form.writers.keys()}
    for form in FORMATS.values():
        for module in (*form.writers.values(), *form.readers.values()):
            assert module.split(".")[1] in NEEDS
