"""Models of a hub: fetched from a server on this machine, meant by their commit, read back without a network."""

import os

import numpy as np
import pytest

from tests.loopback_hub import served
from twinscale.common import cli
from twinscale.common.data.word_pieces import path_of
from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.export import hugging_face
from twinscale.common.export.formats import Shape
from twinscale.common.families.encoder import Encoder
from twinscale.common.families.parameters import initial_values, parameters
from twinscale.common.families.weights import is_saved, said
from twinscale.common.files import hub
from twinscale.common.files.hub import fetched, folder_of, parted
from twinscale.common.recipe.file import dumps, given, load
from twinscale.common.recipe.schema import Recipe
from twinscale.common.verbs.shared import with_weights

SHAPE, COMMIT = (("ids", (6,), "int32"),), "0123456789abcdef" * 2 + "01234567"
SMALL = {"layers": 1, "width": 8, "heads": 2, "hidden": 12, "vocabulary": 30, "positions": 9, "types": 2}
NAME = f"hub:lab/tiny@{COMMIT}"
TEXT = 'name = "x"\n[data]\nsource = "random"\n[model]\nfamily = "encoder"\nweights = "hub:lab/tiny"\n'


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """{name: folder} of a model with all that a hub has of one, of one in several files, and of one of pickles."""
    top = tmp_path_factory.mktemp("models")
    m = Encoder(family="encoder", **SMALL)
    recipe = Recipe.model_validate({"name": "x", "data": {"source": "random"}, "model": m.model_dump()})
    first = initial_values(parameters(m, 3, SHAPE), 7, "float32")
    hugging_face.write(recipe, Shape(3, SHAPE), first, top / "tiny")
    hugging_face.write(recipe, Shape(3, SHAPE), first, top / "parts", most=2000)
    (top / "pickled").mkdir()
    (top / "pickled/config.json").write_text("{}")
    for folder in (top / "tiny", top / "pickled"):
        (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (top / "tiny/vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    return {f"lab/{folder.name}": folder for folder in top.iterdir()}


@pytest.fixture
def hubs(models, tmp_path, monkeypatch):
    """The server of the models, and an empty cache."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with served(models, COMMIT) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def offline(hubs, monkeypatch):
    """() ends the network, as HF_HUB_OFFLINE does."""
    def end():
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return end


def test_a_recipe_says_a_name_and_from_then_on_its_commit_and_needs_no_network(hubs, offline, models, tmp_path):
    (tmp_path / "recipe.toml").write_text(TEXT)
    recipe = given(tmp_path / "recipe.toml")
    assert recipe.model.weights == NAME and recipe.model.width == 8
    assert not any("pytorch_model.bin" in path for path in hubs.asked)
    assert not any(file.name.startswith("pytorch") for file in folder_of(NAME).iterdir())
    tree = parameters(recipe.model, 3, SHAPE)
    assert said(recipe.model, tree).endswith(f"tensors are those of {NAME}")
    of_folder = Encoder(family="encoder", weights=str(models["lab/tiny"]))
    wanted = initial_values(parameters(of_folder, 3, SHAPE), 0, "float32")
    found = initial_values(tree, 0, "float32")
    assert all(np.array_equal(found[name], x) for name, x in wanted.items())
    offline()
    (tmp_path / "run.toml").write_text(dumps(recipe))  # as a run keeps it
    count = len(hubs.asked)
    for read in (load, given):
        assert read(tmp_path / "run.toml").hash == recipe.hash and len(hubs.asked) == count
    assert given(tmp_path / "recipe.toml").hash == recipe.hash  # by what the cache knows of main


def test_a_run_whose_cache_is_gone_is_still_read_and_fetched_where_its_tensors_are_wanted(hubs, tmp_path, monkeypatch):
    (tmp_path / "recipe.toml").write_text(TEXT)
    recipe = given(tmp_path / "recipe.toml")
    (tmp_path / "run.toml").write_text(dumps(recipe))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    again = load(tmp_path / "run.toml")
    assert again.hash == recipe.hash and not folder_of(NAME).exists()
    assert len(initial_values(parameters(again.model, 4, SHAPE), 0, "float32")) and folder_of(NAME).exists()


def test_what_others_have_written_is_not_fetched_by_itself(hubs, tmp_path):
    (tmp_path / "recipe.toml").write_text(TEXT)
    with pytest.raises(BadInput, match="hub:lab/tiny: is fetched for a recipe that you name yourself; here say"):
        load(tmp_path / "recipe.toml")
    assert not hubs.asked


def test_from_takes_a_name_and_convert_makes_a_directory_of_it(hubs, models, tmp_path, capsys):
    assert with_weights(["seed=1"], "hub:lab/tiny@main") == (["seed=1", f'model.weights="{NAME}"'], None)
    for _ in range(2):  # over its own of before
        assert cli.main(["convert", "hub:lab/tiny", "--to", str(tmp_path / "out")]) == 0
    assert f"the model is in {tmp_path}/out: {NAME}" in capsys.readouterr().err
    assert is_saved(str(tmp_path / "out")) and not (tmp_path / "out/model.safetensors").is_symlink()
    tensors = models["lab/tiny"] / "model.safetensors"
    assert (tmp_path / "out/model.safetensors").read_bytes() == tensors.read_bytes()
    assert cli.main(["convert", "hub:lab/tiny", "--to", str(tmp_path / "out"), "--hugging-face"]) == 2
    assert "--hugging-face: not for a model of a hub" in capsys.readouterr().err
    assert cli.main(["compare", str(tmp_path), "--from", "hub:lab/none", "--out", str(tmp_path / "no")]) == 2
    assert not (tmp_path / "no").exists()


def test_a_model_in_several_files_comes_whole(hubs, models):
    name = fetched("hub:lab/parts", "model.weights")
    there = {file.name for file in folder_of(name).iterdir()}
    assert there == {file.name for file in models["lab/parts"].iterdir()} and len(there) > 3
    m = Encoder(family="encoder", weights=name)
    assert len(initial_values(parameters(m, 3, SHAPE), 0, "float32"))


def test_a_tokenizer_alone_is_fetched_without_the_tensors(hubs):
    values = {"name": "x", "data": {"source": "random", "tokenizer": fetched("hub:lab/tiny", "data.tokenizer")},
              "model": {"family": "encoder", **SMALL}}
    data = Recipe.model_validate(values).data
    assert data.tokenizer == NAME and path_of(data) == folder_of(NAME) / "vocab.txt"
    assert [file.name for file in folder_of(NAME).iterdir()] == ["vocab.txt"]
    assert fetched("hub:lab/tiny", "model.weights") == NAME and (folder_of(NAME) / "model.safetensors").exists()


@pytest.mark.parametrize(("name", "error", "words"), [
    ("hub:lab/none", BadInput, "there is no such model, or it is private: .*HF_TOKEN"),
    ("hub:lab/tiny@v9", BadInput, "there is no revision v9 of it"),
    ("hub:kept/in", MissingEnvironment, "let in only whom they know: ask for access on its page, and set HF_TOKEN"),
    ("hub:lab/pickled", BadInput, "has no model.safetensors or model.safetensors.index.json at commit 0123456789ab: "
                                  "pickles, which run code"),
    ("hub:", BadInput, "is written hub:ORG/NAME"), ("hub:a/b/c", BadInput, "is written hub:ORG/NAME"),
    ("hub:../x", BadInput, "is written hub:ORG/NAME"), ("hub:lab/tiny@../x", BadInput, "is written hub:ORG/NAME")])
def test_what_cannot_be_fetched_says_why_in_one_line(hubs, name, error, words):
    with pytest.raises(error, match=words) as raised:
        fetched(name, "model.weights")
    assert "\n" not in str(raised.value) and str(raised.value).startswith(f"model.weights={name}: ")


def test_without_a_network_or_the_library_it_is_said_what_helps(hubs, offline, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(MissingEnvironment, match=r"the hub cannot be reached \(Connect.*: look after the network, or"):
        fetched("hub:lab/tiny", "model.weights")
    offline()
    with pytest.raises(MissingEnvironment, match="HF_HUB_OFFLINE is set, and the cache has not all of it"):
        fetched("hub:lab/tiny", "model.weights")
    monkeypatch.setattr(hub, "need", lambda *modules, why: pytest.fail(why))
    with pytest.raises(pytest.fail.Exception, match="hub:lab/tiny is fetched with it"):
        fetched("hub:lab/tiny", "model.weights")


def test_two_programs_of_ones_own_begin_with_a_file(hubs, tmp_path):
    (tmp_path / "recipe.toml").write_text(TEXT.replace('"encoder"', '"pair"'))
    with pytest.raises(BadInput, match="model.weights=hub:lab/tiny: two programs of your own begin with a file"):
        given(tmp_path / "recipe.toml")
    assert not hubs.asked


def test_names_say_an_organisation_a_model_and_a_revision():
    assert parted("hub:a/b@refs/pr/1", "x") == ("a/b", "refs/pr/1") and parted("hub:b", "x") == ("b", "")
    assert str(folder_of(NAME)).endswith(os.path.join("models--lab--tiny", "snapshots", COMMIT))
