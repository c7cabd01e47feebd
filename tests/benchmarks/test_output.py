"""The directories that verbs fill: what is a user's stays as it is, and no verb goes on with the work of another."""

import contextlib
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.benchmarks import audit, compare, runs
from twinscale.benchmarks.compression import compare as compression
from twinscale.benchmarks.laws.predict import predict_loss
from twinscale.benchmarks.output import Delivery
from twinscale.benchmarks.planning import plan
from twinscale.benchmarks.planning.compress import plan_serving
from twinscale.benchmarks.preflight import FILE, preflight
from twinscale.benchmarks.preflight import KEYS as PREFLIGHT
from twinscale.benchmarks.preflight import options as trying
from twinscale.benchmarks.preflight import search as searching
from twinscale.benchmarks.timing import bench
from twinscale.common.errors import BadInput
from twinscale.common.files.output import clear
from twinscale.common.recipe.schema import Recipe

RECIPE = Recipe.model_validate({"name": "x", "data": {"source": "digits"}, "model": {"family": "mlp", "hidden": [8]}})
STAGED = RECIPE.with_values(compress={"stages": [{"kind": "prune"}]})
FOLDERS = {  # of verbs that mark a directory: its layout, folders in it, and what they leave there
    "compare": (compare.KIND,
                ("runs", "runs/keras-float32", "runs/keras-float32/checkpoints", "tensors", "outcome", "meshes", "swap",
                 "left", "files"),
                ("verdict.json", "report.html", "runs/keras-float32/run.json", "runs/jax-1-prune/trace/twin/run.json",
                 "runs/jax-1-prune/.lock", "tensors/contract-jax.json", "tensors/1-prune-start.safetensors",
                 "outcome/jax-seed-4/run.json", "meshes/jax-data-2.toml", "meshes/jax-data-2/run.json",
                 "swap/jax-float32.safetensors", "left/keras-dense.safetensors", "files/jax-dense-float-1.tflite")),
    "audit": (audit.KIND, ("corpus", "trials", "trials/layer", "trials/layer/runs", "compiled", "rows"),
              ("audit.json", "audit.html", "corpus/03.txt", "trials/layer/runs/jax-float64/run.json",
               "trials/keras-adam_epsilon/tensors/taps-jax-float64-0.safetensors", "compiled/jit_step-1f-cache",
               "rows/keras-adam_epsilon.json")),
    "compare-runs": (runs.KIND, (), ("verdict.json", "report.html", "report.md"))}


def filled(path, names):
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("{}")


def content(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("kind, folders, made", FOLDERS.values(), ids=FOLDERS)
def test_overwriting_removes_what_the_verb_has_made_and_nothing_else(tmp_path, theirs, kind, folders, made):
    out = tmp_path / "out"
    clear(out, kind, {"verb": "it"}, False)
    filled(out, made)
    mine = theirs(out, folders)
    before = mine()
    clear(out, kind, {"verb": "it"}, True)
    assert mine() == before and not [name for name in made if (out / name).exists()]
    for folder in (folder for folder in folders if "/" not in folder):  # each a link to somebody's
        shutil.rmtree(out / folder)
        (out / folder).symlink_to(tmp_path / "out-of-mine")
    filled(tmp_path / "out-of-mine", (name.partition("/")[2] for name in made if "/" in name))
    before = content(tmp_path / "out-of-mine")
    clear(out, kind, {"verb": "it"}, True)
    assert content(tmp_path / "out-of-mine") == before and not [f for f in folders if (out / f).is_symlink()]


@pytest.mark.parametrize("kind", [kind for kind, *_ in FOLDERS.values()], ids=FOLDERS)
def test_what_has_no_marker_of_the_verbs_own_is_refused(tmp_path, theirs, kind):
    mine = theirs(tmp_path / "out")
    (tmp_path / "out" / ".other").touch()
    before = mine()
    for overwrite in (False, True):
        with pytest.raises(BadInput, match="not ours"):
            clear(tmp_path / "out", kind, {}, overwrite)
    assert mine() == before


def test_a_comparison_goes_on_as_itself_alone(tmp_path, theirs):
    out = tmp_path / "out"
    compare.prepare(out, RECIPE, False)
    mine = theirs(out, ("runs", "tensors"))
    before = mine()
    compare.prepare(out, RECIPE, False)  # it was cut short
    assert mine() == before
    for other in (RECIPE.with_values(seed=3), RECIPE.with_values(train={"steps": 7})):
        with pytest.raises(BadInput, match="an unfinished result"):
            compare.prepare(out, other, False)
    filled(out, ["verdict.json"])
    with pytest.raises(BadInput, match="a finished result"):
        compare.prepare(out, RECIPE, False)
    (out / "tensors").rename(tmp_path / "tensors")
    (out / "tensors").symlink_to(tmp_path / "tensors")
    with pytest.raises(BadInput, match="a link"):
        compare.bisect(out)


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """killed(run, out, backend): `compress` of the run "a" or "b" into a directory, which dies at its first stage."""
    models = {name: (RECIPE, {"head.kernel": np.full(3, value, np.float32)}) for name, value in (("a", 1), ("b", 2))}
    monkeypatch.setattr(compression, "read_run", lambda _: {"state": "finished", "final": {"accuracy": 0.5}})
    monkeypatch.setattr(compression, "kept_of", lambda _: None)
    monkeypatch.setattr(compression, "model_of", lambda run: models[run.name])
    monkeypatch.setattr(compression, "ready", lambda recipe, _: (recipe, SimpleNamespace(manifest={}), {}))

    @contextlib.contextmanager
    def dies(**_):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(compression, "open_workers", dies)
    return lambda run, backend="jax", recipe=STAGED: compression.compress(
        recipe, tmp_path / run, tmp_path / "out", backend)


def test_a_compression_goes_on_with_the_same_model_alone(killed, tmp_path, theirs):
    with pytest.raises(KeyboardInterrupt):
        killed("a")
    finished = tmp_path / "out" / "runs" / "jax-1-prune"
    filled(finished, ["run.json", "trace/final.safetensors"])
    mine = theirs(tmp_path / "out", ("runs", "left"))
    before = content(tmp_path / "out") | mine()
    other = STAGED.with_values(seed=1)
    for run, backend, recipe in (("b", "jax", STAGED), ("a", "keras", STAGED), ("a", "jax", other)):
        with pytest.raises(BadInput, match="an unfinished result"):
            killed(run, backend, recipe)
    with pytest.raises(BadInput, match="an unfinished result"):  # which trains the dense model itself
        compression.prepare_stages(tmp_path / "out", STAGED, False, {})
    assert content(tmp_path / "out") | mine() == before
    with pytest.raises(KeyboardInterrupt):
        killed("a")
    assert content(tmp_path / "out") | mine() == before  # what is finished stays, and so does the rest
    (tmp_path / "out" / "runs").rename(tmp_path / "runs")
    (tmp_path / "out" / "runs").symlink_to(tmp_path / "runs")
    with pytest.raises(BadInput, match="a link"):
        killed("a")


ANSWERS = {  # of verbs that leave single files in anybody's directory: how they are asked, and what they leave
    "bench": (lambda out, overwrite: bench.bench(RECIPE, out, overwrite=overwrite), {"bench.json": bench.KEYS}),
    "preflight": (lambda out, overwrite: preflight(RECIPE, out, topologies=("v5e:2x2",), overwrite=overwrite),
                  {FILE: PREFLIGHT, "report.html": ()}),
    "search": (lambda out, overwrite: searching.search(RECIPE, out, topologies=("v5e:2x2",), overwrite=overwrite),
               {searching.FILE: searching.KEYS, searching.PATCH: ()}),
    "options": (lambda out, overwrite: trying.options(RECIPE, out, topologies=("v5e:2x2",), overwrite=overwrite),
                {trying.FILE: trying.KEYS, trying.PAGE: ()}),
    "plan": (lambda out, overwrite: plan.plan(None, topologies=("v5e-16",), flops=1e18, mfu="0.4", out=out),
             {"plan.json": ()}),
    "predict-loss": (lambda out, overwrite: predict_loss("hoffmann2022", {"N": [1e9], "D": [2e10]},
                                                         to=Delivery(out, overwrite)), {"prediction.json": ()}),
    "plan-serving": (lambda out, overwrite: plan_serving("hoffmann2022", {"memory": 4e9, "tokens": 1e11},
                                                         to=Delivery(out, overwrite)), {"serving.json": ()})}


@pytest.mark.parametrize("verb", ANSWERS)
def test_a_file_that_is_no_answer_of_the_verbs_own_is_refused(tmp_path, theirs, verb):
    ask, files = ANSWERS[verb]
    for name in files:
        out = tmp_path / name.partition(".")[2]
        theirs(out)
        (out / name).write_text(json.dumps({"mine": 1}))
        before = content(tmp_path)
        for overwrite in (False, True):
            with pytest.raises(BadInput, match=f"{name} there is not ours"):
                ask(out, overwrite)
        assert content(tmp_path) == before


def test_a_plan_is_replaced_and_what_lies_beside_it_stays(tmp_path, theirs):
    mine = theirs(tmp_path / "out")
    before = mine()
    for _ in range(2):
        assert ANSWERS["plan"][0](tmp_path / "out", False) == 0
    assert mine() == before and json.loads((tmp_path / "out" / "plan.json").read_text())["rows"]


def test_what_another_verb_has_made_is_not_overwritten(tmp_path):
    """A comparison and a compression are marked alike, and neither may take the other's place."""
    from twinscale.benchmarks.compare import KIND
    from twinscale.common.files.output import clear

    clear(tmp_path, KIND, {"verb": "compare", "recipe": "1"}, False)
    (tmp_path / "verdict.json").write_text("{}")
    with pytest.raises(BadInput, match="holds what `twinscale compare` has made, not `compress`"):
        clear(tmp_path, KIND, {"verb": "compress"}, True)
    assert (tmp_path / "verdict.json").read_text() == "{}"
    clear(tmp_path, KIND, {"verb": "compare-stages", "recipe": "2"}, True)
    assert not (tmp_path / "verdict.json").exists()


def test_a_contract_without_its_recipe_compares_nothing(tmp_path):
    from twinscale.benchmarks.verdict import read_hashes

    (tmp_path / "contract.json").write_text("{}")
    with pytest.raises(BadInput, match="contract.json: recipe: missing"):
        read_hashes(tmp_path / "contract.json")
