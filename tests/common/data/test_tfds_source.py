import json
import os
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from twinscale.common.data import open_dataset, sources, training_batches
from twinscale.common.data.tfds_source import PREPARE, folder_of
from twinscale.common.errors import BadInput
from twinscale.common.recipe.file import RECIPES, load
from twinscale.common.recipe.schema import Data
from twinscale.common.sources import MIXED

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

class CifarLike(TinyImages):
    FEATURES = {"id": tfds.features.Text(), "image": tfds.features.Image(shape=(32, 32, 3)),
                "label": tfds.features.ClassLabel(num_classes=10)}
    def example(self, i):
        return {"id": f"train_{i}", "image": np.full((32, 32, 3), i, np.uint8), "label": i % 10}

class AnyColours(TinyImages):
    FEATURES = {"file_name": tfds.features.Text(), "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(num_classes=1000)}
    def example(self, i):
        return {"file_name": f"{i}.jpeg", "image": np.full((30 + i, 40, 3), 6 * i, np.uint8), "label": 20 * i}

for name in ("tiny_text", "tiny_images", "no_labels", "float_labels", "any_shape", "cifar_like", "any_colours"):
    exec(sys.argv[1].format(name))
'''


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Datasets built by the documented command without a network, in another process as building imports TensorFlow."""
    pytest.importorskip("array_record")
    pytest.importorskip("tensorflow_datasets")
    folder = tmp_path_factory.mktemp("tfds")
    (folder / "build.py").write_text(BUILD)
    (folder / "data").mkdir()
    subprocess.run([sys.executable, "build.py", PREPARE], cwd=folder, check=True, capture_output=True,
                   env=os.environ | {"TFDS_DATA_DIR": str(folder / "data")})
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


def test_pictures_of_any_shape_are_brought_to_one(recipe):
    found = [open_dataset(recipe("tfds:any_shape", family="convnet", held_out=0.3, size=size)) for size in (4, 8)]
    assert [one.example_shape for one in found] == [(4, 4, 1), (8, 8, 1)]
    assert set(found[0].train.take(np.arange(9))["inputs"][:, 0, 0, 0] * 255) <= set(range(40))


def test_recipes_on_tfds_open_on_data_of_their_features(recipe):
    """Of CIFAR-10 and ImageNet, whose pictures the datasets here are like but for their numbers."""
    for name, source in (("cifar10", "tfds:cifar_like"), ("imagenet-resnet50", "tfds:any_colours")):
        asked = load(RECIPES / f"{name}.toml", [f"data.source={source}", "train.global_batch=8", "data.held_out=0.3"])
        dataset = open_dataset(asked)
        assert dataset.example_shape == ((32, 32, 3) if name == "cifar10" else (224, 224, 3))
        _, batch, _ = next(training_batches(dataset, asked, 0, 1))
        assert batch["inputs"].shape == (8, *dataset.example_shape) and batch["inputs"].max() <= 1
        assert (MIXED[0] in batch) == (name != "cifar10")


def test_reading_imports_no_tensorflow(data_dir, tmp_path):
    program = ("import sys, json; from twinscale.common.data import open_dataset\n"
               "from twinscale.common.recipe.schema import Recipe\n"
               "for source, family in (('tfds:tiny_text', 'decoder'), ('tfds:tiny_images', 'mlp')):\n"
               "    open_dataset(Recipe.model_validate({'name': 'a', 'model': {'family': family}, 'data':"
               " {'source': source, 'sequence': 16, 'held_out': 0.3}}))\n"
               "print(json.dumps([name for name in ('tensorflow', 'jax', 'keras') if name in sys.modules]))")
    asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                           env={"TFDS_DATA_DIR": str(data_dir), "TWINSCALE_CACHE": str(tmp_path)})
    assert json.loads(asked.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize(("name", "family", "parts"), [
    ("tiny_txt", "decoder", ['did you mean "tfds:tiny_text"?', "TFDS_DATA_DIR="]),
    ("mnist", "convnet", ["not prepared in array_record", "tfds.builder('mnist', file_format='array_record')"]),
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


# ---- what is there executes nothing and leads nowhere else


@pytest.fixture
def copied(data_dir, tmp_path, monkeypatch):
    """The folder of a copy of tiny_text, in a TFDS_DATA_DIR and beside a module that must not be imported."""
    shutil.copytree(data_dir / "tiny_text", tmp_path / "data" / "tiny_text")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("asked the network"))
    return tmp_path / "data" / "tiny_text" / "1.0.0"


def edited(file, change):
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def planted_json(values):
    values["featuresDict"]["features"]["text"] = {
        "pythonClassName": "tensorflow_datasets.core.features.text_feature.Text",
        "jsonFeature": {"json": json.dumps({"type": "planted.Feature", "content": {}})}}


def text_feature(values):
    return values["featuresDict"]["features"]["text"]


@pytest.mark.parametrize(("file", "change", "said"), [
    ("features.json", lambda v: text_feature(v).update(pythonClassName="planted.Feature"), "the feature planted.Fe"),
    ("features.json", lambda v: v.update(python_class_name="planted.Feature"), "names the feature planted.Feature"),
    ("features.json", lambda v: v.update(type="planted.Feature", content={}), "names the feature planted.Feature"),
    ("features.json", planted_json, "names the feature planted.Feature"),
    ("dataset_info.json", lambda v: v.update(features={"pythonClassName": "planted.Feature"}), "names the feature pla"),
    ("dataset_info.json", lambda v: v["splits"][0].update(filepathTemplate="/etc/{DATASET}"), "to another folder"),
    ("dataset_info.json", lambda v: v.update(name="../../../etc/x"), "leads to another folder"),
    ("dataset_info.json", lambda v: v.update(fileFormat="tfrecord"), "not prepared in array_record"),
    ("features.json", lambda v: v.clear(), "not prepared in array_record")])
def test_a_description_that_leads_out_is_refused(copied, recipe, file, change, said):
    edited(copied / file, change)
    with pytest.raises(BadInput, match=said) as caught:
        open_dataset(recipe("tfds:tiny_text", sequence=16, held_out=0.3))
    assert "\n" not in str(caught.value) and not (copied.parents[2] / "executed").exists()


def test_no_code_is_looked_up_by_a_datasets_name(copied, recipe):
    edited(copied / "dataset_info.json", lambda v: v.update(moduleName="planted"))
    (copied.parent / "tiny_text.py").write_text("import planted")
    assert len(open_dataset(recipe("tfds:tiny_text:1.0.0", sequence=16, held_out=0.3)).train)
    assert not (copied.parents[2] / "executed").exists()


@pytest.mark.parametrize("name", ["huggingface:mnist", "kaggle:x/y", "../tiny_text", "/etc", "tiny_text/..", "a//b"])
def test_namespaces_and_paths_are_no_names(copied, recipe, name):
    with pytest.raises(BadInput, match="is named NAME, NAME/CONFIG"):
        open_dataset(recipe(f"tfds:{name}", family="decoder"))


def test_the_newest_version_and_the_only_configuration_are_taken(copied, recipe):
    for version in ("1.10.0", "1.9.0"):
        shutil.copytree(copied, copied.with_name(version))
    assert folder_of("tiny_text") == copied.with_name("1.10.0") and folder_of("tiny_text:1.0.0") == copied
    shutil.copytree(copied, copied.parents[1] / "more" / "one" / "1.0.0")
    assert folder_of("more") == folder_of("more/one") == copied.parents[1] / "more" / "one" / "1.0.0"
    shutil.copytree(copied, copied.parents[1] / "more" / "two" / "1.0.0")
    with pytest.raises(BadInput, match='several configurations: take one of "tfds:more/one", "tfds:more/two"'):
        folder_of("more")
