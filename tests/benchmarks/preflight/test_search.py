"""The search for the largest batch, with chips whose memory a test says; what the compiler says is tested elsewhere."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinscale.benchmarks.preflight import search as searching
from twinscale.common import cli
from twinscale.common.errors import BadInput
from twinscale.common.machine.topology import parse
from twinscale.common.recipe.file import dumps, load
from twinscale.common.recipe.schema import Recipe

GIB = 2**30
CAPACITY = round(15.75 * GIB)
ROWS = {"full": 0.5 * GIB, "dots": 1.5 * GIB, "none": 4 * GIB}  # bytes of a row of a chip


def recipe_of(**sections):
    return Recipe.model_validate({
        "name": "tiny", "data": {"source": "stdlib", "sequence": 128, "cross_documents": True},
        "model": {"family": "decoder", "layers": 2, "width": 64, "heads": 4},
        "train": {"global_batch": 4, **sections.pop("train", {})}, **sections})


def row(recipe, used):
    devices = recipe.devices
    return {"backend": "jax", "compiles": True, "fits": used <= CAPACITY, "error": None, "headroom_bytes":
            CAPACITY - round(used), "hbm_bytes_per_device": round(used), "hbm_capacity_bytes": CAPACITY, "bound": "hbm",
            "mfu_ceiling": 0.5, "throughput_ceiling": 1e6 / devices.tensor, "unit": "tokens/s"}


@pytest.fixture
def sought(monkeypatch, tmp_path, compiles):
    """sought(recipe, state=bytes, **options): (exit code, search.json, the recipes that were compiled)."""
    monkeypatch.setenv("TWINSCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(searching, "find_libtpu", lambda environment: tmp_path / "libtpu" / "libtpu.so")
    whole = []  # bytes of the state

    def says(recipe):
        """The state is split over fsdp x tensor, and a row takes so much."""
        devices = recipe.devices
        rows = recipe.train.global_batch / recipe.train.accumulate / (devices.data * devices.fsdp)
        held = whole[-1] / (devices.fsdp * devices.tensor) * (1 + (recipe.train.accumulate > 1) / 4)
        return row(recipe, held + rows * ROWS[recipe.jax.remat] / devices.tensor)

    compiled = compiles(searching, says)

    def run(recipe=None, out="out", state=8 * GIB, **options):
        compiled.clear()
        whole.append(state)
        code = searching.search(recipe or recipe_of(), tmp_path / out, **{"topologies": ("v5e:2x2",), **options})
        return code, json.loads((tmp_path / out / "search.json").read_text()), list(compiled)

    return run


@given(st.integers(0, 300), st.integers(0, 400), st.integers(0, 3))
def test_the_largest_is_found_and_one_more_was_tried(best, guess, bend):
    """Whatever was guessed, of memory that grows with rows, straight or bent."""
    tried = {}

    def measure(rows):
        used = 1000 + 7 * rows + bend * math.isqrt(rows) * 5
        capacity = 1000 + 7 * best + bend * math.isqrt(best) * 5
        tried[rows] = {"fits": used <= capacity, "hbm_bytes_per_device": used, "hbm_capacity_bytes": capacity}
        return tried[rows]

    assert searching.largest(measure, tried, guess) == best
    assert (best == 0 or tried[best]["fits"]) and not tried[best + 1]["fits"]
    assert len(tried) <= 2 + math.ceil(math.log2(searching.MOST))
    assert guess != best or len(tried) <= 2  # a good guess takes one compile that fits, and one that does not


def test_what_is_too_large_says_where_a_chip_is_full(sought):
    """Memory is a line here: the estimate is the answer, and 64 and 32 rows are all that it takes."""
    _, found, compiled = sought(fsdp=[4], tensor=[1], remats=["full"])
    best, = found["candidates"]
    assert best["settled"] and best["global_batch"] == 4 * 27 and best["compiles"] == len(compiled) == 4


def test_what_could_not_be_the_best_is_left_at_its_estimate(sought):
    _, found, _ = sought()
    best, *rest = found["candidates"]
    assert best["settled"] and any(not each["settled"] for each in rest)
    assert all(each["settled"] or each["global_batch"] < best["global_batch"] for each in rest)


def test_what_fits_is_ranked_and_ends_in_a_patch(sought, tmp_path, capsys):
    """Full rematerialisation with the state in four parts leaves room for 55 rows of two chips each; four chips to
    each of 110 rows have a lower ceiling."""
    code, found, _ = sought()
    best = found["candidates"][0]
    assert code == 0 and best["remat"] == "full" and best["mesh"] == {"data": 1, "fsdp": 2, "tensor": 2}
    rows = (CAPACITY - 2 * GIB) // (0.5 * GIB / 2)
    assert best["global_batch"] == 2 * rows == best["over"]["global_batch"] - 2
    assert best["row"]["fits"] and best["over"]["hbm_bytes_per_device"] > CAPACITY
    assert [c["global_batch"] for c in found["candidates"]] == sorted(
        (c["global_batch"] for c in found["candidates"]), reverse=True)
    said = capsys.readouterr().out
    assert f"A global batch of {best['global_batch']:,} fits" in said and "Both were compiled" in said
    assert said.endswith(found["patch"]) and (tmp_path / "out" / "patch.toml").read_text() == found["patch"]


def test_the_patch_is_a_recipe_of_the_answer(sought, tmp_path):
    _, found, compiled = sought(fsdp=[4], tensor=[1])
    (tmp_path / "recipe.toml").write_text(dumps(recipe_of()))
    best = found["candidates"][0]
    flat = [f"{section}.{line.replace(' ', '')}" for section, lines in (
        (block.split("]")[0][1:], block.split("\n")[1:]) for block in found["patch"].strip().split("\n\n"))
            for line in lines]
    patched = load(str(tmp_path / "recipe.toml"), flat)
    assert patched.train.global_batch == best["global_batch"] and patched.jax.remat == best["remat"]
    assert any(searching.placed(patched, parse("v5e:2x2"), "jax").meaning == recipe.meaning for recipe in compiled)


def test_answers_are_equal_whatever_runs_at_once(sought):
    answers = [sought(out=f"out{jobs}", jobs=jobs)[1]["candidates"] for jobs in (1, 2, 7)]
    assert answers[0] == answers[1] == answers[2]


def test_what_was_compiled_is_kept(sought):
    """Only for equal recipes by equal code: another batch, or a changed source, is compiled."""
    _, first, compiled = sought()
    assert compiled and not sought(out="again")[2] and sought(out="more")[1]["candidates"] == first["candidates"]
    assert sought(recipe_of(optimizer={"beta1": 0.8}), out="other")[2]
    searching.sources.cache_clear()


def test_changed_code_compiles_again(sought, monkeypatch):
    sought()
    monkeypatch.setattr(searching, "sources", lambda: "changed")
    assert sought(out="again")[2]


def test_what_cannot_fit_is_not_compiled(sought):
    """Weights and both slots of AdamW of the wide model take 12 bytes a value: too many on one chip, or on two."""
    wide = recipe_of(model={"family": "decoder", "layers": 60, "width": 2048, "heads": 16})
    _, found, compiled = sought(wide)
    alone = [c for c in found["candidates"] if c["mesh"]["fsdp"] * c["mesh"]["tensor"] <= 2]
    assert alone and all(c["compiles"] == 0 and "slots alone" in c["why"] for c in alone)
    assert all(recipe.devices.fsdp * recipe.devices.tensor > 2 for recipe in compiled)


def test_nothing_fits(sought, capsys):
    code, found, _ = sought(state=80 * GIB)
    assert code == 1 and found["patch"] is None and all(c["global_batch"] == 0 for c in found["candidates"])
    assert "No batch fits" in capsys.readouterr().out


def test_accumulation_is_a_choice(sought):
    _, found, _ = sought(accumulations=[1, 4], fsdp=[4], tensor=[1], remats=["full"])
    by = {c["accumulate"]: c["global_batch"] for c in found["candidates"]}
    assert by[1] == 4 * 27 and by[4] == 4 * 4 * 26  # a quarter of the state more for what is added up


def test_keras_searches_what_it_can_choose(sought):
    _, found, compiled = sought(backend="keras", accumulations=[1, 2])
    assert {(c["mesh"]["data"], c["mesh"]["fsdp"], c["mesh"]["tensor"]) for c in found["candidates"]} == {(4, 1, 1)}
    assert len(found["candidates"]) == 2


def test_places_that_are_kept_by_name_are_so_under_full_alone(sought):
    """Under another policy a recipe does not say them."""
    recipe = recipe_of(jax={"remat": "full", "remat_save": ["attention.mix"]})
    _, _, compiled = sought(recipe=recipe, fsdp=[4], tensor=[1])
    assert {(one.jax.remat, one.jax.remat_save) for one in compiled} == {
        ("full", ("attention.mix",)), ("dots", ()), ("none", ())}


def test_slots_that_lie_elsewhere_are_no_bytes_of_a_chip():
    """Of four chips that share each batch: AdamW's two slots and the average, whole, shared over all, or the average
    alone."""
    data = 260, (128,)
    plain, shared, offloaded = (searching.least_bytes(recipe_of(
        devices={"data": 4}, optimizer={"ema": 0.9}, jax=knobs), data) for knobs in (
            {}, {"shard_optimizer": True}, {"offload_optimizer": True}))
    assert (shared / plain, offloaded / plain) == ((1 + 3 / 4) / 4, 2 / 4)


@pytest.mark.parametrize("options, words", [
    ({"topologies": ()}, "wants one --topology"), ({"topologies": ("v5e-4", "v5e-8")}, "wants one --topology"),
    ({"remats": ["ful"]}, 'no such policy; .*did you mean "full"'), ({"fsdp": [3]}, "no mesh of these sizes"),
    ({"tensor": [8], "topologies": ("v5e-8",)}, "does not divide model.heads=4")])
def test_what_cannot_be_searched_is_refused(sought, options, words):
    with pytest.raises(BadInput, match=words):
        sought(**options)


@pytest.mark.parametrize("arguments, words", [
    (["--search", "--check", "g.json"], "--check: not for --search"), (["--jobs", "2"], "not for a preflight without"),
    (["--search", "--fsdp", "4,x"], "--fsdp 4,x: whole numbers")])
def test_the_verb_refuses_in_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.toml").write_text(dumps(recipe_of()))
    assert cli.main(["preflight", "r.toml", "--topology", "v5e:2x2", *arguments, "--out", "o"]) == 2
    said = capsys.readouterr()
    assert words in said.err and len(said.err.splitlines()) == 1 and not (tmp_path / "o").exists()
