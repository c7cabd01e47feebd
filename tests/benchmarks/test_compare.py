"""What a comparison has found is on disk before anything can take it along: placing, step times and a swap that fail
are a line each, and what was cut short starts over."""

import json
from contextlib import contextmanager
from threading import Event

import pytest

from tests.pair_of_nobody import foreign
from twinscale.benchmarks import compare as comparison
from twinscale.benchmarks import compare_collect
from twinscale.benchmarks.sides import LABELS
from twinscale.common.errors import BadInput, TwinscaleError
from twinscale.common.recipe.schema import Recipe

RECIPE = Recipe.model_validate({"name": "digits", "data": {"source": "digits"}, "model": {"family": "mlp"}})
SAID = "Keras and JAX do not agree: P2 (gradient) parts at the logits."


class Silent:
    """A trainer that answers nothing."""

    backend = None

    def ask(self, call, *of, **arguments):
        return None


def judged(*of, **how):
    """What `judge` finds where the gradients part."""
    check = {"what": "float64", "agrees": False, "worst": 1.0, "bound": 1e-15, "where": "logits", "bound_from": "eps"}
    rung = {**check, "name": "P2", "title": "gradient", "proves": "one function", "where": "float64: logits",
            "smallest_tolerance": 1.0, "margin": 1e-15, "checks": [check]}
    curve = {"steps": [0], "keras": [1.0], "jax": [2.0], "difference": [1.0], "envelope": [1e-15], "bound": [8e-15],
             "factor": 8, "horizon": None}
    times = {"step_ms": [1.0], "step_ms_median": 1.0, "step_ms_interval": [1.0, 1.0], "throughput": 1.0,
             "unit": "examples/s", "mfu": None, "compile_seconds": 1.0}
    return {"agrees": False, "open": False, "rungs": [rung], "horizon": None, "sentence": SAID,
            "curves": {"float64": curve}, "null_directions": [], "tensors": [], "own_float64": None,
            "held_out": {b: {"loss": 1.0} for b in ("keras", "jax")},
            "performance": dict.fromkeys(("keras", "jax"), times), "versions": {b: {} for b in ("keras", "jax")},
            "devices": {b: ["cpu"] for b in ("keras", "jax")}}


@pytest.fixture
def trained(monkeypatch):
    """Comparisons whose trainings take no time and part in the gradient; tests fill in what comes after."""

    @contextmanager
    def workers(*of, **more):
        yield {"keras": Silent(), "jax": Silent()}

    for name in ("collect", "collect_places"):
        monkeypatch.setattr(compare_collect, name, lambda *of, **more: None)
    changes = {"require": lambda *of: None, "open_workers": workers, "room_for_another": lambda: False,
               "judge": judged, "side_by_side": lambda recipe, dataset, workers, performance: performance}
    for name, function in changes.items():
        monkeypatch.setattr(comparison, name, function)
    return monkeypatch


def read(out):
    return json.loads((out / "verdict.json").read_text())


@pytest.mark.parametrize("option", ["swap", "meshes"])
def test_two_programs_of_one_framework_are_refused_by_name_before_anything_is_written(tmp_path, option):
    (tmp_path / "one.py").write_text("")
    program, match = (str(tmp_path / name) for name in ("one.py", "match.toml"))
    model = {"family": "pair", "reads": "images", "match": match}
    programs = {"framework": "flax", "a": f"{program}:build", "b": f"{program}:other"}
    recipe = Recipe.model_validate({"name": "x", "data": {"source": "digits"}, "model": model, "programs": programs})
    with pytest.raises(BadInput, match=f"--{option} takes no two programs of one framework"):
        comparison.compare(recipe, tmp_path / "out", **{option: True})
    assert not (tmp_path / "out").exists()


def lacks(*of):
    """A placing that finds less than it looks for."""
    raise KeyError("forward/norm")


def test_a_placing_that_fails_is_one_line_and_leaves_verdict_report_and_exit_code(tmp_path, trained, capfd):
    seen = []

    def find_cause(recipe, dataset, out, *of):
        seen.extend([read(out)["sentence"], (out / "report.html").is_file(), (out / "report.md").is_file()])
        lacks()

    trained.setattr(comparison, "find_cause", find_cause)
    assert comparison.compare(RECIPE, tmp_path / "out", place=True) == 1
    assert seen == [SAID, True, True]  # they were there before
    verdict, streams = read(tmp_path / "out"), capfd.readouterr()
    assert not verdict["agrees"] and "pending" not in verdict and "cause" not in verdict
    assert "KeyError" in verdict["failed"]["placing"] and "forward/norm" in verdict["failed"]["placing"]
    lines = [line for line in streams.err.splitlines() if "placing failed" in line]
    assert len(lines) == 1 and "forward/norm" in lines[0] and SAID in " ".join(streams.out.split())
    for name in ("report.html", "report.md"):
        page = (tmp_path / "out" / name).read_text()
        assert "placing failed" in page and "has not ended" not in page


def test_a_bisection_that_fails_says_so_too_and_one_that_does_not_takes_the_line_away(tmp_path, trained):
    trained.setattr(comparison, "find_cause", lacks)
    comparison.compare(RECIPE, tmp_path / "out")
    assert comparison.bisect(tmp_path / "out") == 1
    assert "forward/norm" in read(tmp_path / "out")["failed"]["placing"]
    assert "placing failed" in (tmp_path / "out" / "report.md").read_text()
    found = {"operation": "norm", "sentence": "step 0, forward: norm at norm"}
    trained.setattr(comparison, "find_cause", lambda *of: found)
    assert comparison.bisect(tmp_path / "out") == 0
    assert read(tmp_path / "out")["cause"] == found and "placing" not in read(tmp_path / "out")["failed"]
    assert "placing failed" not in (tmp_path / "out" / "report.md").read_text()


def test_a_trainer_that_dies_while_steps_are_timed_costs_the_step_times_alone(tmp_path, trained):
    def dies(*of):
        raise TwinscaleError("the jax trainer died during measure_steps (SIGKILL)")

    for name in ("side_by_side", "swap_table"):
        trained.setattr(comparison, name, dies)
    assert comparison.compare(RECIPE, tmp_path / "out", swap=True) == 1
    verdict = read(tmp_path / "out")
    assert verdict["failed"].keys() == {"step times", "swap"} and verdict["performance"]["jax"]["step_ms"] == [1.0]


@pytest.mark.parametrize("agrees", [True, False])
def test_states_of_optimizers_stay_where_a_cause_may_be_looked_for(tmp_path, trained, agrees):
    files = [compare_collect.optimizer_path(tmp_path / "out", backend, described)
             for described in compare_collect.precisions(RECIPE) for backend in ("keras", "jax")]

    def judges(*of, **how):
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return judged() | {"agrees": agrees}

    trained.setattr(comparison, "judge", judges)
    comparison.compare(RECIPE, tmp_path / "out")
    assert [file.exists() for file in files] == [not agrees] * len(files) and len(files) >= 2


def test_what_was_cut_short_after_its_verdict_says_so_and_starts_over(tmp_path, trained):
    def interrupted(*of):
        raise KeyboardInterrupt

    trained.setattr(comparison, "side_by_side", interrupted)
    with pytest.raises(KeyboardInterrupt):
        comparison.compare(RECIPE, tmp_path / "out")
    assert read(tmp_path / "out")["pending"] and "has not ended" in (tmp_path / "out" / "report.md").read_text()
    trained.setattr(comparison, "side_by_side", lambda recipe, dataset, workers, performance: performance)
    assert comparison.compare(RECIPE, tmp_path / "out") == 1  # nobody has to pass --overwrite
    assert "pending" not in read(tmp_path / "out")


@pytest.mark.parametrize("fails", [False, True])
def test_figures_are_drawn_beside_the_places_and_a_drawing_that_fails_costs_no_verdict(tmp_path, trained, fails):
    drawn, said = Event(), []

    def draw(verdict):
        said.append(verdict["sentence"])
        drawn.set()
        if fails:
            raise OSError("no fonts")

    def collect_places(workers, recipe, out, before):
        for i, worker in enumerate(workers.values()):
            assert not drawn.is_set(), f"drawn when {i} of two had trained"
            before(worker)
        assert drawn.wait(20), "nothing is drawn while places are looked at"

    trained.setattr(comparison, "draw", draw)
    trained.setattr(compare_collect, "collect_places", collect_places)
    assert comparison.compare(RECIPE, tmp_path / "out") == 1
    assert said == [SAID] and read(tmp_path / "out")["sentence"] == SAID


PARTS = {"operations": ("alone", {"operations": True}), "outcome": ("collect_outcome", {"seeds": 3}),
         "meshes": ("check_meshes", {"meshes": True})}


def test_a_ring_goes_around_meshes_alone(tmp_path, trained):
    """One device, on which both backends are compared, has none."""
    seen = {}
    trained.setattr(comparison, "judge", lambda recipe, *of: seen.update(one=recipe.jax.attention) or judged())
    trained.setattr(comparison, "check_meshes", lambda recipe, *of: seen.update(mesh=recipe.jax.attention))
    comparison.compare(RECIPE.with_values(jax={"attention": "ring"}), tmp_path / "out", meshes=True)
    assert seen == {"one": "auto", "mesh": "ring"}


def test_meshes_are_taken_from_where_runs_are_and_all_that_is_written_names_the_columns(tmp_path, trained):
    named, asked, taken = [], [], {"keras": (tmp_path / "other", "jax")}
    record = comparison.record
    trained.setattr(comparison, "take_all", lambda *of: None)
    trained.setattr(comparison, "check_meshes", lambda recipe, *of: asked.append((of, [*LABELS.values()])) or {}["x"])
    trained.setattr(comparison, "record", lambda *of: named.append([*LABELS.values()]) or record(*of))
    comparison.compared(RECIPE, tmp_path / "out", meshes=True, columns=("keras-jax", "jax"), taken=taken)
    titles = ["Keras on JAX", "Flax on JAX"]
    assert asked == [((tmp_path / "out", [], ("keras-jax", "jax"), taken), titles)]
    assert named == [titles] * 2  # the last one too, which says where trainings would have ended early
    assert [*LABELS.values()] == ["Keras", "JAX"]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_fails_costs_no_verdict_and_the_exit_code_says_so(tmp_path, trained, capfd, part):
    """Where the backends agree as far as anybody knows: 0 would say that what was asked for is known."""
    function, asked = PARTS[part]
    agreed = judged() | {"agrees": True, "sentence": "every rung holds"}
    trained.setattr(comparison, "judge", lambda *of: json.loads(json.dumps(agreed)))
    trained.setattr(comparison, "alone", lambda *of: ())
    assert comparison.compare(RECIPE, tmp_path / "healthy") == 0
    trained.setattr(comparison, function, lacks)
    assert comparison.compare(RECIPE, tmp_path / "out", **asked) == 1
    verdict, said = read(tmp_path / "out"), capfd.readouterr().err
    assert verdict["agrees"] and verdict["sentence"] == "every rung holds" and "pending" not in verdict
    assert "forward/norm" in verdict["failed"][part]
    assert [line for line in said.splitlines() if f"{part} failed" in line]
    for name in ("report.html", "report.md"):
        assert f"{part} failed" in (tmp_path / "out" / name).read_text()
    assert part == "operations" or any(f"{part} failed" in row["why"] for row in verdict["skipped"])


def test_a_second_look_that_fails_leaves_what_the_first_has_found(tmp_path, trained):
    trained.setattr(comparison, "may_be_flips", lambda *of: True)
    trained.setattr(comparison, "second_look", lacks)
    assert comparison.compare(RECIPE, tmp_path / "out") == 1
    verdict = read(tmp_path / "out")
    assert verdict["sentence"] == SAID and "forward/norm" in verdict["failed"]["second look"]


def test_what_cannot_be_asked_of_programs_of_somebodys_own_is_refused_before_anything_is_written(tmp_path):
    recipe = foreign(tmp_path)
    with pytest.raises(BadInput, match='--swap: model.family = "pair": programs of your own run under their own'):
        comparison.check_asked(recipe, tmp_path / "out", swap=True, meshes=False)
    comparison.check_asked(recipe, tmp_path / "out", swap=False, meshes=True)
