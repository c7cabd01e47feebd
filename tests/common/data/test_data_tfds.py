import json
import subprocess
import sys

import numpy as np
import pytest

from common.data import open_dataset, sources
from common.errors import BadInput
from common.recipe import Data

BUILD = '''
import sys
import numpy as np
import tensorflow_datasets as tfds

class Small(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(self.FEATURES))

    def _split_generators(self, _):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        return ((i, self.example(i)) for i in range(40))

class TinyText(Small):
    FEATURES = {"text": tfds.features.Text(), "body": tfds.features.Text(), "number": np.int64}
    def example(self, i):
        return {"text": f"record {i} caf\\u00e9 " * 4 + "\\0\\0", "body": b"\\xff" if i == 7 else "fine", "number": i}

class TinyImages(Small):
    FEATURES = {"image": tfds.features.Image(shape=(6, 5, 1)), "label": tfds.features.ClassLabel(num_classes=4)}
    def example(self, i):
        return {"image": np.full((6, 5, 1), i, np.uint8), "label": i % 4}

class NoLabels(TinyImages):
    def example(self, i):
        return super().example(i) | {"label": -1}

class FloatLabels(TinyImages):
    FEATURES = {"image": tfds.features.Image(shape=(6, 5, 1)), "label": np.float32}

class AnyShape(TinyImages):
    FEATURES = {"image": tfds.features.Image(shape=(None, None, 1)), "label": tfds.features.ClassLabel(num_classes=4)}

for builder in (TinyText, TinyImages, NoLabels, FloatLabels, AnyShape):
    builder(data_dir=sys.argv[1], file_format="array_record").download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False))
'''


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Datasets built without a network, in another process because building imports TensorFlow."""
    pytest.importorskip("array_record")
    pytest.importorskip("tensorflow_datasets")
    folder = tmp_path_factory.mktemp("tfds")
    (folder / "build.py").write_text(BUILD)
    (folder / "data").mkdir()
    subprocess.run([sys.executable, "build.py", "data"], cwd=folder, check=True, capture_output=True)
    return folder / "data"


@pytest.fixture(autouse=True)
def environment(data_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))


def test_text_keeps_its_last_nuls(recipe):
    texts = {text for _, text in sources.documents(Data(source="tfds:tiny_text"))}
    assert texts == {f"record {i} café " * 4 + "\0\0" for i in range(40)}
    dataset = open_dataset(recipe("tfds:tiny_text", sequence=16, held_out=0.3))
    assert (dataset.kind, dataset.classes) == ("text", 257)


def test_images_and_labels_are_cast(recipe):
    dataset = open_dataset(recipe("tfds:tiny_images", family="convnet", held_out=0.3))
    assert (dataset.kind, dataset.classes, dataset.example_shape) == ("images", 4, (6, 5, 1))
    batch = dataset.train.take(np.arange(len(dataset.train)))
    assert batch["labels"].dtype == np.int32
    assert np.array_equal(np.round(batch["inputs"][:, 0, 0, 0] * 255) % 4, batch["labels"])


def test_reading_imports_no_tensorflow(data_dir, tmp_path):
    program = ("import sys, json; from common.data import open_dataset; from common.recipe import Recipe\n"
               "for source, family in (('tfds:tiny_text', 'decoder'), ('tfds:tiny_images', 'mlp')):\n"
               "    open_dataset(Recipe.model_validate({'name': 'a', 'model': {'family': family}, 'data':"
               " {'source': source, 'sequence': 16, 'held_out': 0.3}}))\n"
               "print(json.dumps([name for name in ('tensorflow', 'jax', 'keras') if name in sys.modules]))")
    asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                           env={"TFDS_DATA_DIR": str(data_dir), "TWINSCALE_CACHE": str(tmp_path)})
    assert json.loads(asked.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize(("name", "family", "parts"), [
    ("tiny_txt", "decoder", ['did you mean "tfds:tiny_text"?', "TFDS_DATA_DIR="]),
    ("mnist", "convnet", ["not prepared in array_record", "tfds build mnist --file_format=array_record"]),
    ("tiny_images", "decoder", ['no text under data.field="text"', "['image', 'label']"]),
    ("tiny_text", "convnet", ["no image with a label", 'model.family="decoder"']),
    ("no_labels", "convnet", ["example 0 has the label -1", "0..3"]),
    ("float_labels", "convnet", ["labels of type float", "whole numbers"]),
    ("any_shape", "convnet", ["(None, None, 1)", "fixed shape"])])
def test_bad_datasets_are_refused_in_one_line(recipe, name, family, parts):
    with pytest.raises(BadInput) as caught:
        open_dataset(recipe(f"tfds:{name}", family=family))
    line = str(caught.value)
    assert "\n" not in line and f'data.source="tfds:{name}"' in line
    assert all(part in line for part in parts), line


def test_invalid_utf8_names_the_record(recipe):
    with pytest.raises(BadInput, match=r"byte 0 of record \d+ is not valid UTF-8"):
        open_dataset(recipe("tfds:tiny_text", field="body"))
