"""One device against meshes: which are trained, what their runs are held to, and what a report says of them."""

import json
import math

import numpy as np
import pytest

from twinscale.benchmarks import compare, meshes
from twinscale.benchmarks.meshes import judge, judge_side, mesh_sentence, prepared, run_path, weights_apart
from twinscale.benchmarks.meshes_fit import MESHES, Mesh, on_mesh
from twinscale.benchmarks.report.page import write_report
from twinscale.benchmarks.rungs.ladder import check
from twinscale.benchmarks.sides import labelled
from twinscale.common.files.access import write_json, write_text
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.recipe.file import load
from twinscale.common.recipe.schema import Recipe

NOISE = 1e-7
FEW = (Mesh({"data": 2}), Mesh({"data": 2, "fsdp": 2}, accumulate=2), Mesh({"data": 2}, hosts=2))


def described(family="mlp", **sections):
    data = {"source": "stdlib" if family == "decoder" else "digits", "sequence": 32}
    model = {"family": family} | ({"activation": "gelu"} if family == "mlp" else {})
    values = {"name": "tiny", "data": data, "model": model, "train": {"steps": 6, "global_batch": 32}}
    return Recipe.model_validate({key: {**values.get(key, {}), **sections.get(key, {})} if key != "name" else "tiny"
                                  for key in values | sections})


# ---- what is trained


def test_what_jumps_is_trained_in_float64():
    """A ReLU near zero is on in one training and off in another, by rounding alone: no envelope holds that."""
    assert prepared(described("convnet"), None).train.precision == "float64"
    assert prepared(described(model={"activation": "relu"}), None).train.precision == "float64"
    assert prepared(described(), None).train.precision == "float32"


# ---- masks


def test_short_documents_make_rows_of_different_weight(tmp_path, monkeypatch):
    monkeypatch.setenv("TWINSCALE_CACHE", str(tmp_path / "cache"))
    weights = meshes.row_weights(prepared(described("decoder"), tmp_path))
    assert weights.shape == (6, 32) and all(len(set(step)) > 3 for step in weights)
    assert weights_apart(weights, Mesh({"data": 8}), 1) > 0.02
    assert weights_apart(weights, Mesh({"tensor": 2}), 1) is None


def test_shares_are_those_that_devices_and_hosts_hold():
    weights = np.array([[1.0, 3, 1, 3], [1, 3, 1, 3]])
    assert weights_apart(weights, Mesh({"data": 2}), 1) == 0  # the first two rows, the last two
    assert weights_apart(weights, Mesh({"data": 2}, hosts=2), 1) == 1  # the even rows, the odd ones
    assert weights_apart(weights, Mesh({"fsdp": 4}), 1) == 1
    assert weights_apart(weights, Mesh({}), 4) == 1 and weights_apart(weights, Mesh({}), 2) == 0


# ---- the judge


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """(recipe, directory, judge it): what a base, its twin and FEW leave, apart by rounding."""
    monkeypatch.setitem(MESHES, "jax", FEW)
    recipe, rng = prepared(described(), tmp_path), np.random.default_rng(0)
    loss = np.linspace(2, 1, 6)
    exact = {f"{group}/layer_{i}.kernel": rng.normal(size=(9, 7)) for group in ("weights", "m", "v") for i in range(2)}

    def rounded(x):
        return x * (1 + NOISE * rng.uniform(-1, 1, x.shape))

    for mesh, twin in [(Mesh({}), False), (Mesh({}), True), *((mesh, False) for mesh in FEW)]:
        path = run_path(tmp_path, "jax", mesh, twin)
        write_json(path / "run.json", {
            "schema_version": 1, "backend": "jax", "recipe_hash": "", "starts": 1, "state": "finished",
            "devices": ["cpu"] * mesh.size, "performance": {"step_ms_median": 1.5},
            **({"hosts_agree": True} if mesh.hosts > 1 else {})})
        write_text(path / "metrics.jsonl", "".join(json.dumps({"step": step, "train/loss": x}) + "\n"
                                                   for step, x in enumerate(rounded(loss))))
        write_json(path / "trace" / "batches.json", [f"batch {step}" for step in range(6)])
        for name in ("step_1", "final"):
            save_tensors(path / "trace" / f"{name}.safetensors",
                         {key: rounded(x).astype(np.float32) for key, x in exact.items()})
    return recipe, tmp_path, lambda **missing: judge(recipe, {"jax": judge_side(recipe, tmp_path, "jax", missing)})


def failed(found):
    return [row["mesh"] for row in found["rows"] if row["agrees"] is False]


def test_rounding_agrees_and_every_bound_has_an_origin(trained):
    rung, found = trained[2]()
    assert rung["name"] == "P6" and rung["agrees"] and rung["margin"] > 1
    assert [row["mesh"] for row in found["rows"]] == ["data 2", "data 2 x fsdp 2, accumulate 2", "data 2, 2 hosts"]
    for row in found["rows"]:
        assert row["agrees"] and row["steps"] == 6 and row["weights_apart"] == 0 and row["step_ms"] == 1.5
        assert row["loss_bound_from"].startswith("4 x the float32 twin's envelope")
        assert row["state_bound_from"] == "8 x the float32 twin's noise in this group after 6 updates"
    assert "over 3 meshes, of 4 devices and 2 hosts at most" in mesh_sentence(rung, found)


def change_losses(path):
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    write_text(path / "metrics.jsonl", "".join(json.dumps(line | {"train/loss": line["train/loss"] * 1.001}) + "\n"
                                               for line in lines))


def change_state(path):
    tensors = load_tensors(path / "trace" / "final.safetensors")
    tensors["m/layer_1.kernel"][0, 0] += 1e-4
    save_tensors(path / "trace" / "final.safetensors", tensors)


def change_run(**values):
    def change(path):
        write_json(path / "run.json", json.loads((path / "run.json").read_text()) | values)

    return change


def change_batch(path):
    write_json(path / "trace" / "batches.json", [f"batch {max(step, 1)}" for step in range(6)])


@pytest.mark.parametrize("mesh, change, said", [
    (FEW[0], change_losses, "float32 loss"),
    (FEW[1], change_state, "m/layer_1.kernel"),
    (FEW[0], change_batch, "batches that differ"),
    (FEW[1], change_run(devices=["cpu"]), "devices"),
    (FEW[2], change_run(hosts_agree=False), "hosts that saw other losses"),
    (FEW[2], change_run(state="failed", error="NonFinite: step 3"), "NonFinite: step 3"),
    (FEW[2], change_run(state="running"), "is running, not finished"),
    (FEW[0], lambda path: (path / "run.json").unlink(), "there is no run.json")])
def test_what_is_wrong_with_one_mesh_is_said_of_it_alone(trained, mesh, change, said):
    recipe, out, judged = trained
    change(run_path(out, "jax", mesh))
    rung, found = judged()
    assert not rung["agrees"] and failed(found) == [mesh.name]
    assert said in rung["where"] and f"JAX, {mesh.name}: " in rung["where"]
    sentence = mesh_sentence(rung, found)
    assert sentence.startswith(f"1 of 3 meshes do not train as one device does (JAX on {mesh.name})")


def test_hosts_that_were_not_asked_are_not_held_to_their_answer(trained):
    recipe, out, judged = trained
    change_run(hosts_agree=None)(run_path(out, "jax", FEW[2]))
    assert judged()[0]["agrees"]


def test_states_past_the_horizon_are_not_judged(trained):
    recipe, out, judged = trained
    twin = run_path(out, "jax", Mesh({}), twin=True) / "metrics.jsonl"
    write_text(twin, "".join(json.dumps({"step": step, "train/loss": 2 - 0.2 * step + (step > 3)}) + "\n"
                             for step in range(6)))
    change_state(run_path(out, "jax", FEW[0]))
    rung, found = judged()
    assert rung["agrees"] and [row["steps"] for row in found["rows"]] == [4, 4, 4]
    assert all("after 1 update" in row["where"] for row in found["rows"])


def test_a_mesh_that_cannot_be_trained_here_is_neither_right_nor_wrong(trained):
    recipe, out, judged = trained
    for path in (run_path(out, "jax", mesh) / "run.json" for mesh in FEW):
        path.unlink()
    rung, found = judged(**{mesh.name: "too few devices" for mesh in FEW})
    assert [row["agrees"] for row in found["rows"]] == [None] * 3 and found["rows"][0]["why"] == "too few devices"
    assert rung["conclusive"] is False and mesh_sentence(rung, found) == "No mesh was trained."
    verdict = {"agrees": True, "open": False, "rungs": [], "sentence": "Every rung holds."}
    compare.add_meshes(verdict, rung, found)
    assert verdict["open"]


def test_a_verdict_takes_p6_in_its_place(trained):
    recipe, out, judged = trained
    change_losses(run_path(out, "jax", FEW[0]))
    verdict = {"agrees": True, "open": False, "rungs": [{"name": "P5"}, {"name": "P7"}],
               "sentence": "Keras and JAX train the same: every rung holds."}
    compare.add_meshes(verdict, *judged())
    assert not verdict["agrees"] and [rung["name"] for rung in verdict["rungs"]] == ["P5", "P6", "P7"]
    assert "P0 to P5 hold. 1 of 3 meshes do not" in verdict["sentence"]


# ---- what another comparison has trained


def counted(monkeypatch):
    """[module] of what is asked to train meshes from now on, in turn: it trains none, but leaves runs, and a check
    whose figure is not finite."""
    trained = []

    def train_all(recipe, out, sides, planted):
        trained.extend(sides.values())
        for key in sides:
            for name in ("one-device", "data-2"):
                write_text(out / f"{key}-{name}" / "metrics.jsonl", sides[key])
        return {key: {} for key in sides}

    def judge_side(recipe, out, key, missing):
        rows = [{"backend": key, "mesh": "data 2", "hosts": 1, "devices": 2, "accumulate": 1, "agrees": False,
                 "run": f"{key}-data-2", "weights_apart": 0.0}]
        what = f"{meshes.LABELS[key]}, data 2: float32 loss"
        return meshes.MeshSide(rows=rows, checks=[check(what, math.inf, 1.0, "step 1", "twin")])

    monkeypatch.setattr(meshes, "train_all", train_all)
    monkeypatch.setattr(meshes, "judge_side", judge_side)
    monkeypatch.setattr(meshes, "row_weights", lambda recipe: np.ones((6, 32)))
    return trained


def test_the_meshes_of_a_column_are_trained_once_for_both_of_its_pairs(tmp_path, monkeypatch):
    """As `benchmarks/columns.py` takes them: the third pair trains nothing at all."""
    trained = counted(monkeypatch)
    first, second, third = (tmp_path / name for name in ("keras+keras-jax", "keras+jax", "keras-jax+jax"))
    pairs = [(first, ("keras", "keras-jax"), {}), (second, ("keras", "jax"), {"keras": (first, "keras")}),
             (third, ("keras-jax", "jax"), {"keras": (first, "jax"), "jax": (second, "jax")})]
    for out, pair, taken in pairs:
        with labelled(described().model, pair):
            rung, found = meshes.check_meshes(described(), out, (), pair, taken)
    assert trained == [f"twinscale.{room}" for room in ("tfscale", "kerasjax", "jaxscale")]
    assert [(row["backend"], row["run"]) for row in found["rows"]] == [("keras", "keras-data-2"), ("jax", "jax-data-2")]
    assert (third / "meshes" / "keras-data-2" / "metrics.jsonl").read_text() == "twinscale.kerasjax"
    assert [check["what"].split(",")[0] for check in rung["checks"]] == ["Keras on JAX", "Flax on JAX"]
    assert not rung["agrees"] and rung["worst"] == math.inf  # which the file has as null


def test_meshes_that_another_comparison_has_not_judged_are_trained(tmp_path, monkeypatch):
    trained = counted(monkeypatch)
    meshes.check_meshes(described(), tmp_path / "out", taken={"keras": (tmp_path / "failed", "jax")})
    assert trained == ["twinscale.tfscale", "twinscale.jaxscale"]


# ---- several hosts


def test_hosts_are_processes_that_train_the_same_steps(tmp_path, monkeypatch):
    monkeypatch.setitem(MESHES, "jax", FEW)
    asked = []

    def run_local(commands, environments, grace, say):
        asked.append((commands, environments))
        say("[1] twinscale: devices.hosts=2, but the hosts did not meet")
        return 4

    monkeypatch.setattr(meshes, "run_local", run_local)
    recipe = prepared(described(), tmp_path)
    assert meshes.train_hosts(recipe, "jax", tmp_path) == {
        "data 2, 2 hosts": "devices.hosts=2, but the hosts did not meet"}
    (commands, environments), = asked
    assert [each["JAX_PROCESS_ID"] for each in environments] == ["0", "1"]
    assert all(each["JAX_PLATFORMS"] == "cpu" for each in environments)
    assert all(words[-4:] == ["--twin-steps", "1", "--stop", "6"] for words in commands)
    file = next(word for word in commands[0] if word.endswith(".toml"))
    assert load(file, []).hash == on_mesh(recipe, "jax", FEW[2]).hash


def test_ctrl_c_ends_the_comparison_and_not_a_mesh_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(MESHES, "jax", FEW)
    monkeypatch.setattr(meshes, "run_local", lambda commands, environments, grace, say: say(
        "twinscale: SIGINT: passed on to hosts 0 and 1"))
    with pytest.raises(KeyboardInterrupt):
        meshes.train_hosts(prepared(described(), tmp_path), "jax", tmp_path)


def test_what_is_planted_is_not_in_other_processes(tmp_path):
    found = meshes.train_hosts(prepared(described(), tmp_path), "jax", tmp_path, "mean_of_means")
    assert set(found) == {"data 2, 2 hosts", "data 2 x fsdp 2, 2 hosts"}
    assert all("`mean_of_means` is planted in the processes of one host" in why for why in found.values())


# ---- the report


def pages(rung, found, out):
    write_report({"agrees": rung["agrees"], "rungs": [rung], "meshes": found, "sentence": "s", "horizon": None}, out)
    return (out / "report.html").read_text(), (out / "report.md").read_text()


def test_the_report_has_a_row_for_each_mesh(trained, tmp_path):
    rung, found = trained[2](**{"data 2, 2 hosts": "no `gloo` <here>"})
    for page in pages(rung, found, tmp_path / "out"):
        assert "2 of 2 meshes train as one device of the same backend does, over 6 steps in float32. Near" in page
        assert "Nearest to its bound is JAX on " in page
        assert "All shares of a batch weigh the same" in page and "step times" in page
        assert "JAX on data 2, 2 hosts: no" in page and "<here>" not in page
        assert "4 x the float32 twin" in page and "data 2 x fsdp 2, accumulate 2" in page
        assert "twinscale bisect` on this directory" not in page


def test_the_report_says_which_mesh_is_worst_and_what_did_not_end(trained, tmp_path):
    recipe, out, judged = trained
    change_state(run_path(out, "jax", FEW[1]))
    change_run(state="failed", error="NonFinite: step 3")(run_path(out, "jax", FEW[0]))
    for page in pages(*judged(), tmp_path / "out"):
        assert "1 of 3 meshes train" in page and "Worst is JAX on data 2 x fsdp 2, accumulate 2: its state is" in page
        assert "NonFinite: step 3" in page and "twinscale bisect</code> on this" not in page


def test_uneven_masks_are_counted(trained, tmp_path):
    rung, found = trained[2]()
    found |= {"uneven_steps": 5, "made": True}
    for row, apart in zip(found["rows"], (0.1, 0.25, None), strict=True):
        row["weights_apart"] = apart
    for page in pages(rung, found, tmp_path / "out"):
        assert "short documents" in page and "in 5 of 6 steps" in page
        assert "up to 25 % (JAX on data 2 x fsdp 2, accumulate 2; least 10 %, JAX on data 2)" in page
