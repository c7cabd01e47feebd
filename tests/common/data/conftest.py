import pytest

from twinscale.common.recipe.schema import Recipe


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache(shared_cache, monkeypatch):
    """A cache of the session's own, so that no test reads or leaves anything in the home folder."""
    monkeypatch.setenv("TWINSCALE_CACHE", str(shared_cache))
    return shared_cache


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TWINSCALE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def recipe():
    """recipe("digits", batch=8, augment=["flip"]): a valid recipe over that source, of a family that reads it."""

    def make(source="stdlib", family=None, batch=8, seed=3, **data):
        family = family or ("convnet" if source in ("digits", "mnist5k") else "decoder")
        return Recipe.model_validate({"name": "test", "seed": seed, "data": {"source": source, **data},
                                      "model": {"family": family}, "train": {"global_batch": batch}})

    return make


@pytest.fixture
def corpus(tmp_path):
    """corpus([text, ...]): the source of a folder with one file for each text."""

    def make(texts):
        folder = tmp_path / "corpus"
        folder.mkdir()
        for i, text in enumerate(texts):
            (folder / f"{i:04}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
        return f"text:{folder}/*.txt"

    return make
