"""Sources that people have: pictures in folders, tables of texts and of pictures."""

import numpy as np
import pytest
from PIL import Image

from tests.common.earlier import hashed_earlier
from twinscale.common.data import open_dataset
from twinscale.common.data.shapes import data_shape
from twinscale.common.data.sources import images
from twinscale.common.errors import BadInput
from twinscale.common.recipe.schema import Recipe


def picture(number, size=(6, 5)):
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, size, np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Three classes of 20 gray pictures each."""
    for number in range(60):
        path = tmp_path / "pics" / ("zebra", "ant", "b e\u00e9")[number % 3] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    return tmp_path / "pics"


def refused(recipe, *parts):
    with pytest.raises(BadInput) as caught:
        open_dataset(recipe)
    line = str(caught.value)
    assert "\n" not in line and all(part in line for part in parts), line


# ---- folder:DIR


def test_a_class_a_folder(recipe, folder):
    asked = recipe(f"folder:{folder}", family="mlp", held_out=0.2)
    (folder / ".git").mkdir()
    (folder / "README.md").touch()
    (folder / "ant" / "Thumbs.db").touch()
    dataset = open_dataset(asked)
    assert dataset.manifest["labels"] == ["ant", "b e\u00e9", "zebra"] and dataset.classes == 3
    assert data_shape(asked) == (3, (6, 5, 1)) == (dataset.classes, dataset.example_shape)
    pixels, labels, *_ = images(asked.data)
    for image, label, number in zip(pixels, labels, [1, 2, 0, 4, 5, 3], strict=False):
        assert np.array_equal(image[..., 0], np.asarray(picture(number))) and label == (2, 0, 1)[number % 3]
    assert set(images(asked.data.model_copy(update={"max_documents": 3}))[1]) == {0, 1, 2}


def test_a_changed_picture_and_a_moved_one_are_read_again(recipe, folder):
    asked = recipe(f"folder:{folder}", family="mlp", held_out=0.2)
    hashes = {open_dataset(asked).manifest["sha256"]}
    (folder / "ant" / "01.png").rename(folder / "zebra" / "01.png")
    hashes.add(open_dataset(asked).manifest["sha256"])
    picture(77).save(folder / "ant" / "04.png")
    hashes.add(open_dataset(asked).manifest["sha256"])
    assert len(hashes) == 3


def test_gray_among_colours_has_three_channels(recipe, folder):
    Image.merge("RGB", [picture(1), picture(2), picture(3)]).save(folder / "ant" / "01.png")
    dataset = open_dataset(recipe(f"folder:{folder}", family="mlp", held_out=0.2))
    assert dataset.example_shape == (6, 5, 3)
    gray = dataset.train.take(np.arange(len(dataset.train)))["inputs"]
    assert ((gray == gray[..., :1]).all(axis=(1, 2, 3))).sum() >= len(gray) - 1


@pytest.mark.parametrize(("change", "parts"), [
    (lambda f: picture(1, (7, 5)).save(f / "b e\u00e9" / "02.png"), ["b e\u00e9/02.png: is 7 x 5 pixels", "one size"]),
    (lambda f: (f / "ant" / "04.png").write_bytes(b"torn"), ["ant/04.png: no image can be read"]),
    (lambda f: (f / "ant" / "x.gif").touch(), ["ant/x.gif is no .png"]),
    (lambda f: (f / "empty").mkdir(), ["folder", "empty is empty"]),
    (lambda f: picture(1).save(f / "loose.png"), ["loose.png lies in no class's folder"]),
    (lambda f: (f / "ant" / "gone.png").symlink_to("nowhere"), ["ant/gone.png cannot be read"]),
    (lambda f: f.rename(f.with_name("cats")) and f.mkdir() or f.with_name("cats").rename(f / "pets"),
     ["is a folder in a class's folder", '/pets"']),
    (lambda f: f.rename(f.with_name("elsewhere")), ["there is no folder"])])
def test_what_is_wrong_with_a_folder_is_one_line(recipe, folder, change, parts):
    change(folder)
    refused(recipe(f"folder:{folder}", family="mlp"), *parts)


def test_parts_of_a_data_set_are_those_of_the_folders(recipe, folder, tmp_path):
    def placed(part, label, numbers):
        path = tmp_path / "set" / part / label
        path.mkdir(parents=True)
        for number in numbers:
            picture(number).save(path / f"{number}.png")

    for part, first, count in (("train", 0, 6), ("val", 20, 3), ("test", 30, 2)):
        for at, label in enumerate(("ant", "bee")):
            placed(part, label, range(first + at * count, first + (at + 1) * count))
    dataset = open_dataset(recipe(f"folder:{tmp_path}/set", family="mlp", batch=2))
    assert (len(dataset.train), len(dataset.held_out)) == (12, 6)
    held_out = dataset.held_out.take(np.arange(6))
    assert [np.asarray(picture(n)).tolist() for n in (20, 23)] == [
        np.round(x[..., 0] * 255).astype(int).tolist() for x in held_out["inputs"][:2]]
    few = open_dataset(recipe(f"folder:{tmp_path}/set", family="mlp", batch=2, max_documents=4))
    assert (len(few.train), len(few.held_out)) == (4, 4)
    placed("val", "cow", [50])
    refused(recipe(f"folder:{tmp_path}/set", family="mlp", batch=2), "val/cow/50.png", "class cow", "nothing to train")
    (tmp_path / "set" / "dev").mkdir()
    refused(recipe(f"folder:{tmp_path}/set", family="mlp", batch=2), 'dev and val are both the part "held_out"')


def test_a_class_may_be_called_train(recipe, folder):
    (folder / "ant").rename(folder / "train")
    assert open_dataset(recipe(f"folder:{folder}", family="mlp", held_out=0.2)).manifest["labels"][1] == "train"
    for name in ("zebra", "b e\u00e9"):
        (folder / name).rename(folder / {"zebra": "val"}.get(name, "test"))
    assert open_dataset(recipe(f"folder:{folder}", family="mlp", held_out=0.2)).manifest["labels"] == [
        "test", "train", "val"]


def test_pictures_of_any_size_are_brought_to_one(recipe, folder):
    picture(1, (9, 30)).save(folder / "ant" / "01.png")
    refused(recipe(f"folder:{folder}", family="mlp"), "is 6 x 5 pixels", "01.png is 9 x 30", "or set data.size")
    found = {size: open_dataset(recipe(f"folder:{folder}", family="mlp", held_out=0.2, size=size)) for size in (4, 6)}
    assert [found[size].example_shape for size in (4, 6)] == [(4, 4, 1), (6, 6, 1)]
    assert found[4].manifest["sha256"] != found[6].manifest["sha256"]


def test_one_class_is_none(recipe, tmp_path):
    (tmp_path / "pics" / "only").mkdir(parents=True)
    picture(1).save(tmp_path / "pics" / "only" / "a.png")
    refused(recipe(f"folder:{tmp_path}/pics", family="mlp"), "has 1 classes in 1 pictures")


# ---- in a recipe


def test_a_folder_holds_images_whatever_the_model():
    with pytest.raises(ValueError, match='data.source="folder:pics" holds images, which model.family="decoder"'):
        Recipe.model_validate({"name": "a", "model": {"family": "decoder"}, "data": {"source": "folder:pics"}})
    for family in ("decoder", "mlp"):
        Recipe.model_validate({"name": "a", "model": {"family": family}, "data": {"source": "csv:a.csv"}})


def test_recipes_from_before_there_was_a_label_keep_their_hash(recipe):
    asked = recipe("digits")
    assert asked.hash == hashed_earlier(asked)
    other = recipe("digits", label="kind")
    assert other.hash != asked.hash and other.meaning != asked.meaning
