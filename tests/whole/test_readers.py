"""Every file that is read back, damaged in every way: one line with its name, place and fix, and never a traceback."""

import json

import pytest

from twinscale.benchmarks.preflight.compare import read_golden
from twinscale.benchmarks.verdict import read_digests, read_hashes, read_verdict
from twinscale.common.errors import BadInput
from twinscale.common.export.formats import made_by, read_export
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.canonical import read_index
from twinscale.common.training.run import FinishedRun, check_run, follow_run, read_run
from twinscale.common.training.run_metrics import read_metrics

RECIPE = Recipe(name="x", model={"family": "decoder"})
RUN = {"schema_version": 1, "backend": "jax", "recipe_hash": RECIPE.hash, "state": "finished", "starts": 1,
       "versions": {"jax": "0.10"}, "devices": ["cpu"], "data": {"sha256": "ab", "source": "digits"},
       "seconds": {"train": 1.5}, "final": {"loss": None}, "performance": {"step_ms_median": 3.5}}
MORE = {"kept": {"seconds": {}, "elapsed": 1}, "elapsed": 2, "saved": 3, "origin": {"path": "x"}}  # as a run goes on
RUNG = {"name": "P0", "title": "t", "agrees": True, "worst": 0, "bound": None, "bound_from": "b", "where": "w",
        "checks": [{"what": "w", "agrees": True, "worst": 0, "bound": 0, "where": "w"}]}
VERDICT = {"schema_version": 1, "agrees": False, "sentence": "s", "plant": None, "precision": "float32", "steps": 3,
           "horizon": None, "recipe": {"name": "x", "hash": "h", "toml": ""}, "rungs": [RUNG], "curves": {}}
FORMAT = {"format": "keras", "path": "model.keras", "sha256": "ab", "checked": {"agrees": True}}
EXPORT = {"schema_version": 1, "backend": "keras", "family": "mlp", "classes": 3, "example_shape": [2, 2, 1],
          "tokenizer": None, "formats": [FORMAT]}
INDEX = {"schema_version": 1, "step": 3, "backend": "jax", "meaning": "m", "sha256": "0" * 64}
GOLDEN = {"schema_version": 1, "results": [{"backend": "jax", "topology": "v5e:2x2", "slices": 1, "compiles": True,
                                            "fits": True, "collectives": []}]}
READERS = {  # a file, what it holds, and what reads it in its directory
    "run": ("run.json", RUN | MORE, read_run),
    "a run to go on with": ("run.json", RUN | MORE | {"state": "stopped"},
                            lambda path: check_run(path, RECIPE, "jax")),
    "another host's run": ("run.json", RUN | MORE, follow_run),
    "a run to compare": ("run.json", RUN, lambda path: read_run(path, FinishedRun)),
    "verdict": ("verdict.json", VERDICT, read_verdict),
    "export": ("export.json", EXPORT, read_export),
    "state": ("index.json", INDEX, read_index),
    "a state's backend": ("index.json", {"backend": "jax"}, made_by),
    "contract": ("contract.json", {"recipe": "ab", "data": "cd"}, lambda path: read_hashes(path / "contract.json")),
    "batches": ("trace/batches.json", ["ab", "cd"], read_digests),
    "golden": ("golden.json", GOLDEN, lambda path: read_golden(path / "golden.json"))}
BYTES = {"empty": b"", "cut": b'{"schema_version": 1,', "number": b"3", "null": b"null", "text": b'"x"',
         "high byte": b'{"a": "\xff"}', "deep": b"[" * 10**5, "deep in a key": b'{"later":' * 10**5,
         "huge": b'{"schema_version": ' + b"9" * 5000 + b"}", "zeros": bytes(100)}
WRONG = (..., True, -1, 10**30, 1e300, "\x1b[2J", [], {}, [[{}]], {"a": {"a": 1}})  # `...`: the key is missing


def written(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def refused(read, path, name):
    """Whether it is, in one line that names the file."""
    try:
        read(path)
    except BadInput as error:
        said = str(error)
        assert name in said and said.isprintable() and len(said) < 700 + len(str(path)) and error.exit_code == 2
        return True
    return False


@pytest.mark.parametrize("reader", READERS)
def test_what_is_whole_is_read_with_a_mark_before_it_and_keys_of_later_versions_in_it(tmp_path, reader):
    name, content, read = READERS[reader]
    written(tmp_path / name, b"\xef\xbb\xbf" + json.dumps(content).encode())
    assert not refused(read, tmp_path, name)
    if isinstance(content, dict) and reader != "contract":
        written(tmp_path / name, content | {"of a later version": {"a": [1]}})
        assert not refused(read, tmp_path, name)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", BYTES)
def test_what_is_torn_is_one_line(tmp_path, reader, damage):
    name, _, read = READERS[reader]
    written(tmp_path / name, BYTES[damage])
    assert refused(read, tmp_path, name.rpartition("/")[2])


def places(content, place=()):
    """The places of all values in a JSON value."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from places(value, (*place, key))


def changed(content, place, value):
    made = inner = json.loads(json.dumps(content))
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return made


@pytest.mark.parametrize("reader", READERS)
def test_any_value_of_another_type_is_one_line_or_right(tmp_path, reader):
    """Each value there is, changed into each of WRONG. No reader may end otherwise than in an answer or a refusal; and
    what has the wrong type, as true in the place of a number, is always refused."""
    name, content, read = READERS[reader]
    count = 0
    for place in places(content):
        for value in WRONG:
            written(tmp_path / name, changed(content, place, value))
            other = place == ("recipe_hash",) and isinstance(value, str)
            known = "another recipe" if other else name.rpartition("/")[2]
            said_no, old = refused(read, tmp_path, known), content
            for key in place:
                old = old[key]
            if old is not None and value is not ... and type(value) is not type(old) and not (
                    {type(value), type(old)} <= {int, float}):
                count += 1
                assert said_no, f"{place} = {value!r} was taken for {old!r}"
    assert count >= 5


@pytest.mark.parametrize("line, words", [
    (b"[]", "expected a table"), (b"3", "expected a table"), (b"{}", "step = null"), (b'{"step": true}', "step = true"),
    (b'{"step": -1}', "step = -1"), (b'{"step": 1.5}', "step = 1.5"), (b'{"step": 1e999}', "step = inf"),
    (b'{"step": ' + b"9" * 400 + b"}", "step = 999"),
    (b'{"step": 1, "x": ' + b"9" * 400 + b"}", "x = 999"), (b'{"step": ' + b"9" * 5000 + b"}", "is not JSON"),
    (b'{"step": 1, "train/loss": "2"}', 'train/loss = "2"'), (b'{"step": 1, "train/loss": true}', "= true"),
    (b'{"step": 1, "train/loss": NaN}', "train/loss = nan"), (b'{"step": 1, "train/loss": [1]}', "= a list"),
    (b'{"step": 1, "x\xff": 2}', "is not JSON"), (b"", "is empty"), (b"[" * 10**5, "is not JSON")])
def test_a_line_of_metrics_that_is_none_is_named(tmp_path, line, words):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 0, "train/loss": 2, "x": null}\n' + line + b'\n{"step": 2}\n')
    with pytest.raises(BadInput) as caught:
        read_metrics(tmp_path)
    said = str(caught.value)
    assert said.startswith(f"{path}: line 2") and words in said and said.endswith("; take the line out by hand")
    assert said.isprintable() and len(said) < 300 + len(str(path))
    path.write_bytes(b'{"step": 0, "train/loss": 2, "x": null}\n{"step": 1}\n{"cut')
    assert read_metrics(tmp_path) == [{"step": 0, "train/loss": 2, "x": None}, {"step": 1}]
