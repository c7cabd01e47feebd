"""Code that a recipe names runs only where the user has named it: which acts say so, who knows it then, and what
becomes of files that are not to be believed."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from twinscale.common import registry, trust
from twinscale.common.errors import BadInput
from twinscale.common.recipe.file import dumps, given, load, of_values
from twinscale.common.recipe.schema import Recipe

PLUGIN = """
from pathlib import Path
from twinscale.common.metrics import Metric

Path(__file__).with_name("CANARY").touch()
MINE = Metric("mine", lambda *of: {}, lambda sums: {})
"""
RECIPE = 'name = "x"\ndata.source = "digits"\nmodel.family = "mlp"\n'
THINGS = registry.Registry("things", "thing.name", {})


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Where the user's file goes, of a user and a process who have named nothing yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv(trust.HANDED, "")
    monkeypatch.setattr(registry, "FILES", {})
    monkeypatch.setattr(trust, "IGNORED", set())
    return tmp_path / "config" / "twinscale"


@pytest.fixture
def another(monkeypatch):
    """another(): from now on it is as in a process that has been started later."""
    def begin():
        monkeypatch.setenv(trust.HANDED, "")
        monkeypatch.setattr(registry, "FILES", {})
    return begin


@pytest.fixture
def mine(tmp_path):
    """A recipe beside the file that it names."""
    return laid(tmp_path / "mine", 'train.metrics = ["mine.py:MINE"]\n')


def laid(folder, more, plugin=PLUGIN):
    folder.mkdir()
    (folder / "mine.py").write_text(plugin)
    (folder / "recipe.toml").write_text(RECIPE + more)
    return folder / "recipe.toml"


def ran(recipe):
    """Whether the file beside a recipe has run, since this was last asked."""
    mark = recipe.with_name("CANARY")
    found = mark.exists()
    mark.unlink(missing_ok=True)
    return found


def refused(function, *given):
    with pytest.raises(trust.Untrusted) as error:
        function(*given)
    assert "\n" not in str(error.value) and error.value.exit_code == 2
    return str(error.value)


# ---- which acts say so

def test_a_recipe_that_is_read_back_names_nothing_and_says_what_to_do(mine):
    said = refused(load, mine)
    file = mine.with_name("mine.py")
    assert said.startswith(f'{mine}: train.metrics = "{str(file)[:20]}') and f"`twinscale trust {file}`" in said
    assert not ran(mine)


def test_a_recipe_that_the_user_gives_and_one_that_it_extends_do(mine, tmp_path, another):
    further = tmp_path / "further.toml"
    further.write_text('extends = ["mine/recipe.toml"]\nname = "y"\n')
    assert given(further).name == "y" and ran(mine)
    another()
    assert load(mine).train.metrics[0].startswith(str(mine.with_name("mine.py"))) and ran(mine)


def test_an_override_that_is_typed_does_from_where_the_user_is(mine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("plain.toml").write_text(RECIPE)
    typed = ['train.metrics=["mine/mine.py:MINE"]']
    refused(load, "plain.toml", typed)
    assert not ran(mine)
    assert given("plain.toml", typed).train.metrics and ran(mine)


def test_what_lies_in_a_directory_that_a_verb_has_filled_says_nothing_whoever_names_it(mine, tmp_path):
    """That of a stranger's run, also by a link, by a recipe that extends it, and where another lies in one's folder."""
    linked, further = tmp_path / "linked.toml", tmp_path / "further.toml"
    linked.symlink_to(mine)
    (tmp_path / "mine.py").symlink_to(mine.with_name("mine.py"))
    further.write_text('extends = ["mine/recipe.toml"]\nname = "y"\n')
    for marker in ("run.json", "state.safetensors", "export.json", "verdict.json", ".comparison"):
        mine.with_name(marker).touch()
        for named in (mine, linked, further):
            assert "mine.py" in refused(given, named)
        mine.with_name(marker).unlink()
    assert not ran(mine)
    (tmp_path / "run.json").touch()
    refused(given, mine)
    typed = [f'train.metrics=["{mine.parent}/mine.py:MINE"]']
    assert given(mine, typed) and ran(mine)  # the same by the user's own words


def test_a_file_that_has_changed_or_been_swapped_is_another(mine, tmp_path, another):
    given(mine)
    assert ran(mine)
    another()
    file = mine.with_name("mine.py")
    file.write_text(PLUGIN + "# changed\n")
    refused(load, mine)
    (tmp_path / "elsewhere.py").write_text(PLUGIN + "# of a stranger's\n")
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere.py")
    refused(load, mine)
    assert not ran(mine)
    (tmp_path / "elsewhere.py").write_text(PLUGIN)  # what was named, wherever it lies
    assert load(mine) and ran(mine)


def test_a_module_is_named_by_its_name_and_not_imported_before(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "their_module.py").write_text(PLUGIN)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE + 'train.metrics = ["their_module:MINE"]\n')
    said = refused(load, recipe)
    assert "`twinscale trust their_module:MINE`" in said and "their_module" not in sys.modules and not ran(recipe)
    assert given(recipe).train.metrics == ("their_module:MINE",) and ran(recipe)
    del sys.modules["their_module"]


def test_sources_of_our_own_are_no_modules(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace("digits", "tfds:mnist"))
    given(recipe)
    assert trust.kept() == {} and not os.environ[trust.HANDED]


def test_values_of_a_worker_or_of_a_file_name_nothing(mine):
    values = load_values(mine)
    refused(Recipe.model_validate, values)
    assert refused(of_values, values, "plan.json").startswith("plan.json: train.metrics = ")
    assert not ran(mine)


def load_values(mine):
    return {"name": "x", "data": {"source": "digits"}, "model": {"family": "mlp"},
            "train": {"metrics": [f"{mine.with_name('mine.py')}:MINE"]}}


# ---- who knows it then

def test_processes_that_are_started_know_it_without_the_users_file(mine, tmp_path):
    recipe = given(mine)
    (tmp_path / "resolved.toml").write_text(dumps(recipe))
    ran(mine)
    read = f"from twinscale.common.recipe.file import load; load({str(tmp_path / 'resolved.toml')!r})"
    for environment, code in (({}, 0), ({trust.HANDED: ""}, 1)):
        done = subprocess.run([sys.executable, "-c", read], stderr=subprocess.PIPE, text=True, env={
            **os.environ, "XDG_CONFIG_HOME": str(tmp_path / "another"), **environment})
        assert done.returncode == code, done.stderr
        assert ran(mine) == (not code)
    assert "Untrusted" in done.stderr


def test_the_users_file_is_his_alone_and_holds_what_he_has_named(mine, home):
    given(mine)
    file = mine.with_name("mine.py")
    assert trust.kept() == {f"sha256={registry.sha256_of(file)}": str(file)}
    assert stat.S_IMODE(os.stat(home / "trusted.json").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(home).st_mode) == 0o700 and [found.name for found in home.iterdir()] == ["trusted.json"]


def test_what_two_processes_name_at_once_is_kept_of_both(home):
    name = "from twinscale.common.trust import remember; import sys; remember({f'module={sys.argv[1]}': ''})"
    trust.remember({"module=first": ""})
    both = [subprocess.Popen([sys.executable, "-c", name, word]) for word in ("second", "third")]
    assert [each.wait() for each in both] == [0, 0]
    assert set(trust.kept()) == {"module=first", "module=second", "module=third"}


@pytest.mark.parametrize("prevent", ["a file in its place", "no home"])
def test_a_home_that_cannot_be_written_stops_nothing(mine, prevent, home, monkeypatch, capsys):
    """Of a user who is root no permission keeps anything, so the folder cannot be made for another reason."""
    if prevent == "no home":
        monkeypatch.delenv("XDG_CONFIG_HOME")
        monkeypatch.setattr(trust, "at_home", failing)
    else:
        home.parent.write_text("")
    assert given(mine) and ran(mine)
    assert load(mine) and trust.kept() == {} and capsys.readouterr().err == ""


def failing(*_):
    raise trust.MissingEnvironment("there is no home directory here")


def test_a_file_system_that_cannot_be_written_stops_nothing(mine, home, monkeypatch):
    def full(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(trust, "write_bytes", full)
    assert given(mine) and ran(mine) and trust.kept() == {}


# ---- files that are not to be believed

def spoilt(file, how):
    good = file.read_bytes()
    if how == "cut short":
        file.write_bytes(good[:-9])
    elif how == "other keys":
        file.write_bytes(good.replace(b"sha256=", b"md5="))
    elif how == "a later version":
        file.write_bytes(good.replace(b'"schema_version": 1', b'"schema_version": 2'))
    elif how == "others may write it":
        file.chmod(0o666)
    elif how == "a folder":
        file.unlink()
        file.mkdir()
    elif how == "a FIFO":
        file.unlink()
        os.mkfifo(file)


@pytest.mark.parametrize("how", ["cut short", "other keys", "a later version", "others may write it", "a folder",
                                 "a FIFO", "another's"])
def test_a_file_that_is_not_to_be_believed_is_ignored_with_one_line(mine, home, another, monkeypatch, capsys, how):
    given(mine)
    ran(mine)
    file = home / "trusted.json"
    spoilt(file, how)
    before = file.read_bytes() if file.is_file() else None
    if how == "another's":
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    another()
    for _ in range(2):
        refused(load, mine)
    assert not ran(mine)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith(f"twinscale: {file}: ") and said[0].endswith("ignored until then")
    assert given(mine) and ran(mine)  # the user's own act needs no file, and does not write over it
    assert (file.read_bytes() if file.is_file() else None) == before
    with pytest.raises(BadInput, match="remove it"):
        trust.change(lambda old: old)


def test_entry_points_of_installed_packages_need_no_word(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "installed_thing.py").write_text("IT = 3")
    info = tmp_path / "installed-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[twinscale.things]\nit = installed_thing:IT\n")
    assert registry.load(THINGS, "it") == 3
    del sys.modules["installed_thing"]
