"""With a cache and without, in rounds that alternate."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from twinscale.benchmarks.timing import generation


@pytest.mark.parametrize(("times", "code"), [(8.0, 0), (3.0, 1)])
def test_rounds_alternate_and_their_ratio_decides(monkeypatch, capsys, times, code):
    asked = []

    def ask(call, recipe, tokens, cached):
        asked.append(cached)
        return 0.5 if cached else 0.5 * times

    @contextmanager
    def workers(environment, rooms):
        yield {"jax": SimpleNamespace(ask=ask)}

    monkeypatch.setattr(generation, "open_workers", workers)
    assert generation.main(["decoder-stdlib", "--rounds", "2", "--tokens", "64"]) == code
    assert asked == [False, True, True, False, False, True]
    said = capsys.readouterr().out
    assert said.startswith("jax: 64 tokens in 0.5") and f"{times:g}" in said
