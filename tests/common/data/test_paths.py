"""Patterns of paths."""

import glob
import os

import pytest

from twinscale.common.data.paths import matching
from twinscale.common.data.sources import documents
from twinscale.common.recipe.schema import Data


@pytest.fixture
def tree(tmp_path):
    """A folder of texts, with hidden files and folders, brackets in names and texts one and two folders deep."""
    for name in ("a.txt", "b.md", ".hidden.txt", "sub/c.txt", "sub/deep/d.txt", ".git/e.txt", "x[1].txt", "x1.txt",
                 "runs[1]/f.txt", "runs1/g.txt"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(name)
    return tmp_path / "tree"


def found(pattern, scheme="text"):
    return [text for _, text in documents(Data(source=f"{scheme}:{pattern}"))]


@pytest.mark.parametrize("pattern", [
    "*.txt", "**/*.txt", "**", "sub/**", "**/deep/*", "*/*.txt", ".*", ".git/*", "a.tx?", "./[ab].*", "sub/../*.md",
    "**/sub/**/*.txt", "x[[]1].txt", "x?*"])
def test_without_links_a_pattern_means_what_it_means_to_glob(tree, pattern):
    expected = sorted(path for path in glob.glob(f"{tree}/{pattern}", recursive=True) if os.path.isfile(path))
    assert expected and matching(f"{tree}/{pattern}") == expected


def test_a_relative_pattern(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert found("**/*.txt") == found(f"{tree}/**/*.txt") and found("sub/*.txt") == ["sub/c.txt"]


def test_two_links_to_their_own_folder_read_each_file_once(tree):
    before = found(f"{tree}/**/*.txt")
    (tree / "a_loop").symlink_to(".")
    (tree / "sub" / "up").symlink_to("..")
    (tree / "again.txt").symlink_to("a.txt")
    (tree / "itself").symlink_to("itself")
    assert len(before) == 7 and found(f"{tree}/**/*.txt") == before


def test_a_link_to_texts_that_lie_elsewhere_is_followed(tree, tmp_path):
    (tmp_path / "texts").symlink_to(tree / "sub")
    (tree / "z_one.txt").symlink_to(tree / "b.md")
    assert found(f"{tmp_path}/texts/**/*.txt") == ["sub/c.txt", "sub/deep/d.txt"]
    assert "b.md" in found(f"{tree}/*.txt")


def test_brackets_in_a_name_that_is_there_are_the_name(tree):
    assert found(f"{tree}/x[1].txt") == ["x[1].txt"] and found(f"{tree}/runs[1]/*.txt") == ["runs[1]/f.txt"]
    (tree / "x[1].txt").unlink()
    assert found(f"{tree}/x[1].txt") == ["x1.txt"]
