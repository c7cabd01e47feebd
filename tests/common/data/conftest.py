import io
import tarfile

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


@pytest.fixture(scope="session")
def package():
    """package(path, [(name or TarInfo, content)], "xz"): the path of a Debian package of these files, as deb(5) has
    it."""

    def member(name, content):
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        return head + content + b"\n" * (len(content) % 2)

    def tarred(entries, how):
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode=f"w:{how}") as tar:
            for entry, content in entries:
                if isinstance(entry, str):
                    entry = tarfile.TarInfo(entry)
                    entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return raw.getvalue()

    def make(path, entries, how="xz"):
        control = tarred([("./control", b"Package: x\n")], how)
        path.write_bytes(b"!<arch>\n" + member("debian-binary", b"2.0\n") + member(f"control.tar.{how}", control)
                         + member(f"data.tar.{how}", tarred(entries, how)))
        return path

    return make
