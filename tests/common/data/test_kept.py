"""A run is bound to its data: what has changed is refused by name, what was only touched is not."""

import os

import numpy as np
import pytest

from twinscale.common.data import kept as keeping
from twinscale.common.data import open_dataset, shards, tokenizers
from twinscale.common.errors import BadInput

TEXTS = [f"the {word} walks to the {place} and back" for word in ("cat", "dog", "cow", "hen", "pig", "fox")
         for place in ("barn", "hill", "lake", "wood")]


@pytest.fixture
def bound(tmp_path, corpus, recipe):
    """(recipe, what a run keeps of it, the folder of the corpus)."""
    asked = recipe(corpus(TEXTS), sequence=8, held_out=0.2, tokenizer="bpe", vocabulary=280)
    dataset = open_dataset(asked)
    keeping.keep(tmp_path / "run", dataset)
    return asked, keeping.kept_in(tmp_path / "run", dataset.manifest), tmp_path / "corpus"


def refusal(call, *arguments):
    with pytest.raises(BadInput) as error:
        call(*arguments)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def test_the_same_documents_are_taken_however_often_they_were_touched_or_moved(bound):
    asked, kept, folder = bound
    for file in folder.iterdir():
        os.utime(file, (1, 1))
    again = keeping.open_kept(asked, kept)
    assert again.manifest["sha256"] == kept.manifest["sha256"]
    folder.rename(folder.with_name("moved"))
    moved = asked.with_values(data={"source": f"text:{folder.with_name('moved')}/*.txt"})
    keeping.check_same(kept, keeping.open_kept(moved, kept))


def test_what_changed_is_counted_and_named(bound):
    asked, kept, folder = bound
    (folder / "0000.txt").unlink()
    (folder / "0001.txt").write_text("another text altogether")
    for name in "xyz":
        (folder / f"{name}.txt").write_text(f"a new text named {name}")
    said = refusal(keeping.open_kept, asked, kept)
    assert "5 of 27 files differ: 0000.txt (gone), 0001.txt (changed), x.txt (new) and 2 more" in said
    assert "--accept-data" in said
    assert "5 of 27 files differ" in refusal(keeping.check_same, kept, open_dataset(asked))


@pytest.mark.parametrize("how", ["in place", "replaced"])
def test_a_change_of_equal_size_and_time_is_seen(bound, how):
    asked, kept, folder = bound
    file = folder / "0001.txt"
    before, text = file.stat(), file.read_text()
    assert (edited := text.replace("w", "v")) != text
    written = file if how == "in place" else folder / "aside"
    written.write_text(edited)
    os.utime(written, ns=(before.st_atime_ns, before.st_mtime_ns))
    written.rename(file)
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert "1 of 24 files differ: 0001.txt (changed)" in refusal(keeping.open_kept, asked, kept)


def test_accepted_data_is_read_by_the_tokenizer_that_was_trained_with(bound):
    asked, kept, folder = bound
    (folder / "new.txt").write_text("zebra " * 200)
    own, accepted = open_dataset(asked), keeping.open_kept(asked, kept, accept=True)
    assert own.manifest["tokenizer"]["sha256"] != kept.manifest["tokenizer"]["sha256"]  # it would be another one
    assert accepted.manifest["tokenizer"] == kept.manifest["tokenizer"]
    assert accepted.tokenizer.read_bytes() == kept.tokenizer
    tokenizer = tokenizers.read_bpe(accepted.tokenizer, 280)
    stream = np.concatenate([shard for split in shards.SPLITS
                             for shard in shards.open_shards(asked.data, kept.tokenizer)[2][split].shards])
    assert "zebra zebra" in tokenizer.decode(stream)


def test_no_tokenizer_is_trained_where_one_is_kept(bound, empty_cache, monkeypatch):
    """As after an update of the library, or with an empty cache."""
    asked, kept, _ = bound
    monkeypatch.setattr(shards, "open_tokenizer", lambda *_: pytest.fail("a tokenizer was trained"))
    monkeypatch.setattr(shards, "version", lambda _: "999")
    assert keeping.open_kept(asked, kept).manifest["tokenizer"] == kept.manifest["tokenizer"]


def test_a_damaged_tokenizer_is_noticed(bound):
    _, kept, _ = bound
    file = kept.path / keeping.TOKENIZER
    file.write_bytes(file.read_bytes().replace(b"the", b"hte", 1))
    assert "tokenizer.json" in refusal(keeping.kept_in, kept.path, kept.manifest)


def test_another_tokenizer_of_the_same_documents_is_another_data(bound):
    asked, kept, _ = bound
    other = keeping.Kept(kept.path, {**kept.manifest, "tokenizer": {"kind": "bpe", "sha256": "0" * 64}}, b"", {})
    assert "another tokenizer" in refusal(keeping.check_same, other, open_dataset(asked))


def test_a_compression_accepts_other_documents_but_no_other_tokenizer(bound):
    asked, kept, folder = bound
    (folder / "new.txt").write_text("zebra " * 200)
    assert "--accept-data" not in refusal(keeping.check_same, kept, open_dataset(asked), True)
    keeping.check_same(kept, keeping.open_kept(asked, kept, accept=True), True)
    said = refusal(keeping.check_same, kept, keeping.open_kept(asked, kept, accept=True))
    assert "1 of 25 files differ" in said and "--accept-data" in said


def test_images_are_bound_by_their_content_and_by_the_names_of_their_classes(tmp_path, recipe):
    asked = recipe("digits")
    dataset = open_dataset(asked)
    known = keeping.kept_in(tmp_path, dataset.manifest)
    assert keeping.open_kept(asked, known).manifest == dataset.manifest
    other = keeping.Kept(tmp_path, {**dataset.manifest, "sha256": "0" * 64}, None, {})
    assert "has another content (sha256 000000000000" in refusal(keeping.open_kept, asked, other)
    named = keeping.Kept(tmp_path, {**dataset.manifest, "labels": ["nought"]}, None, {})
    assert "classes have other names" in refusal(keeping.open_kept, asked, named, True)
