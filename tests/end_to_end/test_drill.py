"""A part of the fault drill (`make drill` is all of it): a few faults of most classes end as they should, and two
safeguards that are switched off turn it red."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHOSEN = {
    "jax": (
        r"^SIGKILL at os.rename checkpoints/manifests/", r"^SIGKILL at a random moment of a save \(1\)",
        r"^SIGKILL between the weights", r"^ENOSPC in the background of save 24", r"^a bit flipped, of the largest$",
        r"^a bit flipped, in every checkpoint$", r"^SIGTERM twice in a row", r"^SIGKILL of worker 1 in a step",
        r"^a step that never ends", r"^going on at an epoch's edge", r"^with seed=12",
        r"^a batch that is not finite just after", r"^a second process on the run",
        r"^the clock set back an hour before", r"^control checksum_off", r"^control position_off"),
    "keras-jax": (r"^SIGKILL at a random moment of a save \(1\)", r"^a bit flipped, of worker 1's part$",
                  r"^control slots_off"),
    "keras": (r"^SIGKILL at a random moment of a save \(1\)", r"^a bit flipped, of the largest$")}


@pytest.mark.slow  # `make drill` has all of them
@pytest.mark.parametrize("backend", CHOSEN)
def test_faults_end_as_they_should_and_missing_safeguards_are_found(backend, tmp_path):
    only = [word for pattern in CHOSEN[backend] for word in ("--only", pattern)]
    drill = subprocess.run([sys.executable, "-m", "tests.drill", "--out", tmp_path, "--backend", backend, *only],
                           cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert drill.returncode == 0, drill.stdout + drill.stderr[-2000:]
    found = json.loads((tmp_path / backend / "drill.json").read_text())
    chosen = [pattern for pattern in CHOSEN[backend] if "control" not in pattern]
    assert found["faults"] == found["survived"] == len(chosen) and not found["hangs"] and not found["lost_steps"]
    assert found["controls"] == found["controls_red"] == len(CHOSEN[backend]) - len(chosen)
