"""The plug-in of pytest: a fixture that raises where two programs part, and loads no framework before it is asked."""

import os
import subprocess
import sys
import tomllib

import pytest

from twinscale.common import process
from twinscale.common.errors import Disagreement

HEAVY = ("numpy", "pydantic", "tensorflow", "keras", "jax", "flax", "scipy")

TESTS = """
import sys

loaded = set(sys.modules) & {HEAVY}

def test_it(twinscale_check):
    assert not loaded
    assert callable(twinscale_check)
    assert not set(sys.modules) & {HEAVY}
"""


def test_an_installed_twinscale_has_the_fixture_and_collecting_loads_no_framework(tmp_path):
    points = tomllib.loads((process.ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    (tmp_path / "test_it.py").write_text(TESTS.replace("{HEAVY}", str(set(HEAVY))))
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", points["twinscale"], "-p", "no:cacheprovider",
                           "--rootdir", str(tmp_path), str(tmp_path)], capture_output=True, text=True, cwd=tmp_path,
                          env=os.environ | {"PYTHONPATH": str(process.ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("agrees", [True, False])
def test_the_fixture_returns_a_verdict_or_raises_its_sentence(monkeypatch, agrees):
    import twinscale
    from twinscale import api, pytest_plugin
    from twinscale.common.pairs.judge import PairVerdict, Row
    from twinscale.common.pairs.match import Match

    verdict = PairVerdict((Row("output y", 0.1, 1.0 if agrees else 1e-6),), Match(()), "at norm")
    monkeypatch.setattr(api, "check", lambda a, b, inputs, **options: (a, b, inputs, options) == (
        1, 2, 3, {"seed": 4}) and verdict)
    check = pytest_plugin.twinscale_check.__wrapped__()
    assert twinscale.check is api.check
    if agrees:
        assert check(1, 2, 3, seed=4) is verdict
    else:
        with pytest.raises(Disagreement, match="They first part at norm"):
            check(1, 2, 3, seed=4)
