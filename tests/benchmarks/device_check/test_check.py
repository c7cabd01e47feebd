"""A check goes on where it was cut, takes again what did not hold, and says what came of every step."""

import json

import pytest

from tests.benchmarks.device_check.conftest import CPUS, GPUS
from twinscale.benchmarks.device_check import check
from twinscale.benchmarks.device_check.steps import Found, Skip, Step
from twinscale.common import cli
from twinscale.common.errors import BadInput, CannotSave, MissingEnvironment

NAMES = ("environment", "parity", "attention", "bench")


def raising(error):
    def take(desk):
        raise error

    return take


@pytest.fixture
def checked(machine, monkeypatch, tmp_path):
    """checked(parity=...): (exit code, check.json, the steps that were taken) of a check of four steps that hold, but
    for those for which there is an error, or a Found, in their place."""
    def run(devices=GPUS, out=tmp_path / "out", options=None, **instead):
        taken = []

        def step(name):
            def take(desk):
                taken.append(name)
                if isinstance(what := instead.get(name), BaseException):
                    raise what
                return what or Found("holds", f"{name} is well", (), {"here": str(desk.where)})

            return Step(name, f"the {name}", () if name == "environment" else ("jax",), take)

        monkeypatch.setattr(check, "doctor", lambda: machine(devices))
        monkeypatch.setattr(check, "gpus", list)
        monkeypatch.setattr(check, "steps_of", lambda desk: [step(name) for name in NAMES])
        code = check.check_device(out, **(options or {}))
        return code, json.loads((out / "check.json").read_text()), taken

    return run


def test_each_step_has_its_own_result_and_the_worst_is_the_exit_code(checked, capsys):
    code, found, taken = checked(attention=Skip("no kernel"), bench=Found("open", "refused: too fast"))
    assert code == 3 and taken == list(NAMES) and found["agrees"] is None
    assert [(step["name"], step["state"]) for step in found["steps"]] == [
        ("environment", "holds"), ("parity", "holds"), ("attention", "skipped"), ("bench", "open")]
    assert found["counts"] == {"holds": 2, "open": 1, "skipped": 1} and found["recipes"]["mlp"]["name"] == "mlp-digits"
    said = capsys.readouterr()
    assert all(words in said.out for words in ("no kernel", "refused: too fast", found["sentence"]))
    assert "2 of 4: the parity: holds: parity is well" in said.err


def test_an_error_is_the_end_of_its_step_alone(checked):
    code, found, taken = checked(parity=MissingEnvironment("memory has ended"), attention=KeyError("x"))
    assert code == 1 and taken == list(NAMES)
    assert [step["exit_code"] for step in found["steps"]] == [0, 4, 1, 0]
    assert found["steps"][1]["said"] == "memory has ended" and "internal error" in found["steps"][2]["said"]
    assert checked(parity=MissingEnvironment("memory has ended"))[0] == 4


def test_after_a_kill_it_goes_on_and_what_did_not_hold_is_taken_again(checked, tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        checked(parity=Found("no", "apart"), attention=KeyboardInterrupt())
    run = tmp_path / "out" / "runs" / "parity-cpu"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    code, found, taken = checked()
    assert code == 0 and found["agrees"] is True and taken == ["parity", "attention", "bench"]
    assert not run.exists() and "environment: held before" in capsys.readouterr().err
    assert checked()[2] == []  # all held
    assert checked(options={"overwrite": True})[2] == list(NAMES)


def test_a_full_disk_ends_it(checked):
    with pytest.raises(CannotSave):
        checked(parity=CannotSave("no space left on device"))


def test_another_machines_folder_is_not_mixed_with_it(checked, tmp_path):
    checked()
    with pytest.raises(BadInput, match="holds a check of other devices"):
        checked(devices={**GPUS, "tensorflow": CPUS["tensorflow"]})
    with pytest.raises(BadInput, match="holds a check of other"):
        checked(options={"rehearse": True})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("mine")
    with pytest.raises(BadInput, match="not ours"):
        checked(out=tmp_path / "mine")


def test_without_a_gpu_there_is_nothing_to_check_but_a_rehearsal(checked, tmp_path):
    with pytest.raises(MissingEnvironment, match="sees no GPU here.*--rehearse takes the same steps"):
        checked(devices=CPUS)
    assert not (tmp_path / "out").exists()
    code, found, _ = checked(devices=CPUS, options={"rehearse": True, "as_json": True})
    assert code == 0 and found["rehearsed"] and {step["figures"]["here"] for step in found["steps"]} == {"cpu"}


def test_a_step_of_a_backend_that_is_not_there_is_skipped_unseen(checked):
    code, found, taken = checked(devices={**GPUS, "jax": CPUS["jax"]})
    assert taken == ["environment"] and code == 4  # these steps are all of JAX
    assert found["steps"][1]["said"].startswith("jax: jax sees no GPU here")


@pytest.mark.slow
def test_a_rehearsal_on_a_cpu_holds_and_is_read_by_those_who_read_runs(tmp_path, capsys, monkeypatch):
    """Both backends, for real: and the second command takes nothing that held."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check-device", "--rehearse", "--out", "out", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    states = {step["name"]: step["state"] for step in found["steps"]}
    assert states["attention"] == states["peer-torch-compile"] == "skipped"
    assert {state for name, state in states.items() if not name.startswith(("attention", "peer"))} == {"holds"}
    runs = "out/runs/determinism-first", "out/runs/parity-decoder-jax-cpu"
    assert cli.main(["compare-runs", *runs, "--out", "again"]) in (0, 1, 3)  # of two precisions: it is read
    assert cli.main(["check-device", "--rehearse", "--out", "out"]) == 0
    assert capsys.readouterr().err.count("held before") == sum(state == "holds" for state in states.values())
