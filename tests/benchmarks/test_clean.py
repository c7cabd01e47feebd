"""Clean comparisons: drawn by number over all that a recipe can say, each made once, and added up over parts."""

import json
from types import SimpleNamespace

import pytest

from twinscale.benchmarks import clean as cleaning
from twinscale.benchmarks.rungs.ladder import check, rung
from twinscale.common.errors import NonFinite

SOURCE = "text:/nowhere/*.txt"


def test_a_number_is_all_that_a_recipe_depends_on_and_sixty_in_a_row_hold_everything():
    made = [cleaning.drawn(number, SOURCE) for number in range(240)]
    assert [cleaning.drawn(number, SOURCE) for number in (0, 61, 239)] == [made[0], made[61], made[239]]
    for start in (0, 17):
        kinds = {(r.train.precision, r.optimizer.name, r.model.family) for r in made[start:start + 60]}
        assert len(kinds) == 3 * 4 * 3
    for three in zip(made[::3], made[1::3], made[2::3], strict=True):  # of one recipe in three precisions
        assert len({r.train.precision for r in three}) == 3
        assert len({r.with_values(train={"precision": "float64"}).hash for r in three}) == 1
    assert len({r.hash for r in made}) == len(made) and len({r.seed for r in made}) == len(made) // 3
    said = {"train": ("accumulate", "label_smoothing", "z_loss"), "data": ("augment", "cross_documents"),
            "optimizer": ("clip_norm", "ema", "weight_decay", "nesterov", "momentum", "beta2", "epsilon"),
            "model": ("tied", "norm", "positions", "activation", "bias", "dropout", "kv_heads", "layers"),
            "schedule": ("kind", "warmup", "final"), "jax": ("scan", "remat")}
    for section, key in ((section, key) for section, keys in said.items() for key in keys):
        values = {getattr(getattr(recipe, section), key, "none of it") for recipe in made}
        assert len(values - {"none of it"}) > 1, key


def test_numbers_from_300_on_are_of_encoders_too_and_earlier_ones_stay_what_they_were():
    made = [cleaning.drawn(number, SOURCE) for number in range(288, 400)]
    assert {r.model.family for r in made[:12]} <= set(cleaning.DRAWN)
    for start in (12, 30):
        kinds = {(r.train.precision, r.optimizer.name, r.model.family) for r in made[start:start + 72]}
        assert len(kinds) == 3 * 4 * 4
    encoders = [r for r in made if r.model.family == "encoder"]
    assert {r.data.source for r in encoders} == {"random"} and "labels" in encoders[0].data.inputs


@pytest.fixture
def made(monkeypatch):
    """What backends that are none were asked for; number 4 is flagged, and training number 8 fails."""
    asked = []

    class Workers(dict):
        __enter__, __exit__ = (lambda self: self), (lambda self, *_: None)

    def worker(backend):
        return SimpleNamespace(backend=backend, ask=lambda *_, **__: None, process=SimpleNamespace(poll=lambda: None))

    def collect(recipe, once, out, quiet):
        number = int(out.name)
        asked.append((once.backend, number))
        (out / "runs").mkdir(parents=True, exist_ok=True)
        if number == 8 and once.backend == "jax":
            raise NonFinite("step 3: the loss is nan")

    def judge(recipe, dataset, out):
        bad = out.name == "0004"
        p4 = check("float64 loss", 2.0 if bad else int(out.name) / 100, 1.0, "step 1", "a twin")
        return {"agrees": not bad, "rungs": [rung("P4", "semantics", "", [p4])], "horizon": None, "sentence": "said"}

    monkeypatch.setattr(cleaning, "open_workers", lambda: Workers(keras=worker("keras"), jax=worker("jax")))
    monkeypatch.setattr(cleaning, "open_dataset", lambda recipe: None)
    monkeypatch.setattr(cleaning.compare_collect, "collect", collect)
    monkeypatch.setattr(cleaning.compare_judge, "judge", judge)
    return asked


def counts(out):
    found = json.loads((out / "clean.json").read_text())
    return found["comparisons"], found["flagged"], found["worst"]["P4"]["number"]


def test_parts_are_added_up_and_nothing_is_made_twice(made, tmp_path):
    assert cleaning.clean(tmp_path / "out", 3) == 0 and counts(tmp_path / "out") == (3, 0, 2)
    assert cleaning.clean(tmp_path / "out", 3) == 0 and len(made) == 6
    assert cleaning.clean(tmp_path / "out", 2, first=2) == 0 and counts(tmp_path / "out") == (4, 0, 3)
    assert sorted(made[6:]) == [("jax", 3), ("keras", 3)]
    assert not (tmp_path / "out" / "trials").exists()


def test_what_was_cut_short_goes_on_and_what_its_links_point_at_stays(made, tmp_path):
    out, mine = tmp_path / "out", tmp_path / "mine.safetensors"
    cleaning.clean(out, 1)
    mine.write_text("mine")
    (out / "trials" / "0001" / "tensors").mkdir(parents=True)
    (out / "trials" / "0001" / "tensors" / "first-step-jax-float64.safetensors").symlink_to(mine)
    assert cleaning.clean(out, 2) == 0 and counts(out) == (2, 0, 1)
    assert mine.read_text() == "mine"


def test_what_is_flagged_is_named_with_the_command_that_repeats_it(made, tmp_path, capsys):
    out = tmp_path / "out"
    assert cleaning.clean(out, 6) == 1 and counts(out) == (6, 1, 4)
    said = capsys.readouterr().out
    assert "number 4 (decoder, lion, float32) is flagged: said" in said
    assert f"twinscale audit --clean 1 --from 4 --out {out}-again" in said
    assert "6 clean comparisons, 1 flagged" in said
    assert (out / "flagged" / "0004.toml").is_file()
    assert cleaning.clean(out, 1, first=9) == 1, "what was flagged in an earlier part stays flagged"


def test_a_training_that_fails_is_flagged_and_the_others_go_on(made, tmp_path, capsys):
    assert cleaning.clean(tmp_path / "out", 3, first=7) == 1
    assert counts(tmp_path / "out")[:2] == (3, 1)
    assert "NonFinite: step 3: the loss is nan" in capsys.readouterr().out


def test_a_worker_links_what_it_has_left_of_the_same_recipe(tmp_path):
    asked = []

    def ask(call, recipe, **arguments):
        asked.append(call)
        arguments["path"].parent.mkdir(parents=True, exist_ok=True)
        arguments["path"].write_text(call)
        return call

    once = cleaning.Once(SimpleNamespace(backend="jax", ask=ask))
    recipes = [cleaning.drawn(number, SOURCE) for number in (0, 1)]
    for folder, recipe, name in (("0", recipes[0], "a"), ("1", recipes[0], "a"), ("1", recipes[1], "a2"),
                                 ("1", recipes[0], "b")):
        assert once.ask("first_step", recipe, path=tmp_path / folder / name) == "first_step"
        assert (tmp_path / folder / name).read_text() == "first_step"
    assert len(asked) == 3
