"""A writer or a reader of a format as a process: what its end means."""

import subprocess

import pytest

from twinscale.common.errors import CannotSave, Hung, Stopped, TwinscaleError
from twinscale.common.export import process as export_process


@pytest.mark.parametrize(("code", "kind"), [(1, TwinscaleError), (70, Hung), (74, CannotSave), (75, Stopped)])
def test_a_writers_exit_code_comes_through(monkeypatch, code, kind):
    ended = lambda *_, **__: subprocess.CompletedProcess([], code, "", "no space")  # noqa: E731
    monkeypatch.setattr(export_process.process, "run", ended)
    with pytest.raises(kind, match=f"swap.any ended with exit code {code}: no space") as caught:
        export_process.ask("twinscale.swap.any")
    assert caught.value.exit_code == code
