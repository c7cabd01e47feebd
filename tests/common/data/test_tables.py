"""Tables of texts and pictures."""

import numpy as np
import pytest
from PIL import Image

from twinscale.common.data import open_dataset
from twinscale.common.data.kept import files_of
from twinscale.common.data.sources import documents, images
from twinscale.common.errors import BadInput
from twinscale.common.recipe.schema import Data


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


@pytest.fixture
def table(tmp_path):
    """table(text or bytes): the source of a csv file."""

    def make(content):
        (tmp_path / "a.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        return f"csv:{tmp_path}/a.csv"

    return make


def refused(recipe, *parts):
    with pytest.raises(BadInput) as caught:
        open_dataset(recipe)
    line = str(caught.value)
    assert "\n" not in line and all(part in line for part in parts), line


def test_a_table_of_texts(recipe, table):
    source = table(b'\xef\xbb\xbfid,text,label\r\n1,"two\nlines, ""quoted""",x\r\n\r\n2,caf\xc3\xa9,y\r\n3,,z\r\n')
    assert list(documents(Data(source=source))) == [("a.csv:2", 'two\nlines, "quoted"'), ("a.csv:5", "caf\u00e9")]
    assert [text for _, text in documents(Data(source=source, field="label"))] == ["x", "y", "z"]
    source = table("text\n" + "".join(f"document {i} of some words\n" for i in range(60)))
    dataset = open_dataset(recipe(source, family="decoder", sequence=16, held_out=0.2))
    assert dataset.kind == "text" and list(files_of(dataset.files)) == ["a.csv"]


def test_a_table_of_pictures(recipe, table, folder):
    rows = [(f"pics/{path.parent.name}/{path.name}", 10 - number % 3) for number, path in
            enumerate(sorted(folder.rglob("*.png")))]
    source = table("path,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    dataset = open_dataset(recipe(source, family="mlp", held_out=0.2))
    assert dataset.manifest["labels"] == ["8", "9", "10"] and dataset.example_shape == (6, 5, 1)
    pixels, labels, *_ = images(Data(source=source))
    with Image.open(folder.parent / rows[7][0]) as image:
        assert np.array_equal(pixels[7][..., 0], np.asarray(image)) and labels[7] == (2, 1, 0)[7 % 3]
    other = table("file,kind\n" + "".join(f"{name},{label}\n" for name, label in rows))
    again = open_dataset(recipe(other, family="mlp", held_out=0.2, field="file", label="kind"))
    assert again.manifest["sha256"] == dataset.manifest["sha256"]


@pytest.mark.parametrize(("content", "family", "parts"), [
    ("words\na\n", "decoder", ['a.csv:1: no column "text" among "words"', "set data.field"]),
    ("text;label\na;b\n", "decoder", ["separate columns by commas"]),
    ("text,text\na,b\n", "decoder", ["is there twice"]), ("text\na\nb,c\n", "decoder", ["a.csv:3: 2 fields"]),
    ('text\n"a\n', "decoder", ["a.csv:2: is no CSV"]), (b"text\n\xff\n", "decoder", ["byte 5 is not valid UTF-8"]),
    ("", "decoder", ['no column "text"']), ("text\n", "decoder", ["holds no text"]),
    ("path,label\nnone.png,a\n", "mlp", ["a.csv:2: ", "none.png cannot be read", "correct the path"]),
    ("path,label\npics/ant/01.png,\n", "mlp", ["a.csv:2: its label is empty"]),
    ("path,label\npics/ant,a\n", "mlp", ["a.csv:2: pics/ant is no picture's file"]),
    ("path,label\npics/ant/01.png,a\na.csv,b\n", "mlp", ["a.csv:3: ", "no image can be read"]),
    ("path\npics/ant/01.png\n", "mlp", ['no column "label" among "path"', "data.label"])])
def test_what_is_wrong_with_a_table_is_one_line(recipe, table, folder, content, family, parts):
    refused(recipe(table(content), family=family), *parts)


def test_a_table_that_is_none(recipe, tmp_path):
    refused(recipe(f"csv:{tmp_path}", family="decoder"), "is a folder: give the path of a file")
    refused(recipe(f"csv:{tmp_path}/no.csv", family="decoder"), "no.csv cannot be read", "give the path")
