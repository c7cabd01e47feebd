"""What a command leaves as JSON has one definition, by which it is made and read back, and whose schema is published.
The examples are files that the commands have written; of the longest, rows were taken out."""

import json
import math
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from twinscale.benchmarks import ladder
from twinscale.benchmarks.results import SCHEMAS, schema
from twinscale.benchmarks.verdict import Check, Verdict, read_verdict
from twinscale.common.errors import BadInput, Disagreement
from twinscale.common.files import plain
from twinscale.common.results import write_result

EXAMPLES = Path(__file__).parents[1] / "examples"
FILES = {path.name: path.stem.split("-")[0] for path in sorted(EXAMPLES.glob("*.json"))}


def read(name, kind):
    return TypeAdapter(SCHEMAS[kind]).validate_json((EXAMPLES / name).read_bytes())


def test_there_is_an_example_of_each_result():
    assert set(FILES.values()) == set(SCHEMAS)


@pytest.mark.parametrize("name", FILES)
def test_what_is_read_is_what_was_written_to_the_last_digit(name):
    text = (EXAMPLES / name).read_text()
    again = plain(read(name, FILES[name]))
    assert json.dumps(again, sort_keys=True) == json.dumps(json.loads(text), sort_keys=True)


@pytest.mark.parametrize("name", ["verdict.json", "compression.json", "audit.json", "clean.json", "plan.json",
                                  "preflight.json", "search.json", "bench.json"])
def test_a_result_is_written_as_it_always_was(name, tmp_path):
    values = json.loads((EXAMPLES / name).read_text())
    made = write_result(tmp_path / name, SCHEMAS[FILES[name]], values)
    assert (tmp_path / name).read_bytes() == (EXAMPLES / name).read_bytes()
    assert made.schema_version == values["schema_version"] == made["schema_version"]


def described(value, said, schema, place="$"):
    """Places of keys in a value that its schema does not describe, though it describes others beside them."""
    while "$ref" in said:
        said = schema["$defs"][said["$ref"].rpartition("/")[2]]
    if "anyOf" in said:
        kinds = {dict: "object", list: "array"}
        for one in said["anyOf"]:
            if "$ref" in one or one.get("type") == kinds.get(type(value)):
                yield from described(value, one, schema, place)
        return
    if isinstance(value, list):
        for one in value:
            yield from described(one, said.get("items", {}), schema, place + "[]")
    elif isinstance(value, dict) and "properties" in said:
        for key, below in value.items():
            if key == "data":
                continue  # a source's own manifest
            if key in said["properties"]:
                yield from described(below, said["properties"][key], schema, f"{place}.{key}")
            else:
                yield f"{place}.{key}"
    elif isinstance(value, dict) and isinstance(said.get("additionalProperties"), dict):
        for key, below in value.items():
            yield from described(below, said["additionalProperties"], schema, f"{place}.{key}")


OPEN = {"keras", "jax", "a", "b",  # a curve has both sides' losses under their names
        "places", "known", "stock", "stale", "outcome"}  # of one rung each


@pytest.mark.parametrize("name", FILES)
def test_the_schema_describes_every_key_that_is_written(name):
    said, value = schema(FILES[name]), json.loads((EXAMPLES / name).read_text())
    assert {place for place in described(value, said, said) if place.rpartition(".")[2] not in OPEN} == set()
    assert any(described(value | {"nobody knows it": 1}, said, said))


# ---- as they are made

def test_what_the_ladder_makes_is_typed_and_asked_for_by_name_too():
    check = ladder.check("float64", 1.0, 2, "logits", "eps")
    rung = ladder.rung("P2", "gradient", "one function", [check])
    assert isinstance(check, Check) and check.worst == check["worst"] == 1.0 and rung.checks == [check]
    assert rung.margin == 2.0 and "horizon" not in rung and rung.get("horizon", 7) == 7 and rung.horizon is None
    with pytest.raises(KeyError):
        rung["horizon"]
    other = check | {"where": "loss"}
    assert (other.where, check.where, type(other)) == ("loss", "logits", Check)
    with pytest.raises(ValidationError):
        check | {"worst": "much"}


def test_infinity_is_a_figure_of_ours_and_no_figure_of_a_file(tmp_path):
    check = ladder.check("float64", math.inf, 1.0, "logits", "eps")
    assert check.worst == math.inf and plain(check)["worst"] is None
    values = json.loads((EXAMPLES / "verdict.json").read_text())
    values["rungs"][0]["worst"] = math.inf
    (tmp_path / "verdict.json").write_text(json.dumps(values))  # Infinity, which is no JSON
    with pytest.raises(BadInput, match=r"rungs\[0\].worst = inf: expected a finite number"):
        read_verdict(tmp_path)


def test_what_its_own_definition_refuses_is_on_disk_all_the_same(tmp_path):
    values = json.loads((EXAMPLES / "verdict.json").read_text()) | {"agrees": "perhaps"}
    with pytest.raises(ValidationError):
        write_result(tmp_path / "verdict.json", Verdict, values)
    assert json.loads((tmp_path / "verdict.json").read_text()) == values


# ---- in a test

def failing(**more):
    values = json.loads((EXAMPLES / "verdict.json").read_text())
    check = ladder.check("float64", 3e-3, 1e-14, "gradients/layer_1.kernel", "16 eps of float64")
    rungs = [*values["rungs"][:1], ladder.rung("P2", "gradient", "one function", [check])]
    return Verdict.model_validate(plain(values | {"agrees": False, "sentence": "They do not agree.", "rungs": rungs}
                                        | more))


def test_a_verdict_that_agrees_is_returned():
    verdict = read_verdict(EXAMPLES)
    assert verdict.raise_if_not() is verdict and verdict.answer == "agrees" and verdict.exit_code == 0


def test_a_verdict_that_does_not_is_an_assertion_with_the_checks_and_the_place():
    verdict = failing(cause={"operation": "norm", "sentence": "step 0, forward: norm at norm\x1b[2J"})
    with pytest.raises(AssertionError) as caught:
        verdict.raise_if_not()
    said = str(caught.value)
    assert isinstance(caught.value, Disagreement) and caught.value.exit_code == 1 and caught.value.verdict is verdict
    for word in ("They do not agree.", "P2 (gradient)", "gradients/layer_1.kernel", "0.0030", "1.0e-14",
                 "16 eps of float64", "first cause: step 0, forward: norm at norm"):
        assert word in said
    assert "\x1b" not in said


@pytest.mark.parametrize(("more", "code", "word"), [
    ({"open": True}, 3, "open"), ({"horizon": 1}, 3, "open"), ({"failed": {"meshes": "no room"}}, 1, "meshes failed")])
def test_nothing_that_was_not_shown_passes_for_agreement(more, code, word):
    """A test would else pass on a comparison that could tell nothing."""
    values = json.loads((EXAMPLES / "verdict.json").read_text()) | more
    with pytest.raises(Disagreement, match=word) as caught:
        Verdict.model_validate(values).raise_if_not()
    assert caught.value.exit_code == code
