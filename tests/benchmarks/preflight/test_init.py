"""The preflight's arithmetic, refusals and verdicts, with a compiler that answers what a test says."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from twinscale.benchmarks import preflight as flight
from twinscale.benchmarks.preflight import compilers
from twinscale.common.data.shapes import data_shape
from twinscale.common.errors import BadInput, TwinscaleError
from twinscale.common.families.parameters import parameters
from twinscale.common.files.access import write_json
from twinscale.common.machine.topology import CHIPS, parse
from twinscale.common.recipe.file import load
from twinscale.common.recipe.schema import Recipe

V5E = CHIPS["v5e"]
GIB = 2**30
MEMORY = {"arguments": 6 * GIB, "temporaries": 3 * GIB, "output": 5 * GIB, "alias": 5 * GIB, "code": GIB, "host": 0}
MODULE = """HloModule step, num_partitions=4

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %s = f32[] add(%x, %y)
}

ENTRY %main (a: f32[64,64]) -> f32[64,64] {
  %a = f32[64,64]{1,0} parameter(0)
  %p = f32[64,64]{1,0} dot(%a, %a), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %r = f32[64,64]{1,0} all-reduce(%p), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add
}
"""
GATHER = '  %g = f32[256,64]{1,0} all-gather(%p), channel_id=2, replica_groups={{0,1,2,3}}, dimensions={0}\n  ROOT'
ANSWER = {"compiles": True, "error": None, "over_bytes": None, "capacity_bytes": None, "memory": MEMORY,
          "compiler_flops": 1.0, "mesh": {"data": 4}, "kind": "TPU v5 lite", "xla_flags": {}, "lower_seconds": 1.0,
          "compile_seconds": 2.0}
OVER = ANSWER | {"compiles": False, "error": "RESOURCE_EXHAUSTED: Ran out of memory on HBM", "over_bytes": 20 * GIB,
                 "capacity_bytes": round(15.75 * GIB), "memory": None}


def recipe_of(**sections):
    values = {"name": "tiny", "data": {"source": "digits"}, "model": {"family": "mlp", "hidden": [8]},
              "train": {"global_batch": 32}}
    for section, changes in sections.items():
        values[section] = {**values.get(section, {}), **changes}
    return Recipe.model_validate(values)


class Answers:
    """A process that answers with reports in turn; one that is an exception is raised and kills it."""

    def __init__(self, backend, reports, module):
        self.backend, self.reports, self.module = backend, reports, module
        self.process = SimpleNamespace(returncode=-11, poll=lambda: -11)

    def ask(self, call, recipe=None, **arguments):
        if call == "lower":
            return {"rows": [1, 2], "seconds": 3.0}
        report = self.reports.pop(0)
        if isinstance(report, Exception):
            raise report
        arguments["module"].write_text(self.module)
        return dict(report)

    def close(self):
        pass


@pytest.fixture
def fly(monkeypatch, tmp_path):
    """fly(reports, module, **options): (exit code, preflight.json)."""
    monkeypatch.setattr(flight, "find_libtpu", lambda environment: tmp_path / "libtpu" / "libtpu.so")
    monkeypatch.setattr(compilers, "tell", lambda *_: None)
    monkeypatch.setattr(flight, "write_report", lambda *_: None)  # whose drawing takes a while

    def run(reports, module=MODULE, recipe=None, out=tmp_path / "out", **options):
        answers = {backend: list(each) for backend, each in reports.items()}
        monkeypatch.setattr(compilers, "Worker", lambda backend, *_: Answers(backend, [], module))
        monkeypatch.setattr(compilers, "open_compiler", lambda backend, _: Answers(backend, answers[backend], module))
        options = {"topologies": ("v5e:2x2",), "backends": tuple(reports), "overwrite": True} | options
        code = flight.preflight(recipe or recipe_of(), out, **options)
        return code, json.loads((out / "preflight.json").read_text())

    return run


# ---- what is reported

def test_a_row_has_what_the_compiler_says_and_what_we_count(fly):
    code, found = fly({"jax": [ANSWER], "keras": [ANSWER]})
    assert code == 0 and [row["backend"] for row in found["results"]] == ["jax", "keras"]
    row = found["results"][0]
    assert row["compiles"] and row["fits"] and row["hbm_bytes_per_device"] == 10 * GIB
    assert row["hbm_capacity_bytes"] == V5E.hbm_bytes and row["headroom_bytes"] == V5E.hbm_bytes - 10 * GIB
    assert row["flops_per_device"] == 2 * 64**3 and row["bytes_moved_per_device"] == 4 * 64 * 64 * (3 + 2)
    assert row["collectives"] == [{"kind": "all-reduce", "network": "ici", "group": 4, "count": 1, "bytes": 16384,
                                   "bytes_sent": 24576, "asynchronous": 0, "asynchronous_bytes_sent": 0,
                                   "sparsecore": 0}]
    assert row["bytes_per_link"] == 24576 / 2 and found["results"][1]["lower_seconds"] == 4.0
    assert "TPUStrategy" in found["assumptions"]["keras"] and "no prediction" in found["assumptions"]["roofline"]
    assert found["chips"]["v5e"]["sources"]["hbm_bandwidth"].startswith("Google Cloud")


def test_several_topologies_are_rows_in_the_order_asked(fly):
    _, found = fly({"jax": [ANSWER, OVER], "keras": [ANSWER, ANSWER]}, topologies=("v5e-4", "v4-8", "v5e:2x2"))
    assert [(row["backend"], row["topology"], row["fits"]) for row in found["results"]] == [
        ("jax", "v5e:2x2", True), ("keras", "v5e:2x2", True), ("jax", "v4:2x2x1", False), ("keras", "v4:2x2x1", True)]


def test_what_does_not_fit_has_the_compilers_figure_and_exit_code_1(fly, capsys):
    code, found = fly({"jax": [OVER]})
    row = found["results"][0]
    assert code == 1 and row["fits"] is False and not row["compiles"] and row["hbm_bytes_per_device"] == 20 * GIB
    assert row["headroom_bytes"] == round(15.75 * GIB) - 20 * GIB
    assert "no, 4.25 GiB too much" in capsys.readouterr().out


def test_what_compiles_and_is_too_large_does_not_fit_either(fly):
    code, found = fly({"jax": [ANSWER | {"memory": MEMORY | {"temporaries": 9 * GIB}}]})
    assert code == 1 and found["results"][0]["fits"] is False and found["results"][0]["compiles"]


def test_a_compiler_that_dies_is_a_row_and_the_next_topology_goes_on(fly):
    code, found = fly({"jax": [TwinscaleError("died"), ANSWER]}, topologies=("v6e:2x2", "v5e:2x2"))
    dead, alive = found["results"]
    assert code == 1 and dead["fits"] is None and "exit code -11" in dead["error"] and alive["fits"]
    assert found["parity"] == []


def test_json_in_place_of_the_table(fly, capsys):
    _, found = fly({"jax": [ANSWER]}, as_json=True)
    assert json.loads(capsys.readouterr().out) == found


@pytest.mark.parametrize("name", ["decoder-8b", "decoder-70b"])
def test_a_goldens_gathers_are_those_that_a_hand_counts(name):
    """Under fsdp and `remat = "full"` each device gathers a block's kernels forward and once more backward, and the
    head once. The embedding is cut by width and stays where it lies: each device gathers all tokens, an id in 4 bytes
    and in 1 whether the table has it. The 70B recipe's golden of libtpu 0.0.42.1 had two gathers more a block, of the
    bytes of its query and key kernels."""
    recipe = load(f"recipes/tpu/{name}.toml", [])
    length, = data_shape(recipe)[1]
    tokens = recipe.train.global_batch // recipe.devices.fsdp * length
    kernels = [(path.startswith("block_"), 2 * math.prod(p.shape) // recipe.devices.fsdp)  # bytes in bfloat16
               for path, p in parameters(recipe.model, *data_shape(recipe)).items() if path.endswith("kernel")]
    parts = [*kernels, (False, 4 * tokens), (False, tokens)]
    golden = json.loads(Path(f"recipes/tpu/goldens/{name}.json").read_text())["results"][0]["collectives"]
    assert {(each["count"], each["bytes"]) for each in golden if each["kind"] == "all-gather"} == {
        (sum(1 + again for again, _ in parts), sum(size * (1 + again) for again, size in parts))}


def test_what_a_backend_does_not_read_of_a_recipe_is_said(fly, capsys):
    fly({"jax": [ANSWER], "keras-jax": [ANSWER]}, recipe=recipe_of(keras={"jit_compile": False}))
    said = [line for line in capsys.readouterr().err.splitlines() if "keras.jit_compile=false" in line]
    assert len(said) == 1 and "keras-jax" in said[0]


@pytest.mark.parametrize("name", ["decoder-125m", "decoder-1b", "decoder-8b"])
def test_of_a_golden_keras_on_jax_sends_what_flax_does(name):
    """It is one step, of two programs of the same tensors, over one mesh."""
    golden = json.loads(Path(f"recipes/tpu/goldens/{name}.json").read_text())["results"]
    sent = {(row["backend"], row["topology"]): row["collectives"] for row in golden if row["fits"]}
    on_keras = {topology: sent[backend, topology] for backend, topology in sent if backend == "keras-jax"}
    assert on_keras == {topology: sent["jax", topology] for topology in on_keras} and any(
        topology.startswith("v5e") for topology in on_keras)


# ---- side by side

def test_differences_are_named_by_operation(fly, capsys):
    _, found = fly({"jax": [ANSWER], "keras": [ANSWER | {"memory": MEMORY | {"temporaries": 4 * GIB}}]})
    beside, = found["parity"]
    assert {(line["figure"], line["operation"]): round(line["difference"], 2) for line in beside["differences"]} == {
        ("hbm bytes", "all"): 0.09, ("hbm bytes", "temporaries"): 0.25}
    figures = {line["figure"] for line in beside["operations"]}
    assert {"flops", "hbm bytes", "collective bytes", "collectives", "fusions"} <= figures
    told = "hbm bytes, temporaries: jax 3,221,225,472, keras 4,294,967,296 (Keras / JAX 1.33 ×)"
    assert told in capsys.readouterr().out


# ---- against an earlier one

def test_a_golden_is_kept_and_holds(fly, tmp_path):
    path = tmp_path / "golden.json"
    assert fly({"jax": [ANSWER]}, write_golden=str(path))[0] == 0
    golden = json.loads(path.read_text())
    assert set(golden["results"][0]) == {"backend", "topology", "slices", "compiles", "fits", "collectives"}
    code, found = fly({"jax": [ANSWER]}, check=str(path), topologies=())  # those of the golden
    assert code == 0 and found["check"] == {"golden": str(path), "worse": [], "versions": {}}
    assert fly({"jax": [ANSWER]}, check=str(tmp_path / "out" / "preflight.json"))[0] == 0


def test_a_golden_of_other_versions_is_said_to_be(fly, tmp_path, capsys):
    path = tmp_path / "golden.json"
    fly({"jax": [ANSWER]}, write_golden=str(path))
    golden = json.loads(path.read_text())
    path.write_text(json.dumps(golden | {"versions": golden["versions"] | {"jax": "0.1.0"}}))
    code, found = fly({"jax": [ANSWER]}, check=str(path))
    assert code == 0 and found["check"]["versions"]["jax"][0] == "0.1.0"
    assert "The golden was made with jax 0.1.0, this is " in capsys.readouterr().out


def test_a_planted_all_gather_is_worse(fly, tmp_path, capsys):
    path = tmp_path / "golden.json"
    fly({"jax": [ANSWER]}, write_golden=str(path))
    code, found = fly({"jax": [ANSWER]}, MODULE.replace("  ROOT %r", f"{GATHER} %r"), check=str(path))
    assert code == 1 and len(found["check"]["worse"]) == 1
    assert "jax on v5e:2x2 communicates more: all-gather over ici 0 -> 1, 0 -> 16,384 bytes" in capsys.readouterr().out


def test_a_collective_that_nothing_is_seen_to_start_is_said_and_is_worse(fly, tmp_path, capsys):
    """A libtpu may start it in a way of its own: fewer would be counted, and nobody would know."""
    path = tmp_path / "golden.json"
    fly({"jax": [ANSWER]}, write_golden=str(path))
    lost = "%lost (q: f32[64,64]) -> f32[64,64] {\n  %q = f32[64,64]{1,0} parameter(0)\n" + MODULE.splitlines()[
        -2].replace("%r", "%l").replace("%p", "%q") + "\n}\n\nENTRY"
    code, found = fly({"jax": [ANSWER]}, MODULE.replace("ENTRY", lost), check=str(path))
    assert code == 1 and found["results"][0]["unread_collectives"] == ["l"]
    assert found["check"]["worse"] == ["jax on v5e:2x2 has collectives that could not be counted: 1"]
    assert "1 that could not be counted" in capsys.readouterr().out


@pytest.mark.parametrize("answer, words", [
    (OVER, "does not fit any more: 20 GiB of 15.75 GiB"), (TwinscaleError("died"), "does not compile any more"),
    (ANSWER | {"memory": MEMORY | {"temporaries": 9 * GIB}}, "does not fit any more: 16 GiB")])
def test_what_stops_fitting_or_compiling_is_worse(fly, tmp_path, answer, words):
    path = tmp_path / "golden.json"
    fly({"jax": [ANSWER]}, write_golden=str(path))
    code, found = fly({"jax": [answer]}, check=str(path))
    assert code == 1 and words in found["check"]["worse"][0] and len(found["check"]["worse"]) == 1


def test_what_never_fitted_is_not_worse(fly, tmp_path):
    path = tmp_path / "golden.json"
    assert fly({"jax": [OVER]}, write_golden=str(path))[0] == 1
    assert fly({"jax": [OVER]}, check=str(path))[0] == 0 == fly({"jax": [ANSWER | {"memory": MEMORY}]},
                                                                MODULE.replace("all-reduce(", "negate("),
                                                                check=str(path))[0]


def test_a_golden_that_says_nothing_is_refused(fly, tmp_path):
    path = tmp_path / "golden.json"
    for text in ("", "[]", '{"schema_version": 1, "results": []}', '{"schema_version": 9, "results": [1]}'):
        path.write_text(text)
        with pytest.raises(BadInput, match="--check .*neither"):
            fly({"jax": [ANSWER]}, check=str(path))
    with pytest.raises(BadInput, match="cannot be read"):
        fly({"jax": [ANSWER]}, check=str(tmp_path / "none.json"))


@pytest.mark.parametrize("asked, words", [
    ({"topologies": ("v4-8",), "backends": ("jax",)}, "nothing of jax on v4"),
    ({"topologies": ("v5e:2x2", "v4-8"), "backends": ("jax",)}, "nothing of jax on v4"),
    ({"topologies": ("v4-8",), "backends": ()}, "nothing of v4"),
    ({"topologies": (), "backends": ("jax", "keras-jax")}, "nothing of keras-jax;"),
    ({"topologies": ("v6e:2x2",), "backends": ("jax", "keras")}, "nothing of keras on v6e")])
def test_what_a_golden_says_nothing_of_is_refused_before_it_is_compiled(fly, tmp_path, monkeypatch, asked, words):
    path = tmp_path / "golden.json"
    fly({"jax": [ANSWER, ANSWER], "keras": [ANSWER, ANSWER]}, write_golden=str(path), topologies=("v5e:2x2", "v6e:2x2"))
    golden = json.loads(path.read_text())
    path.write_text(json.dumps(golden | {"results": golden["results"][:-1]}))  # all but keras on v6e
    monkeypatch.setattr(flight, "compile_all", lambda *_: pytest.fail("it compiles"))
    with pytest.raises(BadInput, match=words):
        fly({}, check=str(path), **asked)


def test_a_golden_may_hold_a_backend_on_one_of_its_slices_alone(fly, tmp_path):
    """Then that is all that a check compiles for it; and what is asked for of a golden is all that it compiles."""
    path = tmp_path / "golden.json"
    fly({"jax": [ANSWER, ANSWER], "keras-jax": [ANSWER, ANSWER]}, write_golden=str(path),
        topologies=("v5e:2x2", "v6e:2x2"))
    golden = json.loads(path.read_text())
    write_json(path, golden | {"results": golden["results"][:-1]})
    for asked, rows in (({}, 3), ({"backends": ("jax",)}, 2), ({"backends": ("keras-jax",)}, 1),
                        ({"topologies": ("v6e:2x2",)}, 1), ({"topologies": ("v5e:2x2",)}, 2)):
        code, found = fly({"jax": [ANSWER, ANSWER], "keras-jax": [ANSWER]}, check=str(path),
                          **{"topologies": (), "backends": ()} | asked)
        assert code == 0 and found["check"]["worse"] == [] and len(found["results"]) == rows
        assert {(row["backend"], row["topology"]) for row in found["results"]} <= {
            (row["backend"], row["topology"]) for row in golden["results"][:-1]}
    fly({"jax": [ANSWER, ANSWER], "keras-jax": [ANSWER]}, check=str(path), write_golden=str(tmp_path / "again.json"),
        topologies=(), backends=())
    assert (tmp_path / "again.json").read_text() == path.read_text()


# ---- refusals

@pytest.mark.parametrize("sections, topology, slices, backend, words", [
    ({}, "v5e:2x2", 2, "keras", "TPUStrategy trains on one slice"),
    ({"devices": {"fsdp": 3}}, "v5e:2x2", 1, "jax", "does not divide the 4 chips of v5e:2x2"),
    ({"devices": {"data": 2}}, "v5e:2x2", 1, "jax", "devices.data=2 does not make up the 4 chips"),
    ({"devices": {"replica": 4}}, "v5e:2x2", 2, "jax", "devices.replica=4, but --slices 2"),
    ({"train": {"global_batch": 6}}, "v5e:2x2", 1, "jax", "4 shares of a batch do not divide the 6 rows"),
    ({"train": {"global_batch": 6}}, "v5e:2x2", 1, "keras", "4 shares of a batch do not divide the 6 rows"),
    ({}, "tpu7x:2x2x1", 1, "keras", "TensorFlow does not run on TPU7x; take --runtime jax or --backend jax"),
    ({"devices": {"fsdp": 3}}, "tpu7x:2x2x1", 1, "jax", "the 8 devices (2 a chip) of tpu7x:2x2x1")])
def test_what_cannot_be_laid_out_is_named(sections, topology, slices, backend, words):
    with pytest.raises(BadInput) as caught:
        flight.placed(recipe_of(**sections), parse(topology, slices), backend)
    assert words in str(caught.value)


def test_in_keras_all_chips_share_the_batch():
    placed = flight.placed(recipe_of(devices={"fsdp": 2, "tensor": 2, "data": 1}), parse("v5e:2x2"), "keras").devices
    assert (placed.data, placed.fsdp, placed.tensor) == (4, 1, 1)


def test_the_mesh_takes_all_chips():
    assert flight.placed(recipe_of(), parse("v5e:2x4"), "jax").devices.data == 8
    assert flight.placed(recipe_of(), parse("tpu7x:2x2x1"), "jax").devices.data == 8
    placed = flight.placed(recipe_of(devices={"fsdp": 2, "data": 0}), parse("v5e:2x4", 2), "jax").devices
    assert (placed.replica, placed.data, placed.fsdp) == (2, 4, 2)


def test_nothing_else_in_the_directory_is_touched(fly, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    fly({"jax": [ANSWER]})
    with pytest.raises(BadInput, match="--overwrite"):
        fly({"jax": [ANSWER]}, overwrite=False)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mine", "preflight.json"}
    with pytest.raises(BadInput, match="a file"):
        fly({"jax": [ANSWER]}, out=tmp_path / "out" / "mine")
