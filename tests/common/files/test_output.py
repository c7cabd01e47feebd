"""What an output directory holds of ours, and what of others."""

import os
import shutil

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.export import formats as export_formats
from twinscale.common.files.output import (
    Kind,
    answered,
    check_files,
    check_verb,
    clear,
    remove_ours,
    safe_console,
    same,
    sweep,
    table_of,
)
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training import canonical
from twinscale.common.training.run import RUN, open_run

RECIPE = Recipe(name="x", model={"family": "decoder"})
FOLDERS = ("checkpoints", "checkpoints/manifests", "trace", "trace/twin", "hosts", "data", "export", "export/state")
MADE = ("checkpoints/step_2/default/_METADATA", "checkpoints/step-2.index", "checkpoints/manifests/step_2.json",
        "trace/final.safetensors", "trace/twin/metrics.jsonl", "hosts/0.json", "hosts/1.stacks", "data/tokenizer.json",
        "export/state/index.json", "events.out.tfevents.1.here", "metrics.jsonl", ".metrics.jsonl.7.tmp")


def filled(path, names=MADE):
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("{}")


@pytest.fixture
def run(tmp_path):
    """The directory of an unfinished run."""
    open_run(tmp_path / "run", RECIPE, "jax").close("interrupted")
    return tmp_path / "run"


def state_of(path, run, step=2):
    canonical.write(path, RECIPE, run, step, {"weights/a": np.full(3, step, np.float32)})


def a_run(tmp_path, name, **info):
    path = tmp_path / name
    with open_run(path, RECIPE, "jax") as opened:
        opened.info |= info
    return opened


def test_a_marker_that_a_kill_cut_short_or_that_is_no_file_makes_nothing_ours(tmp_path):
    filled(tmp_path / "out", ("..export.7.tmp",))
    clear(tmp_path / "out", export_formats.KIND, {"verb": "export"}, False)
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".export"]
    filled(tmp_path / "mine", ("..state.7.tmp", "mine.txt"))
    with pytest.raises(BadInput, match="no earlier state"):
        state_of(tmp_path / "mine", a_run(tmp_path, "one"))
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / ".state")  # of which the opening alone would wait
    with pytest.raises(BadInput, match="no earlier state"):
        state_of(tmp_path / "pipe", a_run(tmp_path, "two"))


def test_halves_of_other_names_and_behind_links_are_not_swept(run, theirs, tmp_path):
    theirs(run, FOLDERS)
    (tmp_path / "far").mkdir()
    filled(tmp_path / "far", (".index.json.7.tmp",))
    shutil.rmtree(run / "export")
    (run / "export").symlink_to(tmp_path / "far")
    remaining = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    filled(run, (".recipe.toml.7.tmp", "data/.files.txt.7.tmp"))
    sweep(run, RUN)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == remaining


def test_a_removed_directory_that_holds_more_stays_with_it(tmp_path):
    filled(tmp_path, ("data/tokenizer.json", "data/mine", "hosts/0.json"))
    remove_ours(tmp_path, RUN)
    assert [file.name for file in tmp_path.rglob("*")] == ["data", "mine"]


@pytest.mark.parametrize("content", ["of mine", "{}", "[]", "[" * 10**5, '{"sides": {}}', None])
def test_a_single_file_is_replaced_only_where_it_is_an_earlier_answer(tmp_path, content):
    file = tmp_path / "bench.json"
    if content is None:  # one of ours, elsewhere
        (tmp_path / "far.json").write_text('{"sides": {}, "machine": {}}')
        file.symlink_to(tmp_path / "far.json")
    else:
        file.write_text(content)
    with pytest.raises(BadInput, match=r"bench\.json there is not ours"):
        check_files(tmp_path, ["bench.json"], ("sides", "machine"), True)
    file.unlink()
    file.write_text('{"sides": {}, "machine": {}}')
    check_files(tmp_path, ["bench.json"], ("sides", "machine"), True)
    with pytest.raises(BadInput, match="--overwrite"):
        check_files(tmp_path, ["bench.json"], ("sides", "machine"), False)
    (tmp_path / "report.html").write_text("mine")
    file.unlink()
    with pytest.raises(BadInput, match=r"report\.html there is not ours"):
        check_files(tmp_path, ["bench.json", "report.html"], ("sides", "machine"), True)


@pytest.mark.parametrize("content", ["[" * 10_000, "7", "\xff", '{"verb": ', "[]"])
def test_a_marker_that_is_none_is_nobodys(tmp_path, content):
    kind = Kind(".x", "x.json", {})
    (tmp_path / ".x").write_text(content, "latin-1")
    assert not same(tmp_path, kind, {"verb": "x"}) and not answered(tmp_path / ".x", ("verb",))
    check_verb(tmp_path, kind, "x")  # of earlier versions


def test_a_table_loses_nothing_where_it_is_too_wide(capsys):
    safe_console(width=24).print(table_of(("name", "figure"), [("a/long/name/of/a/tensor", "1.2345678901234567")], "T"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "T" and "…" not in "".join(lines)
    halves = [line.split() for line in lines[4:] if line.strip()]
    assert "".join(half[0] for half in halves) == "a/long/name/of/a/tensor"
    assert "".join(half[1] for half in halves if len(half) > 1) == "1.2345678901234567"
