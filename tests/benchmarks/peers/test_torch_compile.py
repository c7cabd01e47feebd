"""torch.compile as a peer, where `make peers` has made its environment."""

import pytest

torch_compile = pytest.importorskip("twinscale.benchmarks.peers.torch_compile", exc_type=ModuleNotFoundError)


def test_what_is_called_is_the_compiled_model(asked, monkeypatch):
    called = []

    def compiled(model):
        return lambda **given: called.append(1) or model(**given)

    monkeypatch.setattr(torch_compile.torch, "compile", compiled)
    assert torch_compile.prepared(asked[0])(2) > 0 and len(called) == 2


def test_a_compiler_that_lacks_something_is_a_line(monkeypatch):
    def broken(function):
        raise RuntimeError("no C++ compiler\nlong story")

    monkeypatch.setattr(torch_compile.torch, "compile", broken)
    assert torch_compile.seen(True)["error"] == "RuntimeError: no C++ compiler"
    assert torch_compile.seen(False)["error"] is None
    monkeypatch.setattr(torch_compile.torch, "compile", lambda function: lambda x: 2 * function(x))
    assert "another one than eager's" in torch_compile.seen(True)["error"]
