"""`tfds:NAME`: a TensorFlow Dataset prepared in array_record, read record by record without TensorFlow.

Records are read one by one because a batched read casts scalars to float64 and strips trailing NULs from bytes.
"""

import difflib
import os
from pathlib import Path

import numpy as np

from common.errors import BadInput


def data_dir():
    """Where TFDS keeps its datasets: the variable TFDS_DATA_DIR, or ~/tensorflow_datasets."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def files(name):
    """The sorted files of every version of dataset `name`; none where it is missing."""
    return sorted(path for path in (data_dir() / name.split(":")[0]).rglob("*") if path.is_file())


def open_source(name):
    """The random-access data source of `name`: its train split, or all of it. BadInput where it is not prepared."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir(), try_gcs=False)
        split = "train" if "train" in builder.info.splits else "all"
        return builder.as_data_source(split=split)
    except Exception as error:  # TFDS raises a dozen kinds, with pages of text
        have = [path.name for path in data_dir().glob("*") if path.is_dir() and path.name != "downloads"]
        guess = difflib.get_close_matches(name, have, n=1)
        raise BadInput(f'data.source="tfds:{name}" is not prepared in array_record in TFDS_DATA_DIR={data_dir()} '
                       f"({brief(error)}): "
                       + (f'did you mean "tfds:{guess[0]}"?' if guess else
                          f"run tfds build {name} --file_format=array_record")) from None


def brief(error):
    """The first line of an error's text."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def records(name, source):
    """Iterator of (number, record), BadInput where one cannot be decoded."""
    for number in range(len(source)):
        try:
            yield number, source[number]
        except Exception as error:  # whatever the format or the image decoder raises
            raise BadInput(f'data.source="tfds:{name}": record {number} cannot be read ({brief(error)}): '
                           "prepare the dataset again") from None


def kind_of(feature):
    """The feature's class, by name: "Text", "Image", "ClassLabel", ..."""
    return type(feature).__name__


def documents(name, field):
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


def images(name):
    """(uint8 NxHxWxC, labels N, classes) of the first Image feature and the ClassLabel, or the feature "label"."""
    source = open_source(name)
    kinds = source.dataset_info.features
    by_kind = {kind_of(kinds[key]): key for key in reversed(list(kinds))}
    image, label = by_kind.get("Image"), by_kind.get("ClassLabel") or ("label" if "label" in kinds else None)
    if not image or not label:
        raise BadInput(f'data.source="tfds:{name}" has no image with a label (it has {sorted(kinds)}): '
                       'take a dataset with an Image and a ClassLabel, or model.family="decoder" for text')
    if None in kinds[image].shape or kinds[image].np_dtype != np.uint8:
        raise BadInput(f'data.source="tfds:{name}" has images of shape {kinds[image].shape} and type '
                       f"{np.dtype(kinds[image].np_dtype)}: prepare it as uint8 with one fixed shape")
    pixels, labels = np.empty((len(source), *kinds[image].shape), np.uint8), []
    for number, record in records(name, source):
        pixels[number] = record[image]
        labels.append(record[label])
    return pixels, np.array(labels), getattr(kinds[label], "num_classes", None) or int(max(labels)) + 1
