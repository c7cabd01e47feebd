"""A peer's step beside ours, with a process that answers what a test says."""

import json
import sys

import pytest

from tests.benchmarks.preflight.test_init import ANSWER, GATHER, GIB, MEMORY, MODULE, OVER, fly  # noqa: F401
from twinscale.benchmarks.preflight import peers, report, words
from twinscale.benchmarks.timing import peers as timed
from twinscale.common.errors import BadInput, MissingEnvironment, TwinscaleError
from twinscale.common.recipe.file import load

VERSIONS = {"maxtext": "0.2.5", "jax": "9.9", "libtpu": "8.8"}
PROGRAM = """
import json, os, pathlib, sys
given = json.loads(sys.stdin.readline())
answer = json.loads(pathlib.Path({answer!r}).read_text())
if "dies" in answer:
    print("first", file=sys.stderr); sys.exit(answer["dies"])
assert given["config"]["base_num_decoder_layers"] == 16 and "TPU_LIBRARY_PATH" not in os.environ
pathlib.Path(given["module"]).write_text(answer.pop("text"))
print(json.dumps(answer))
"""


@pytest.fixture
def beside(fly, monkeypatch, tmp_path):  # noqa: F811
    """beside(answer, text, **options): what a preflight of the 1B recipe says with a peer that answers so."""
    def run(answer=ANSWER, text=MODULE, **options):
        (tmp_path / "answer").write_text(json.dumps(answer | {"versions": VERSIONS, "text": text}))
        program = PROGRAM.format(answer=str(tmp_path / "answer"))
        monkeypatch.setattr(peers, "python_of", lambda *_: sys.executable)
        monkeypatch.setattr(peers, "tell", lambda *_: None)
        start = peers.process.start
        monkeypatch.setattr(peers.process, "start", lambda command, **kept: start(
            [command[0], "-c", program], **kept) if "maxtext_compile" in command[-1] else start(command, **kept))
        monkeypatch.setenv("TPU_LIBRARY_PATH", "/ours")
        return fly({"jax": [ANSWER]}, recipe=load("recipes/tpu/decoder-1b.toml"), topologies=("v5e:4x4",),
                   peers=["maxtext-compile"], **options)

    return run


def test_a_peer_is_a_row_by_the_same_account_and_a_ratio_of_each_figure(beside, capsys, tmp_path, monkeypatch):
    theirs = ANSWER | {"memory": MEMORY | {"temporaries": GIB}}
    code, found = beside(theirs, MODULE.replace("  ROOT %r", f"{GATHER} %r"))
    row, = found["peers"]
    assert code == 0 and len(found["results"]) == 1 and row["peer"] == "maxtext-compile"
    assert row["hbm_bytes_per_device"] == 8 * GIB and row["attention"] == "einsum"
    assert {each["kind"] for each in row["collectives"]} == {"all-reduce", "all-gather"}
    ours = found["results"][0]
    # of 16,384 bytes on each of four: an all-reduce sends 3/4 of them twice, an all-gather three times
    assert row["ours_over_theirs"] == {"HBM": 10 / 8, "bytes sent": pytest.approx(24576 / (24576 + 3 * 16384)),
                                       "bytes a link": pytest.approx(1 / 3), "FLOPs": 1.0}
    assert ours["flops_per_device"] == row["flops_per_device"] == 2 * 64**3
    said = capsys.readouterr().out
    assert "maxtext-compile, v5e:4x4" in said
    assert "v5e:4x4: ours / maxtext-compile (maxtext 0.2.5, jax 9.9, libtpu 8.8): HBM 1.25" in said
    monkeypatch.setattr(report, "drawn", lambda *_: None)  # which takes seconds
    report.write_report(found, tmp_path / "page")
    for kind in ("html", "md"):
        page = (tmp_path / "page" / f"report.{kind}").read_text()
        assert "maxtext-compile, v5e:4x4" in page and "HBM 1.250" in page and "train_compile" in page


def test_another_compiler_is_said(beside):
    _, found = beside()
    row, = found["peers"]
    assert row["other_versions"] == {name: [found["versions"].get(name), VERSIONS[name]] for name in peers.DECIDE}
    line, = words.beside(found["peers"])
    assert f"not like for like, for ours is of jax {found['versions']['jax']}" in line and "`make peers-tpu`" in line
    line, = words.beside([row | {"other_versions": {}}])
    assert line.endswith("one compiler has made both")


def test_a_peer_that_does_not_fit_is_no_failure_of_ours(beside, capsys):
    said = "RESOURCE_EXHAUSTED: Used 20.00G of 15.75G hbm.\nmore"
    code, found = beside({key: value for key, value in OVER.items() if "bytes" not in key} | {"error": said})
    row, = found["peers"]
    assert code == 0 and row["fits"] is False and row["hbm_bytes_per_device"] == 20 * GIB
    assert row["error"] == said.splitlines()[0]
    assert row["ours_over_theirs"] == {"HBM": 0.5} and "it does not compile" in capsys.readouterr().out


def test_a_process_that_dies_is_one_line(beside):
    with pytest.raises(TwinscaleError, match="peer maxtext-compile died with exit code 1: no such module"):
        beside({"dies": "no such module"})


def test_what_cannot_stand_beside_ours_is_refused_before_anything_is_compiled(fly, monkeypatch):  # noqa: F811
    recipe = load("recipes/tpu/decoder-1b.toml")
    with pytest.raises(BadInput, match="--peers='torch'.*known are maxtext-compile"):
        fly({"jax": []}, recipe=recipe, peers=["torch"], topologies=("v5e:4x4",))
    with pytest.raises(BadInput, match="--peers maxtext-compile: .* take --backend jax"):
        fly({"keras": []}, recipe=recipe, peers=["maxtext-compile"])  # over four, whatever the recipe shapes
    with pytest.raises(BadInput, match="--peers maxtext-compile: model.family = \"mlp\""):
        fly({"jax": []}, peers=["maxtext-compile"])
    monkeypatch.setattr(timed, "lacking", lambda modules: modules[0])
    monkeypatch.setenv(peers.VARIABLE, "/nowhere/python")
    with pytest.raises(MissingEnvironment, match="/nowhere/python: `make peers-tpu` makes such an environment"):
        fly({"jax": []}, recipe=recipe, peers=["maxtext-compile"], topologies=("v5e:4x4",))
    monkeypatch.setenv(peers.VARIABLE, sys.executable)
    assert peers.python_of("maxtext-compile", ["json"]) == sys.executable
