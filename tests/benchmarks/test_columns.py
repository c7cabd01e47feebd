"""Three columns in one verdict, by comparisons that nobody trains: what each pair is asked for, what is left and
where, and the exit code. (end_to_end/test_columns.py trains.)"""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from twinscale.benchmarks import columns
from twinscale.benchmarks.columns_result import Columns
from twinscale.benchmarks.compare import alone, bisect, planted
from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.rungs.operations import operations_rung
from twinscale.benchmarks.sides import labelled
from twinscale.common.errors import BadInput, Disagreement
from twinscale.common.files.access import write_text
from twinscale.common.recipe.schema import Recipe

RECIPE = Recipe.model_validate({"name": "digits", "data": {"source": "digits"}, "model": {"family": "mlp"}})
VERDICT = json.loads((Path(__file__).parents[1] / "examples" / "verdict.json").read_text())
THREE = ("keras", "keras-jax", "jax")
PAIRS = ["keras+keras-jax", "keras+jax", "keras-jax+jax"]
CODES = {"agrees": 0, "fails": 1, "open": 3}


def comparisons(monkeypatch, **answers):
    """Comparisons that answer so by the name of their directory, + as _, and agree else; returns what each was asked
    for. The losses of a run are those of its step's number, of the first side in float64 a millionth more."""
    calls = []

    def compared(recipe, out, **options):
        calls.append((out, options))
        answer = answers.get(out.name.replace("+", "_").replace("-", "_"), "agrees")
        if isinstance(answer, BaseException):
            raise answer
        for key, more in (("keras", 1e-6), ("jax", 0.0)):
            for precision in ("float64", "float32"):
                lines = [json.dumps({"step": step, "train/loss": step + 1 + more * (precision == "float64")})
                         for step in range(3)]
                write_text(ComparisonFiles(out).run(key, precision) / "metrics.jsonl", "\n".join(lines) + "\n")
        rung = {"name": "P2", "title": "gradient", "agrees": answer != "fails", "worst": 1.0, "bound": 2.0,
                "where": "logits"}
        write_text(ComparisonFiles(out).verdict, "{}")
        return SimpleNamespace(answer=answer, exit_code=CODES[answer], sentence=f"{out.name}: {answer}.", rungs=[rung])

    monkeypatch.setattr(columns, "compared", compared)
    monkeypatch.setattr(columns, "require", lambda *of: None)
    return calls


def test_each_pair_is_compared_in_a_directory_of_its_own_and_the_verdict_is_read_back(tmp_path, monkeypatch, capsys):
    calls, out = comparisons(monkeypatch), tmp_path / "out"
    assert columns.compare(RECIPE, out, THREE, place=True, swap=False, seeds=4, asked=("mlp-digits", "seed=5")) == 0
    assert [call.relative_to(out).as_posix() for call, _ in calls] == [f"pairs/{pair}" for pair in PAIRS]
    assert [options["columns"] for _, options in calls] == [tuple(pair.split("+")) for pair in PAIRS]
    assert all((options["place"], options["seeds"], options["plant"]) == (True, 4, None) for _, options in calls)
    found = Columns.model_validate_json((out / "columns.json").read_bytes())
    assert found.agrees and [pair.directory for pair in found.pairs] == [f"pairs/{pair}" for pair in PAIRS]
    losses = found.pairs[0].losses["float64"]
    assert losses.steps == 3 and losses.step == 0 and losses.relative == pytest.approx(1e-6, rel=1e-3)
    assert found.pairs[0].losses["float32"].absolute == 0
    assert found.commands == [f"twinscale compare {out}/recipe.toml --place --outcome SEEDS=4 "
                              f"--columns keras,keras-jax,jax --out {out}-again"]
    for name in ("report.html", "report.md"):
        page = (out / name).read_text()
        assert found.sentence.split(":")[0] in page and all(f"pairs/{pair}/report." in page for pair in PAIRS)
    said = capsys.readouterr().out
    assert "P2 gradient" in said and "within 1.0e-6 over 3 steps" in said and "relative over 3 steps" in said


@pytest.mark.parametrize(("answers", "code", "blame"), [
    ({"keras_keras_jax": "fails", "keras_jax": "fails"}, 1, "runtime"),
    ({"keras_jax": "fails", "keras_jax_jax": "fails"}, 1, "program"),
    ({"keras_jax": "open", "keras_jax_jax": "fails"}, 1, None), ({"keras_jax": "open"}, 3, None)])
def test_the_exit_code_is_that_of_the_worst_pair(tmp_path, monkeypatch, answers, code, blame):
    comparisons(monkeypatch, **answers)
    found = columns.compared_columns(RECIPE, tmp_path / "out", THREE)
    assert (found.exit_code, found.rung.blame, found.agrees) == (code, blame, False)
    with pytest.raises(Disagreement, match="keras[+]jax: (fails|open|agrees)"):
        found.raise_if_not()


@pytest.mark.parametrize(("plant", "pairs"), [
    ("keras:adam_epsilon", PAIRS), ("jax:adam_epsilon", PAIRS[1:]),
    ("keras@tensorflow:adam_epsilon", PAIRS[:2]), ("keras@jax:adam_epsilon", [PAIRS[0], PAIRS[2]])])
def test_a_pair_without_the_column_that_a_fault_is_planted_in_is_compared_as_it_is(tmp_path, monkeypatch, plant, pairs):
    calls = comparisons(monkeypatch)
    found = columns.compared_columns(RECIPE, tmp_path / "out", THREE, plant=plant)
    assert [out.name for out, options in calls if options["plant"] == plant] == pairs and found.plant == plant
    assert [options["plant"] for out, options in calls if out.name not in pairs] == [None] * (3 - len(pairs))


def test_a_fault_of_a_program_is_planted_on_both_sides_that_run_it_and_one_of_a_runtime_on_one():
    both, usual = ("keras", "keras-jax"), ()
    assert planted("keras:x", both) == [("keras", "x"), ("jax", "x")] and planted(None, both) == []
    assert planted("keras@jax:x", both) == [("jax", "x")] and planted("keras@tensorflow:x", usual) == [("keras", "x")]
    assert planted("jax:x@place", usual) == [("jax", "x@place")]  # the @ of a place is no runtime
    for wrong in ("keras", "keras:", "flax:x", "keras@gpu:x"):
        with pytest.raises(BadInput, match="expected BACKEND:MUTANT with a backend of keras, jax"):
            planted(wrong, usual)
    with pytest.raises(BadInput, match="one of the columns that are compared"):
        planted("keras@jax:x", usual)  # which nobody would see


def test_nothing_is_placed_in_all_of_them_but_in_a_pair(tmp_path, monkeypatch):
    comparisons(monkeypatch, keras_jax="fails")
    columns.compared_columns(RECIPE, tmp_path, THREE)
    with pytest.raises(BadInput, match="name the directory of a pair, such as .*/pairs/keras[+]jax"):
        bisect(tmp_path)
    assert (tmp_path / "pairs/keras+jax").is_dir()


def test_a_column_is_trained_once_and_taken_by_its_key_into_the_other_pair(tmp_path, monkeypatch):
    calls = comparisons(monkeypatch)
    columns.compared_columns(RECIPE, tmp_path, THREE)
    first, second = (tmp_path / "pairs" / name for name in PAIRS[:2])
    assert [options["taken"] for _, options in calls] == [
        {}, {"keras": (first, "keras")}, {"keras": (first, "jax"), "jax": (second, "jax")}]


@pytest.mark.parametrize(("pair", "named"), [
    ((), {"keras": "Keras", "jax": "JAX"}),
    (("keras", "keras-jax"), {"keras": "Keras on TensorFlow", "keras-jax": "Keras on JAX"}),
    (("keras-jax", "jax"), {"keras-jax": "Keras on JAX", "jax": "Flax on JAX"})])
def test_operations_by_themselves_are_those_of_both_columns_whatever_their_rooms_call_themselves(pair, named):
    seen = []
    workers = {key: SimpleNamespace(ask=lambda call, key=key, **how: seen.append(key) or [{"backend": "keras"}])
               for key in ("keras", "jax")}
    with labelled(RECIPE.model, pair):
        rows = alone(RECIPE, workers, True)
    assert sorted(seen) == ["jax", "keras"] and {row["backend"]: row["title"] for row in rows} == named
    row = {"dtype": "float64", "error": 1.0, "bound": 2.0, "operation": "dense", "case": "normal", "how": "XLA",
           "bound_from": "", "stock": False, "known": None, "device": "cpu", "agrees": True}
    checks = operations_rung([row | one for one in rows])["checks"]
    assert [check["what"] for check in checks] == [f"{title} float64" for title in named.values()]


@pytest.mark.parametrize("how", [{"swap": True}, {"plant": "torch:x"}])
def test_what_no_pair_can_do_is_refused_before_anything_is_there(tmp_path, monkeypatch, how):
    calls = comparisons(monkeypatch)
    with pytest.raises(BadInput, match="--swap: not with --columns|--plant torch:x: expected"):
        columns.compared_columns(RECIPE, tmp_path / "out", THREE, **how)
    assert not calls and not (tmp_path / "out").exists()


def test_bad_input_of_the_first_pair_leaves_nothing_and_of_a_later_one_what_was_found(tmp_path, monkeypatch):
    comparisons(monkeypatch, keras_keras_jax=BadInput("no"))
    with pytest.raises(BadInput):
        columns.compared_columns(RECIPE, tmp_path / "first", THREE)
    comparisons(monkeypatch, keras_jax=BadInput("no"))
    with pytest.raises(BadInput):
        columns.compared_columns(RECIPE, tmp_path / "later", THREE)
    assert not (tmp_path / "first").exists() and (tmp_path / "later/pairs/keras+keras-jax/verdict.json").is_file()


def keeping(monkeypatch):
    """Lets the comparisons leave verdicts that can be read back, as whoever asked for them has them."""
    compared = columns.compared

    def left(recipe, out, **options):
        found = compared(recipe, out, **options)
        parts = {name: options[name] for name in ("place", "meshes") if name in options}
        asked = columns.options_of(options["plant"], options["seeds"], options["columns"], parts)
        write_text(ComparisonFiles(out).verdict, json.dumps(VERDICT | columns.reproducible(
            out, options["asked"], **asked) | {"recipe": VERDICT["recipe"] | {"hash": recipe.hash}}))
        return found

    monkeypatch.setattr(columns, "compared", left)


def test_what_was_cut_short_goes_on_with_the_pair_that_it_was_at(tmp_path, monkeypatch, capfd):
    comparisons(monkeypatch, keras_jax=KeyboardInterrupt())
    keeping(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        columns.compared_columns(RECIPE, tmp_path, THREE, place=True, meshes=False)
    calls = comparisons(monkeypatch)
    found = columns.compared_columns(RECIPE, tmp_path, THREE, place=True)
    assert [out.name for out, _ in calls] == PAIRS[1:] and found.agrees
    assert found.pairs[0].sentence == VERDICT["sentence"]  # which was read back
    assert calls[0][1]["taken"] == {"keras": (tmp_path / "pairs" / PAIRS[0], "keras")}
    assert "Keras on TensorFlow and Keras on JAX have been compared already" in capfd.readouterr().err


@pytest.mark.parametrize("change", [
    {"seeds": 4}, {"plant": "keras:adam_epsilon"}, {"place": False}, {"overwrite": True}, "pending", "failed", "code"])
def test_a_pair_that_is_asked_for_otherwise_or_did_not_end_is_compared_again(tmp_path, monkeypatch, change):
    comparisons(monkeypatch, keras_jax=KeyboardInterrupt())
    keeping(monkeypatch)
    asked = {"place": True, "seeds": None, "plant": None}
    with pytest.raises(KeyboardInterrupt):
        columns.compared_columns(RECIPE, tmp_path, THREE, **asked)
    file = ComparisonFiles(tmp_path / "pairs" / PAIRS[0]).verdict
    verdict = json.loads(file.read_text())
    file.write_text(json.dumps(verdict | {
        "pending": {"pending": True}, "failed": {"failed": {"placing": "no"}},
        "code": {"made": verdict["made"] | {"version": "0.0.1"}}}.get(str(change), {})))
    calls = comparisons(monkeypatch)
    columns.compared_columns(RECIPE, tmp_path, THREE, **asked | (change if isinstance(change, dict) else {}))
    assert [out.name for out, _ in calls] == PAIRS and all(options["overwrite"] for _, options in calls)


def test_a_pair_without_a_verdict_starts_over_and_a_finished_one_stays(tmp_path, monkeypatch):
    comparisons(monkeypatch, keras_jax=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        columns.compared_columns(RECIPE, tmp_path, THREE)
    mine = tmp_path / "pairs" / "notes.txt"
    mine.write_text("mine")
    calls = comparisons(monkeypatch)
    assert columns.compared_columns(RECIPE, tmp_path, THREE).agrees and len(calls) == 3
    with pytest.raises(BadInput, match="holds a finished result"):
        columns.compared_columns(RECIPE, tmp_path, THREE)
    assert len(calls) == 3 and mine.read_text() == "mine"
    columns.compared_columns(RECIPE, tmp_path, THREE, overwrite=True)
    assert len(calls) == 6 and mine.read_text() == "mine"
