"""What a run keeps of its data, so that it goes on and ships with the data and the tokenizer that it began with.

    data/tokenizer.json    of any tokenizer but that of bytes, in the format of the library `tokenizers`
    data/files.txt         a line "DIGEST NAME" for each file of a source of text

The manifest of the data stands beside them, in the `run.json` of a run or the `index.json` of a state.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twinscale.common.data.dataset import Dataset, open_dataset
from twinscale.common.data.standard import as_told
from twinscale.common.errors import BadInput, one_of
from twinscale.common.files.access import place, read_bytes, shown, write_bytes
from twinscale.common.files.run_files import SOURCES as FILES
from twinscale.common.files.run_files import TOKENIZER
from twinscale.common.recipe.schema import Recipe

NAMED = 3  # files that a message names
HAVE_FILES = {None: False, "bytes": False, "bpe": True, "pieces": True}  # by the kind of a manifest's tokenizer


@dataclass(frozen=True)
class Kept:
    """What the directory `path` keeps: the data's manifest, the content of its tokenizer's file, None where the
    tokenizer has no file, and {file's name: digest} of its source, empty where that is none of files."""

    path: Path
    manifest: dict[str, Any]
    tokenizer: bytes | None
    files: dict[str, str]


def kept_in(path: str | Path, manifest: dict[str, Any] | None) -> Kept | None:
    """The Kept of a run's or a state's directory with this manifest, None where it has none yet; raises BadInput where
    the tokenizer there is not the manifest's."""
    if not manifest:
        return None
    path, known, content = place(path), manifest.get("tokenizer", {}), None
    if one_of(HAVE_FILES, known.get("kind"), f"{shown(path)}: tokenizer"):
        content = read_bytes(path / TOKENIZER)
        if hashlib.sha256(content).hexdigest() != known["sha256"]:
            raise BadInput(f"{shown(path / TOKENIZER)}: not the tokenizer that was trained with; restore the file")
    return Kept(path, manifest, content, files_of(path / FILES))


def keep(path: Path, dataset: Dataset) -> None:
    """Writes what a directory is to keep of a Dataset, but for its manifest."""
    for name, file in ((TOKENIZER, dataset.tokenizer), (FILES, dataset.files)):
        if file is not None:
            write_bytes(path / name, file.read_bytes())


def keep_kept(path: Path, kept: Kept) -> None:
    """Writes what another directory keeps."""
    for name in (TOKENIZER, FILES):
        if (kept.path / name).exists():
            write_bytes(path / name, read_bytes(kept.path / name))


def open_kept(recipe: Recipe, kept: Kept | None, accept: bool = False) -> Dataset:
    """The Dataset of a recipe with the tokenizer that a run has kept.

    Args:
      recipe: of the run.
      kept: its Kept, or None for data that is opened for the first time.
      accept: take data that is no longer what it was.
    Raises BadInput where it is no longer what it was, with what has changed.
    """
    dataset = open_dataset(recipe, kept.tokenizer if kept else None)
    difference = changed(kept, dataset) if kept else None
    if kept and difference and not accept:
        raise BadInput(f"{shown(kept.path)}: its data is no longer what it began with: {difference}; restore the data, "
                       "or pass --accept-data to go on with what is there now")
    if kept and kept.manifest.get("labels") != dataset.manifest.get("labels"):
        raise BadInput(f"{shown(kept.path)}: its classes have other names now: {labels(kept.manifest)} there, "
                       f"{labels(dataset.manifest)} here; restore the data")
    return kept_standard(dataset, kept)


def kept_standard(dataset: Dataset, kept: Kept | None) -> Dataset:
    """The Dataset, whose images are standardised by what a run has kept: `--accept-data` may have others by now."""
    said = kept.manifest.get("standardise") if kept else None
    if not (kept and dataset.standard and said):
        return dataset
    if len(said["mean"]) != dataset.example_shape[-1]:
        raise BadInput(f"{shown(kept.path)}: its images had {len(said['mean'])} channels, and those of now have "
                       f"{dataset.example_shape[-1]}; restore the data")
    return replace(dataset, standard=as_told(said), manifest=dataset.manifest | {"standardise": said})


def check_same(kept: Kept, dataset: Dataset, accept: bool = False) -> None:
    """Raises BadInput unless an open Dataset is what was kept, and made by the tokenizer that was; with `accept` its
    documents may be others, but neither its tokenizer nor the names of its classes."""
    difference = None if accept else changed(kept, dataset)
    tokenizers = [manifest.get("tokenizer", {}).get("sha256") for manifest in (kept.manifest, dataset.manifest)]
    if not difference and tokenizers[0] != tokenizers[1]:
        difference = ("of the documents that are there now another tokenizer is made, which no option accepts" if accept
                      else "of the same documents this version of the library `tokenizers` makes another tokenizer")
    if accept and not difference and kept.manifest.get("labels") != dataset.manifest.get("labels"):
        difference = f"its classes have other names: {labels(kept.manifest)} there, {labels(dataset.manifest)} here"
    if difference:
        raise BadInput(f"{shown(kept.path)}: the data is not what it was trained on: {difference}; restore it, or "
                       + ("" if accept else "pass --accept-data, or ") + "train on what is there now")


def changed(kept: Kept, dataset: Dataset) -> str | None:
    """What differs between data as it was and as it is, in words; None where nothing does."""
    then, now = kept.manifest, dataset.manifest
    if then.get("sha256") == now["sha256"]:
        return None
    old, new = kept.files, files_of(dataset.files)
    differing = [name for name in sorted(old | new) if old.get(name) != new.get(name)]
    if not old or not differing:
        before = str(then.get("sha256"))[:12]
        return (f'data.source="{shown(now["source"])}" has another content (sha256 {before}... then, '
                f'{now["sha256"][:12]}... now)')
    words = [f"{shown(name)} ({'new' if name not in old else 'gone' if name not in new else 'changed'})"
             for name in differing[:NAMED]]
    more = len(differing) - len(words)
    return (f"{len(differing)} of {len(old | new)} files differ: {', '.join(words)}"
            + (f" and {more} more" if more else ""))


def files_of(path: Path | None) -> dict[str, str]:
    """{name: digest} of a files.txt, empty where there is none."""
    if path is None or not path.exists():
        return {}
    text = read_bytes(path).decode(errors="surrogateescape")  # of names that are not UTF-8
    return {name: digest for digest, _, name in (line.partition(" ") for line in text.splitlines())}


def labels(manifest: Mapping[str, Any]) -> str:
    """The names of a manifest's classes for a line of an error: escaped, and 80 characters of them at most."""
    return shown(manifest.get("labels"), 80)
