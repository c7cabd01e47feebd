"""Images in the files of MNIST's format."""

import gzip

import numpy as np
import pytest

from twinscale.common.data import held_out_batches, idx, open_dataset
from twinscale.common.data.idx import read_idx
from twinscale.common.errors import BadInput

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 4, 5), np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 3
NAMES = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images.idx3-ubyte", "t10k-labels-idx1-ubyte")


def packed(x):
    return bytes([0, 0, 8, x.ndim]) + b"".join(n.to_bytes(4) for n in x.shape) + x.tobytes()


@pytest.fixture
def folder(tmp_path):
    """9 images to train on and 3 to hold out, some packed and some not."""
    for name, x in zip(NAMES, (PIXELS[:9], LABELS[:9], PIXELS[9:], LABELS[9:]), strict=True):
        content = packed(x)
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return tmp_path


def test_parts_are_those_of_the_files(recipe, folder):
    (folder / "labels.txt").write_text("ant\nbee\n\ncat\n")
    asked = recipe(f"idx:{folder}", family="mlp", batch=4)
    dataset = open_dataset(asked)
    assert dataset.manifest["labels"] == ["ant", "bee", "cat"] and dataset.example_shape == (4, 5, 1)
    assert (len(dataset.train), len(dataset.held_out)) == (9, 3)
    (batch,) = held_out_batches(dataset, 3)
    assert np.array_equal(np.round(batch["inputs"][..., 0] * 255), PIXELS[9:]) and list(batch["labels"]) == [0, 1, 2]
    few = open_dataset(recipe(f"idx:{folder}", family="mlp", batch=2, max_documents=2))
    assert (len(few.train), len(few.held_out)) == (2, 2)
    hashes = {one.manifest["sha256"] for one in (dataset, few)}
    (folder / NAMES[3]).write_bytes(packed(LABELS[:3][::-1]))
    assert open_dataset(asked).manifest["sha256"] not in hashes


def test_without_files_to_hold_out_content_decides(recipe, folder):
    for name in NAMES[2:]:
        (folder / name).unlink()
    dataset = open_dataset(recipe(f"idx:{folder}", family="mlp", batch=2, held_out=0.4))
    assert len(dataset.train) + len(dataset.held_out) == 9 and "labels" not in dataset.manifest


@pytest.mark.parametrize(("name", "spoil", "said"), [
    (NAMES[0], lambda x: x[:-9], "is cut short"),
    (NAMES[0], lambda x: x[:20] + b"\xff" * 9 + x[29:], "cannot be unpacked"),
    (NAMES[2], lambda x: x[:-1], "says it holds 3 x 4 x 5 values, and holds 59"),
    (NAMES[2], lambda x: x + b"!", "holds 61"),
    (NAMES[2], lambda x: x[:2] + b"\x0d" + x[3:], "is no idx file of bytes with 3 axes"),
    (NAMES[3], lambda x: packed(LABELS[:2]), r"\(3, 4, 5\) with 2 labels"),
    (NAMES[3], lambda x: None, "t10k-images.idx3-ubyte has no labels beside it"),
    (NAMES[0], lambda x: None, "train-labels-idx1-ubyte.gz has no images beside it")])
def test_what_is_wrong_with_a_file_is_one_line(recipe, folder, name, spoil, said):
    content = spoil((folder / name).read_bytes())
    (folder / name).write_bytes(content) if content is not None else (folder / name).unlink()
    with pytest.raises(BadInput, match=f"^[^\n]*{said}[^\n]*$"):
        open_dataset(recipe(f"idx:{folder}", family="mlp", batch=2))


@pytest.mark.parametrize(("content", "said"), [("a\nb\n", "classes, and labels go to 2"), ("a\na\n", "twice"),
                                               ("\n", "or none")])
def test_names_that_do_not_fit_are_refused(recipe, folder, content, said):
    (folder / "labels.txt").write_text(content)
    with pytest.raises(BadInput, match=f"labels.txt: names .*{said}"):
        open_dataset(recipe(f"idx:{folder}", family="mlp", batch=2))


def test_a_folder_without_them_says_how_one_is_made(recipe, tmp_path, folder):
    for where in (tmp_path / "none", folder):
        for name in NAMES[:2]:
            (folder / name).unlink(missing_ok=True)
        with pytest.raises(BadInput, match="has no train-images.*`twinscale data fetch fashion-mnist` makes"):
            open_dataset(recipe(f"idx:{where}", family="mlp"))
    (folder / "train-images-idx3-ubyte").write_bytes(b"")
    (folder / "x-train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(BadInput, match="are of one part"):
        open_dataset(recipe(f"idx:{folder}", family="mlp"))


def test_what_unpacks_to_more_than_anybody_has_is_refused(folder, monkeypatch):
    monkeypatch.setattr(idx, "MOST_BYTES", 180)
    (folder / "bomb").write_bytes(gzip.compress(packed(PIXELS[:9])))
    with pytest.raises(BadInput, match="bomb: "):
        read_idx(folder / "bomb", 3)
