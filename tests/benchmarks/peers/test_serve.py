"""How a peer answers, and what it trains on."""

import io
import json
import os

import pytest

from twinscale.benchmarks.peers import serve


def test_a_job_is_answered_with_versions_and_each_count_with_its_seconds(monkeypatch, tmp_path):
    """What a framework prints goes elsewhere."""
    real, duplicated = os.dup, []

    def prepared(job):
        assert job == {"layers": 2}
        return lambda count: count / 2

    with (tmp_path / "replies").open("w") as replies:
        monkeypatch.setattr(serve.os, "dup", lambda _: real(replies.fileno()))
        monkeypatch.setattr(serve.os, "dup2", lambda *ends: duplicated.append(ends))
        monkeypatch.setattr(serve.sys, "stdin", io.StringIO('{"layers": 2}\n{"count": 3}\n{"count": 4}\n'))
        monkeypatch.setattr(serve.sys, "stdout", replies)
        serve.serve(prepared, ("numpy",))
    said = [json.loads(line) for line in (tmp_path / "replies").read_text().splitlines()]
    assert list(said[0]["versions"]) == ["numpy"] and said[1:] == [{"seconds": 1.5}, {"seconds": 2.0}]
    assert len(duplicated) == 1


@pytest.mark.parametrize("causal", [True, False])
def test_a_batch_is_of_the_jobs_sizes(causal):
    found = serve.batch({"causal": causal, "batch": 64, "length": 6, "vocabulary": 9, "classes": 3})
    assert found["ids"].shape == found["mask"].shape == found["types"].shape == (64, 6)
    assert set(found["ids"].flat) == set(range(9)) and set(found["labels"].flat) == set(range(3))
    assert found["labels"].shape == ((64, 6) if causal else (64,)) and found["mask"].all() and not found["types"].any()
