"""Progress: a bar on terminals, plain lines elsewhere, never on stdout."""

import os
import pty
import subprocess
import sys

import pytest

from twinscale.common.training import progress
from twinscale.common.training.progress import training_progress

PROGRAM = """
from twinscale.common.training.progress import training_progress
with training_progress(100, 40, "tokens/s") as report:
    report(60, loss=2.5, rate=1234.5, mfu=0.41)
    print("data")
    report(80, held_out="loss 2.0000 [red]")
    report(100, loss=1.25)
"""


def test_elsewhere_than_on_a_terminal_lines_are_plain_and_rare(capsys, monkeypatch):
    clock = iter(range(0, 1000, 4))  # seconds
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with training_progress(10, 2, "examples/s") as report:
        for step in range(3, 11):
            report(step, loss=1 / step, rate=1000 if step == 3 else None, mfu=0.5)
    out, err = capsys.readouterr()
    assert out == "" and "\x1b" not in err
    assert [line.split()[1] for line in err.splitlines()] == ["3/10", "6/10", "9/10", "10/10"]
    first, second, *_ = err.splitlines()
    assert first == "step 3/10  loss 0.3333  1,000 examples/s  MFU 50.0%"  # the first step's time is its compilation
    assert second == "step 6/10  loss 0.1667  1,000 examples/s  MFU 50.0%  0:21 left"  # 16 s for 3 steps, 4 to go


@pytest.mark.parametrize("makes", [progress.training_progress, progress.counting])
def test_colour_that_is_forced_makes_no_terminal_of_a_pipe(makes, capsys, monkeypatch):
    """Notebooks and CI set these: a bar would redraw itself into a log, hundreds of times."""
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    with makes(*((2, 0, "tokens/s") if makes is progress.training_progress else (2, "things"))) as report:
        for step in (1, 2):
            report(*((step,) if makes is progress.training_progress else ()))
    assert "2/2" in (said := capsys.readouterr().err) and "\x1b" not in said


def test_disabled_progress_is_silent_and_unknown_values_are_refused(capsys):
    with training_progress(10, 0, "tokens/s", enabled=False) as report:
        report(1, loss=3)
    assert capsys.readouterr() == ("", "")
    with training_progress(10, 0, "tokens/s") as report, pytest.raises(TypeError, match="not accuracy"):
        report(1, accuracy=1)


@pytest.mark.parametrize("columns", [120, 40, 8])
def test_a_terminal_of_any_width_gets_a_bar_without_colour_if_asked(columns):
    primary, secondary = pty.openpty()
    done = subprocess.run([sys.executable, "-c", PROGRAM], stderr=secondary, stdout=subprocess.PIPE,
                          env={**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "xterm-256color",
                               "PYTHONPATH": os.getcwd()})
    os.close(secondary)
    shown = os.read(primary, 1 << 16).decode()
    os.close(primary)
    assert done.returncode == 0 and done.stdout == b"data\n"
    assert "\x1b[3" not in shown and ("━" in shown) == (columns == 120) and (columns == 8 or "100/100" in shown)
    assert columns < 120 or "step 80/100  held out: loss 2.0000 [red]" in shown


def test_an_evaluation_is_a_line_of_its_own_at_once(capsys, monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", lambda: 0.0)
    with training_progress(10, 0, "tokens/s") as report:
        report(1, loss=3.0)
        report(2, held_out="loss 2.5000  [red] 1.0000")
        report(2, loss=3.0)
    assert capsys.readouterr().err.splitlines() == ["step 1/10  loss 3.0000",
                                                    "step 2/10  held out: loss 2.5000  [red] 1.0000"]
