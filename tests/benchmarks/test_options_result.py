"""What options.json is: nothing that a table of XLA's options says is lost, and what it cannot say is refused."""

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from twinscale.benchmarks.options_result import Options

EXAMPLE = Path(__file__).parents[1] / "examples" / "options.json"


def test_the_states_are_those_that_there_are():
    values = json.loads(EXAMPLE.read_text())
    line = values["topologies"][0]["options"][0]
    for key, wrong in (("state", "perhaps"), ("effect", "better"), ("set", "yes")):
        kept, line[key] = line[key], wrong
        with pytest.raises(ValidationError, match=key):
            TypeAdapter(Options).validate_json(json.dumps(values))
        line[key] = kept
    TypeAdapter(Options).validate_json(json.dumps(values))
