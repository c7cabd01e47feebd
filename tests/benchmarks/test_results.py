"""What a command leaves as JSON has one definition, by which it is made and read back, and whose schema is published.
The examples are files that the commands have written; of the longest, rows were taken out."""

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from twinscale.benchmarks.results import SCHEMAS, schema
from twinscale.benchmarks.rungs import ladder
from twinscale.benchmarks.verdict import Check
from twinscale.common.files.access import plain
from twinscale.common.files.results import write_result

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


@pytest.mark.parametrize("name", ["verdict.json", "compression.json", "columns.json", "audit.json", "clean.json",
                                  "plan.json", "preflight.json", "search.json", "bench.json", "prediction.json",
                                  "serving.json"])
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


# ---- in a test
