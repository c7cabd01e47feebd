"""`tfds:NAME`: a TensorFlow Dataset prepared in array_record, read record by record without TensorFlow.

Records are read one by one because a batched read casts scalars to float64 and strips trailing NULs from bytes.
"""

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from twinscale.common.data.cache import stamp
from twinscale.common.data.pixels import brought_to
from twinscale.common.errors import BadInput
from twinscale.common.files.access import at_home, checked, read_json, shown
from twinscale.common.sources import Data, Source

NAME = re.compile(r"(?P<name>[A-Za-z]\w*)(/(?P<config>\w[\w.+-]*))?(:(?P<version>\d+\.\d+\.\d+))?", re.ASCII)
VERSION = re.compile(r"\d{1,9}\.\d{1,9}\.\d{1,9}", re.ASCII)
PREPARE = "import tensorflow_datasets as tfds; tfds.builder('{}', file_format='array_record').download_and_prepare()"


def data_dir() -> Path:
    """Where TFDS keeps its datasets: the variable TFDS_DATA_DIR, or ~/tensorflow_datasets. Raises MissingEnvironment
    where nobody has a home."""
    return at_home(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets", "TFDS_DATA_DIR")


def prepare(name: str) -> str:
    """The command that prepares a dataset of TFDS; `tfds build` needs apache_beam and importlib_resources."""
    return f'python -c "{PREPARE.format(name)}"'


def folder_of(name: str) -> Path:
    """The folder of a dataset `NAME`, `NAME/CONFIG` or `NAME/CONFIG:1.2.3`, of its newest version where none is given.
    BadInput where the name is another, such as one of a namespace, or it is not there."""
    said = NAME.fullmatch(name)
    if not said:
        raise BadInput(f'data.source="tfds:{name}": a dataset is named NAME, NAME/CONFIG or NAME/CONFIG:1.2.3, and is '
                       "prepared in TFDS_DATA_DIR; no namespaces, for nothing is downloaded")
    root, version = data_dir() / said["name"], said["version"]
    if said["config"]:
        root /= said["config"]
    found = versions(root)
    configs = [] if found else [path for path in folders(root) if versions(path)]
    if len(configs) > 1 and not said["config"]:
        raise BadInput(f'data.source="tfds:{name}" has several configurations: take one of '
                       + ", ".join(f'"tfds:{said["name"]}/{path.name}"' for path in configs[:8]))
    if len(configs) == 1:
        found = versions(configs[0])
    folder = found.get(version) if version else next(iter(found.values()), None)
    if folder is None:
        have = [path.name for path in folders(data_dir()) if path.name != "downloads"]
        guess = difflib.get_close_matches(name, have, n=1)
        raise BadInput(f'data.source="tfds:{name}" is not prepared in array_record in TFDS_DATA_DIR={data_dir()}: '
                       + (f'did you mean "tfds:{guess[0]}"?' if guess and guess[0] != name else
                          f"it has {', '.join(found)}" if found else f"run {prepare(said['name'])}"))
    return folder


def folders(root: Path) -> list[Path]:
    """The folders in `root`, sorted, but for hidden ones; none where there is no `root`."""
    return sorted(path for path in root.glob("[!.]*") if path.is_dir())


def versions(root: Path) -> dict[str, Path]:
    """{version: folder}, the newest first, of what is prepared in `root`."""
    found = {path.name: path for path in folders(root)
             if VERSION.fullmatch(path.name) and (path / "dataset_info.json").is_file()}
    return dict(sorted(found.items(), key=lambda item: [int(part) for part in item[0].split(".")], reverse=True))


def files(name: str) -> list[Path]:
    """The sorted files of a dataset."""
    return sorted(path for path in folder_of(name).rglob("*") if path.is_file())


def check_folder(name: str, folder: Path) -> None:
    """Raises BadInput where what describes a dataset would have TFDS import what is not its own, or read elsewhere."""
    import tensorflow_datasets as tfds

    own = {f"{kind.__module__}.{kind.__qualname__}" for kind in vars(tfds.features).values() if isinstance(kind, type)}
    start = f'data.source="tfds:{name}"'
    for file in (folder / "dataset_info.json", folder / "features.json"):
        for key, value in pairs(read_json(file, dict[str, Any], "prepare the dataset again")):
            if key in ("pythonClassName", "python_class_name") or (key == "type" and "." in value):
                if value not in own:
                    raise BadInput(f"{start}: {shown(file)}: names the feature {shown(value)}: only those of "
                                   "tensorflow_datasets are read, for nothing else is imported")
            elif key in ("name", "filepathTemplate", "filepath_template") and "/" in value:
                raise BadInput(f"{start}: {shown(file)}: {key} {shown(value)} leads to another folder")


def pairs(value: Mapping[str, Any] | Iterable[Any]) -> Iterator[tuple[str, str]]:
    """(key, text) of all texts in nested JSON, and in JSON that is such a text under the key "json"."""
    for key, item in value.items() if isinstance(value, dict) else (("", item) for item in value):
        if isinstance(item, str):
            yield key, item
            if key == "json":
                yield from pairs([checked("json", item.encode(), Any)])
        elif isinstance(item, dict | list):
            yield from pairs(item)


def open_source(name: str) -> Any:
    """The random-access data source of `name`: its train split, or all of it. BadInput where it is not prepared, or not
    in array_record with TFDS' own features alone. No code is looked up by its name, and nothing asked of a network."""
    folder = folder_of(name)
    check_folder(name, folder)
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
        split = "train" if "train" in builder.info.splits else "all"
        return builder.as_data_source(split=split)
    except Exception as error:  # TFDS raises a dozen kinds, with pages of text
        raise BadInput(f'data.source="tfds:{name}" is not prepared in array_record in {shown(folder)} '
                       f"({shown(brief(error))}): run {prepare(name)}") from None


def brief(error: Exception) -> str:
    """The first line of an error's text."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def records(name: str, source: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Iterator of (number, record), BadInput where one cannot be decoded."""
    for number in range(len(source)):
        try:
            yield number, source[number]
        except Exception as error:  # whatever the format or the image decoder raises
            raise BadInput(f'data.source="tfds:{name}": record {number} cannot be read ({brief(error)}): '
                           "prepare the dataset again") from None


def kind_of(feature: Any) -> str:
    """The feature's class, by name: "Text", "Image", "ClassLabel", ..."""
    return type(feature).__name__


def documents(name: str, field: str) -> Iterator[tuple[str, str]]:
    """Iterator of (record's number, text) of the Text feature `field`; BadInput where it is none or no UTF-8."""
    source = open_source(name)
    kinds = source.dataset_info.features
    if field not in kinds or kind_of(kinds[field]) != "Text":
        raise BadInput(f'data.source="tfds:{name}" has no text under data.field="{field}" '
                       f"(it has {sorted(kinds)}): set data.field")
    for number, record in records(name, source):
        try:
            yield str(number), record[field].decode()
        except UnicodeDecodeError as error:
            raise BadInput(f'data.source="tfds:{name}": byte {error.start} of record {number} is not valid UTF-8: '
                           "repair the dataset") from None


def images(data: Data, name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """(uint8 NxHxWxC, labels N, classes) of the first Image feature and the ClassLabel, or the feature "label"; images
    are brought to `data.size` where that is set."""
    source = open_source(name)
    kinds = source.dataset_info.features
    by_kind = {kind_of(kinds[key]): key for key in reversed(list(kinds))}
    image, label = by_kind.get("Image"), by_kind.get("ClassLabel") or ("label" if "label" in kinds else None)
    if not image or not label:
        raise BadInput(f'data.source="tfds:{name}" has no image with a label (it has {sorted(kinds)}): '
                       'take a dataset with an Image and a ClassLabel, or model.family="decoder" for text')
    shape = (data.size, data.size, kinds[image].shape[-1]) if data.size else kinds[image].shape
    if None in shape or kinds[image].np_dtype != np.uint8:
        raise BadInput(f'data.source="tfds:{name}" has images of shape {kinds[image].shape} and type '
                       f"{np.dtype(kinds[image].np_dtype)}: prepare it as uint8 with one fixed shape, or set "
                       "data.size")
    pixels, labels = np.empty((len(source), *shape), np.uint8), []
    for number, record in records(name, source):
        pixels[number] = brought_to(record[image], data.size) if data.size else record[image]
        labels.append(record[label])
    return pixels, np.array(labels), getattr(kinds[label], "num_classes", None) or int(max(labels)) + 1


TFDS = Source("either", lambda data, name: stamp(files(name)), lambda data, name: documents(name, data.field),
              images=images, more=lambda data, name: (data.size,) if data.size else ())
