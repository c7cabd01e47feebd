"""The table of XLA's options, with a compiler whose answers a test says; the real one is asked in tests/end_to_end."""

import json

import pytest

from twinscale.benchmarks.preflight import options as trying
from twinscale.common.errors import BadInput
from twinscale.common.machine.options import Option, chosen
from twinscale.common.recipe.schema import Recipe

MIB = 2**20
SET, LESS, MORE = "xla_set", "xla_less", "xla_more"
LISTED = [Option(name, f"what {name} is for", "nobody", chips=("v5e",) * (name == SET), tried=("v5e",),
                 beside={"xla_beside": 1} if name == LESS else {})
          for name in (SET, LESS, MORE, "xla_same", "xla_huge", "xla_unknown", "xla_refused", "xla_crash")]


def row(**changes):
    sent, beside = changes.pop("sent", 100), changes.pop("beside", 0)
    found = {"kind": "all-gather", "network": "ici", "group": 4, "count": 2, "bytes": 50, "bytes_sent": sent,
             "asynchronous": beside // 50, "asynchronous_bytes_sent": beside, "sparsecore": 0}
    return {"backend": "jax", "compiles": True, "fits": True, "error": None, "hbm_bytes_per_device": 100 * MIB,
            "hbm_capacity_bytes": 200 * MIB, "xla_flags": {SET: True}, "collectives": [found, {**found, "group": 2}],
            "bytes_per_link": sent, "lower_seconds": 1.0, "compile_seconds": 59.0} | changes


def says(asked):
    """What the compiler says of a recipe's own options."""
    if "xla_unknown" in asked:
        raise BadInput("jax.xla_options.xla_unknown: XLA refuses it: No such compile option; take it out")
    if "xla_refused" in asked:
        raise BadInput("jax.xla_options.xla_refused: XLA refuses it: it may hang; take it out")
    over = {"compiles": False, "fits": False, "error": "Ran out of memory", "hbm_bytes_per_device": 300 * MIB}
    crash = {"compiles": False, "fits": None, "error": "the compiler died with exit code -11",
             "hbm_bytes_per_device": None}
    for name, found in ((LESS, {"beside": 50}), (MORE, {"sent": 200, "beside": 200, "hbm_bytes_per_device": 90 * MIB}),
                        ("xla_huge", over), ("xla_crash", crash)):
        if name in asked:
            return row(**found)
    return row(**({"hbm_bytes_per_device": 150 * MIB} if asked.get(SET) is False else {}))


@pytest.fixture
def tried(monkeypatch, tmp_path, compiles):
    """tried(recipe's own options, **options): (exit code, options.json, the options of each compile)."""
    monkeypatch.setenv("TWINSCALE_CACHE", str(tmp_path / "cache"))
    library = tmp_path / "libtpu" / "libtpu.so"
    (tmp_path / "libtpu-0.0.45.dist-info").mkdir()
    monkeypatch.setattr(trying, "find_libtpu", lambda environment: library)
    monkeypatch.setattr(trying, "tried_on", lambda chip: LISTED)
    compiled = compiles(trying, lambda recipe: says(recipe.jax.xla_options))

    def run(own=None, out="out", **options):
        compiled.clear()
        recipe = Recipe.model_validate({
            "name": "tiny", "data": {"source": "digits"}, "model": {"family": "mlp", "hidden": [8]},
            "train": {"global_batch": 32}, "jax": {"xla_options": own or {}}})
        code = trying.options(recipe, tmp_path / out, **{"topologies": ("v5e:2x2",), **options})
        asked = [dict(recipe.jax.xla_options) for recipe in compiled]
        return code, json.loads((tmp_path / out / "options.json").read_text()), asked

    return run


def lines_of(found):
    return {line["option"]: line for line in found["topologies"][0]["options"]}


def test_each_option_is_compiled_the_other_way_than_it_is_set(tried):
    """What is set is held to a compile without it, a candidate to one with it and with what it wants beside."""
    code, found, compiled = tried({"xla_own": True})
    own = {"xla_own": True}
    assert code == 0 and compiled[:4] == [own, {**own, SET: False}, {**own, LESS: True, "xla_beside": 1},
                                          {**own, MORE: True}]
    assert len(compiled) == 1 + len(LISTED)
    lines = lines_of(found)
    assert lines[SET]["set"] and lines[SET]["off"]["hbm_bytes_per_device"] == 150 * MIB
    assert lines[SET]["on"] == lines[LESS]["off"] == found["topologies"][0]["base"]
    assert all(line["purpose"] and line["source"] for line in lines.values())


def test_an_effect_is_on_memory_on_bytes_sent_and_on_those_that_are_waited_for(tried):
    lines = lines_of(tried()[1])
    assert lines[SET]["effect"] == "helps"  # without it, a step holds more
    assert lines[LESS]["effect"] == "helps" and lines[LESS]["on"]["bytes_sent"] == lines[LESS]["off"]["bytes_sent"]
    assert lines[LESS]["on"]["bytes_waited_for"] == 2 * 50 < lines[LESS]["off"]["bytes_waited_for"] == 2 * 100
    assert lines[MORE]["effect"] == "both" and lines["xla_same"]["effect"] == "nothing"
    kind, = lines[LESS]["on"]["collectives"]  # groups of both sizes
    assert (kind["kind"], kind["count"], kind["asynchronous"], kind["bytes_sent"]) == ("all-gather", 4, 2, 200)


@pytest.mark.parametrize("off, on, said", [((2, 2, 2), (2, 2, 1), "helps"), ((2, 2, 1), (2, 2, 2), "costs"),
                                           ((2, 1, 1), (1, 2, 1), "both"), ((1e6, 1, 1), (1e6 - 1, 1, 1), "nothing"),
                                           ((0, 0, 0), (0, 0, 0), "nothing"), ((1, None, None), (1, 1, 1), None)])
def test_what_helps_makes_nothing_worse(off, on, said):
    assert trying.effect(*(dict(zip(trying.JUDGED, each, strict=True)) for each in (off, on))) == said


def test_what_has_no_figures_says_why(tried, capsys):
    code, found, _ = tried()
    lines = lines_of(found)
    assert code == 0  # the recipe itself compiles
    states = {name: line["state"] for name, line in lines.items() if line["state"] != "compiled"}
    assert states == {"xla_huge": "does not fit", "xla_unknown": "unknown", "xla_refused": "refused",
                      "xla_crash": "fails"}
    assert all(line["said"] and line["effect"] is None for name, line in lines.items() if name in states)
    assert lines["xla_huge"]["on"]["hbm_bytes_per_device"] == 300 * MIB
    said = capsys.readouterr()
    assert "refused: jax.xla_options.xla_refused: XLA refuses it: it may hang" in said.out
    assert "3/9, xla_less, about 7 min left" in said.err  # of 60 seconds each


def test_what_a_libtpu_is_known_to_refuse_is_not_compiled(tried, monkeypatch):
    monkeypatch.setattr(trying, "is_refused", lambda name, kind, version: (
        name, kind, version) == (LESS, "TPU v5e", (0, 0, 45)))
    _, found, compiled = tried()
    assert lines_of(found)[LESS]["state"] == "left out" and not any(LESS in asked for asked in compiled)


def test_what_was_compiled_is_found_again(tried, tmp_path):
    """After a kill too: each compile is kept once it is made, but for what was refused or crashed."""
    first = tried()[1]
    code, again, compiled = tried(out="again")
    assert code == 0 and again["topologies"] == first["topologies"]
    assert [sorted(asked) for asked in compiled] == [["xla_unknown"], ["xla_refused"], ["xla_crash"]]


def test_the_options_may_be_named(tried):
    assert list(lines_of(tried(only=[MORE, SET])[1])) == [SET, MORE]
    with pytest.raises(BadInput, match="--only xla_mor: no option that is tried on v5e; did you mean .?xla_more"):
        tried(out="other", only=["xla_mor"])


def test_a_recipe_that_does_not_fit_as_it_is_set_is_no(tried, monkeypatch):
    monkeypatch.setitem(globals(), "says", lambda asked: row(
        compiles=False, fits=False, error="Ran out of memory", hbm_bytes_per_device=300 * MIB))
    code, found, _ = tried()
    assert code == 1 and found["topologies"][0]["base"]["hbm_bytes_per_device"] == 300 * MIB


def test_the_real_list_has_what_is_set_first():
    """So that a table begins with what steps are compiled with."""
    from twinscale.common.machine.topology import parse

    listed = [option.name for option in trying.listed_for(parse("v5p:2x2x1"), ())]
    given = chosen("tpu", "TPU v5", ("overlap",))
    ours = [name for name in listed if name in given]
    assert ours and listed[:len(ours)] == ours
