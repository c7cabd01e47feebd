"""Names that one can add to: own names, entry points, files and modules, and one line for what is missing or breaks."""

import hashlib
import os
import subprocess
import sys

import pytest

from twinscale.common import registry
from twinscale.common.errors import BadInput, MissingEnvironment, TwinscaleError

OWN = registry.Registry("things", "thing.name", {"sqrt": "math:sqrt", "pi": "math:pi", "broken": "math:nothing"})
pytestmark = pytest.mark.usefixtures("trusting")  # which test_trust.py is about
PATHS = registry.Registry("paths", "path.name", {"here": "pathlib:Path"}, "pathlib:PurePath")


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """A function that writes files {path: text} below tmp_path, which Python imports from."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_py", ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    yield write
    own = {path.stem for path in tmp_path.iterdir()}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        del sys.modules[name]


def install(folder, name, points):
    """A package that has been installed in a folder, as far as its entry points are looked for."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)


def refused(kind, own, name, folder="."):
    """The one line that a name is refused with."""
    with pytest.raises(TwinscaleError) as error:
        registry.load(own, name, folder)
    assert type(error.value) is kind and "\n" not in str(error.value)
    assert str(error.value).startswith(f'{own.key} = "')  # the place
    return str(error.value)


def test_own_names_entry_points_files_and_modules_come_through_one_door(plugins):
    folder = plugins(mine_py="THING = 'of a file'", other_py="THING = 'of a module'",
                     pkg___thing_py="IT = 'of a package'")
    install(folder, "extra", "[twinscale.things]\nadded = pkg._thing:IT\n[twinscale.paths]\nelsewhere = pkg:NO\n")
    assert registry.load(OWN, "sqrt")(9) == 3
    assert registry.load(OWN, "added") == "of a package"
    assert registry.load(OWN, "mine.py:THING", folder) == "of a file"
    assert registry.load(OWN, f"{folder}/mine.py:THING") == "of a file"
    assert registry.load(OWN, "other:THING") == "of a module"
    assert registry.names(OWN) == ["sqrt", "pi", "broken", "added"]


def test_an_own_name_means_its_own_whatever_is_installed(plugins):
    install(plugins(evil_py="SQRT = None"), "evil", "[twinscale.things]\nsqrt = evil:SQRT\n")
    assert registry.load(OWN, "sqrt")(9) == 3
    assert registry.names(OWN).count("sqrt") == 1


def test_a_file_is_hashed_by_its_content_and_no_other_is(plugins):
    folder = plugins(mine_py="THING = 1")
    file = registry.file_of("mine.py:THING", folder)
    assert file == folder / "mine.py"
    assert registry.sha256_of(file) == hashlib.sha256(b"THING = 1").hexdigest()
    assert [registry.file_of(name) for name in ("sqrt", "other:THING", "text:*.md", "adamw")] == [None] * 4


def test_a_reference_is_the_same_from_another_folder_and_on_another_machine(plugins, monkeypatch):
    folder = plugins(mine_py="THING = 1")
    there = registry.anchored("mine.py:THING", folder)
    monkeypatch.chdir("/")
    assert registry.load(OWN, there) == 1
    assert registry.portable(there) == registry.portable("elsewhere/mine.py:THING") == "mine.py:THING"
    for name in ("sqrt", "a.b:C"):
        assert registry.anchored(name, folder) == registry.portable(name) == name


def test_a_file_that_has_changed_is_loaded_again_and_an_equal_one_is_not(plugins):
    folder = plugins(mine_py="class Thing: pass")
    first = registry.load(OWN, "mine.py:Thing", folder)
    assert registry.load(OWN, "mine.py:Thing", folder) is first
    plugins(mine_py="class Thing: changed = True")
    assert registry.load(OWN, "mine.py:Thing", folder).changed


def test_an_unknown_name_is_told_what_was_meant_of_own_and_of_installed_ones(plugins):
    install(plugins(pkg_py="IT = 1"), "extra", "[twinscale.things]\nlamprey = pkg:IT\n")
    assert 'known are sqrt, pi, broken, lamprey' in refused(BadInput, OWN, "nonsense")
    assert 'did you mean "sqrt"?' in refused(BadInput, OWN, "sqr")
    assert 'did you mean "lamprey"?' in refused(BadInput, OWN, "lampry")


@pytest.mark.parametrize("text, said", [
    ("THING = 1\nboom(", "mine.py:2: breaks when it is loaded: SyntaxError"),
    ("def f():\n    raise ValueError('so it is\\nand more')\n\nf()\n",
     "mine.py:2: breaks when it is loaded: ValueError: so it is"),
    ("import sys\nsys.exit('bye')", "mine.py:2: breaks when it is loaded: SystemExit: bye"),
    ("THINGS = 1", 'mine.py: has no THING; did you mean "THINGS"?'),
    ("from twinscale.common.errors import BadInput\nraise BadInput('as it says')", "mine.py: as it says"),
], ids=["no Python", "raises", "ends the process", "lacks the object", "says so itself"])
def test_a_file_that_breaks_is_one_line_with_the_place_and_the_cause(plugins, text, said):
    folder = plugins(mine_py=text)
    assert said in refused(BadInput, OWN, "mine.py:THING", folder)
    assert "THING = 1" not in text or not [  # nothing half loaded is left behind
        module for module in sys.modules.values() if getattr(module, "__file__", "") == str(folder / "mine.py")]


def test_what_is_missing_says_what_and_what_helps(plugins):
    folder = plugins(mine_py="import a_package_that_is_not", pkg_py="import json, another_that_is_not")
    assert "mine.py:1: needs a_package_that_is_not" in refused(MissingEnvironment, OWN, "mine.py:THING", folder)
    assert "pkg.py:1: needs another_that_is_not" in refused(MissingEnvironment, OWN, "pkg:THING")
    assert "finds no module nowhere: install it" in refused(MissingEnvironment, OWN, "nowhere.at.all:THING")
    assert 'mne.py: no such file; did you mean "mine.py:THING"?' in refused(BadInput, OWN, "mne.py:THING", folder)
    (folder / "folder.py").mkdir()
    assert "folder.py: a directory, but a file is wanted" in refused(BadInput, OWN, "folder.py:THING", folder)


def test_an_entry_point_that_breaks_or_is_there_twice_names_the_packages(plugins):
    folder = plugins(bad_py="1 / 0", good_py="IT = 1")
    install(folder, "first", "[twinscale.things]\nbad = bad:IT\ntwice = good:IT\ngone = gone:IT\n")
    install(folder, "second", "[twinscale.things]\ntwice = bad:IT\n")
    assert "package first: " in (said := refused(BadInput, OWN, "bad")) and "bad.py:1: " in said
    assert "package first: gone: Python finds no module gone" in refused(MissingEnvironment, OWN, "gone")
    assert "package first and package second have it both" in refused(BadInput, OWN, "twice")


def test_an_object_of_another_kind_is_refused(plugins):
    folder = plugins(mine_py="class THING: pass\nWORD = 'no path'")
    wanted = "but PurePath of pathlib is wanted"
    assert f"is the class THING, {wanted}" in refused(BadInput, PATHS, "mine.py:THING", folder)
    assert f"is a str, {wanted}" in refused(BadInput, PATHS, "mine.py:WORD", folder)


def test_a_file_does_not_find_what_lies_beside_it(tmp_path):
    """Its hash speaks of the file alone."""
    (tmp_path / "mine.py").write_text("import beside_it\nTHING = 1")
    (tmp_path / "beside_it.py").write_text("")
    said = refused(MissingEnvironment, OWN, "mine.py:THING", tmp_path)
    assert "needs beside_it" in said and f"PYTHONPATH={tmp_path} does" in said


def test_a_dataclass_of_a_file_finds_its_own_names(plugins):
    folder = plugins(mine_py="from __future__ import annotations\nfrom dataclasses import dataclass\n"
                             "from typing import ClassVar\n@dataclass\nclass A:\n    x: int\n    n: ClassVar[int] = 3")
    assert registry.load(OWN, "mine.py:A", folder)(2).x == 2


def test_nothing_is_loaded_before_it_is_asked_for():
    code = ("import sys; from twinscale.common import registry as r;"
            "own = r.Registry('things', 'thing.name', {'a': 'wave:open'});"
            "r.names(own); assert 'wave' not in sys.modules; r.load(own, 'a'); assert 'wave' in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
