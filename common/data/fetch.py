"""Data sets that are fetched, not shipped: what each is, whose, under which licence, and what is made of it.

A set comes out of a Debian package. The SHA-256 of each file that is read is pinned here, so another version of the
package is taken where these files are the same, and refused where they are not.
"""

import csv
import hashlib
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from twinscale.common.data.packages import downloaded, files_of
from twinscale.common.errors import BadInput, one_of
from twinscale.common.files.access import shown, write_bytes, write_json
from twinscale.common.files.output import Kind, begun, check_ours, check_verb, clear, same, tell

MARKER, FETCHED = ".data", "source.json"
KIND = Kind(MARKER, FETCHED, {r"(train|t10k)-(images-idx3|labels-idx1)-ubyte\.gz": None, r"labels\.txt": None,
                              r"(train|valid|test)\.csv": None, r"source\.json": None})
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
# Numbers of lexicographer files, from 0 on: lexnames(5WN) of WordNet 3.0.
NOUNS = ("Tops act animal artifact attribute body cognition communication event feeling food group location motive "
         "object person phenomenon plant possession process quantity relation shape state substance time")
VERBS = ("body change cognition communication competition consumption contact creation emotion motion perception "
         "possession social stative weather")
LEXICAL = ["adj.all", "adj.pert", "adv.all", *(f"noun.{name}" for name in NOUNS.split()),
           *(f"verb.{name}" for name in VERBS.split()), "adj.ppl"]
SHARES = {"test": 0.1, "valid": 0.2}  # of texts, by their hashes: those below the first, and then below the second


@dataclass(frozen=True)
class DataSet:
    """One set. `files`: {path in the package: SHA-256}; `made`: of {path: content} to {name of a file: content}."""

    title: str
    package: str
    version: str  # of the package whose files were pinned; others with the same files are as good
    source: str
    licence: str
    files: Mapping[str, str]
    made: Callable[[Mapping[str, bytes]], dict[str, bytes]]
    scheme: str  # of the source that reads what is made
    recipe: str  # of ours that trains on it; "" where there is none


# ---- what is made of them

def with_names(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Fashion-MNIST's files as they are, and its classes' names, a line each."""
    return {Path(name).name: content for name, content in files.items()} | {
        "labels.txt": "".join(f"{name}\n" for name in CLOTHES).encode()}


def tables_of_glosses(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """train.csv, valid.csv and test.csv of WordNet's data files: text a gloss, label its lexicographer file. Which
    table a gloss is in depends on its text alone, so that one of several synsets is in one of them."""
    tables = {part: io.StringIO(newline="") for part in ("train", "valid", "test")}
    writers = {part: csv.writer(table, lineterminator="\n") for part, table in tables.items()}
    for writer in writers.values():
        writer.writerow(["text", "label"])
    for _, content in sorted(files.items()):
        for line in content.decode().splitlines():
            if not line.startswith("  "):  # the licence does
                head, _, gloss = line.partition(" | ")
                text = definition(gloss)
                writers[part_of(text)].writerow([text, LEXICAL[int(head.split(" ", 2)[1])]])
    return {f"{part}.csv": table.getvalue().encode() for part, table in tables.items()}


def definition(gloss: str) -> str:
    """A gloss without the quoted examples at its end."""
    return re.split(r'\s*[;:]\s*"', gloss)[0].strip().rstrip(";").rstrip()


def part_of(text: str) -> str:
    """"train", "valid" or "test": by a hash of the text."""
    place = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
    return next((part for part, below in SHARES.items() if place < below), "train")


CLOTHES_AT, WORDS_AT = "usr/share/datasets/fashion-mnist", "usr/share/wordnet"
SETS = {
    "fashion-mnist": DataSet(
        "70,000 gray pictures of clothes, 28 x 28, in 10 classes (Xiao, Rasul and Vollgraf 2017)",
        "dataset-fashion-mnist", "0.0~git20200523.55506a9-1", "https://github.com/zalandoresearch/fashion-mnist",
        "MIT (Expat), (c) 2017 Zalando SE", {
            f"{CLOTHES_AT}/train-images-idx3-ubyte.gz":
                "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
            f"{CLOTHES_AT}/train-labels-idx1-ubyte.gz":
                "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
            f"{CLOTHES_AT}/t10k-images-idx3-ubyte.gz":
                "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
            f"{CLOTHES_AT}/t10k-labels-idx1-ubyte.gz":
                "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"},
        with_names, "idx", "fashion-mnist"),
    "wordnet": DataSet(
        "117,659 glosses of WordNet 3.0 with their 45 lexicographer files, such as noun.animal (Fellbaum 1998)",
        "wordnet-base", "1:3.0-37", "https://wordnet.princeton.edu",
        "WordNet 3.0 License, (c) 2006 Princeton University", {
            f"{WORDS_AT}/data.adj": "c89120dfc1f046ddff4a631bf9b7e9fa1a36b5e86565a23bf82dbe14f30b88a7",
            f"{WORDS_AT}/data.adv": "444a63bf3955080ab7524f5079cfc07ff9bc682cb98bdb1db73b0fb9829f1139",
            f"{WORDS_AT}/data.noun": "fea17d2f9656611334eac790e5d69e47645fa180c4aa481fb4cd9b3520754ca2",
            f"{WORDS_AT}/data.verb": "adcf43e35b581e8036d8b5a52d63d9cd3d3b4870b2720d3c03c799df44777bc2"},
        tables_of_glosses, "csv", "")}


# ---- fetching

def fetch(name: str, out: Path, package: str | Path | None = None, overwrite: bool = False) -> bool:
    """Makes a set in a directory, of a package's file or of what apt-get downloads; whether there was anything to do.

    Raises BadInput for a name that nobody has, a directory that holds something else, or a package whose files are not
    those that are pinned: then nothing is written; MissingEnvironment where nothing can be downloaded.
    """
    one = one_of(SETS, name, "NAME")
    identity = {"verb": "data", "set": name, "files": dict(one.files)}
    if (out / FETCHED).is_file() and same(out, KIND, identity) and not overwrite:
        return False
    check = overwrite or begun(out, KIND, identity)
    check_ours(out, KIND, check)  # before a download, and again before anything is removed
    check_verb(out, KIND, "data")
    files = files_of(Path(package), one.files) if package else downloaded(one.package, one.files)
    for path, content in files.items():
        if (have := hashlib.sha256(content).hexdigest()) != one.files[path]:
            raise BadInput(f"{shown(package or one.package)}: {shown(path)} is another file than that of version "
                           f"{one.version}: its SHA-256 begins with {have[:12]}, not {one.files[path][:12]}: take that "
                           "version's package, by --from")
    tell("data", f"{len(files)} files are those that are pinned")
    made = one.made(files)
    clear(out, KIND, identity, check)
    for file, content in made.items():
        write_bytes(out / file, content)
    write_json(out / FETCHED, {
        "schema_version": 1, "set": name, "title": one.title, "package": one.package, "source": one.source,
        "licence": one.licence, "files": dict(one.files),
        "made": {file: hashlib.sha256(content).hexdigest() for file, content in made.items()}})
    return True


def source_of(name: str, out: Path) -> str:
    """The `data.source` that reads a set in a directory."""
    return f"{SETS[name].scheme}:{out}"
