"""Models of a Hugging Face hub, written hub:ORG/NAME or hub:ORG/NAME@REVISION.

The library huggingface_hub fetches them, into its own cache and by its own settings (HF_HOME, HF_ENDPOINT, HF_TOKEN,
HF_HUB_OFFLINE). From then on a name has the commit that was found, hub:ORG/NAME@COMMIT: it means the same content for
ever, and reading it back needs no network. Of files only tensors, JSON and vocabularies are fetched, and no pickle,
which would run code when it is read.
"""

import os
import re
import shutil
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from twinscale.common.errors import BadInput, MissingEnvironment, first_line, need, no_writing
from twinscale.common.files.access import exists, shown
from twinscale.common.files.output import Kind, clear

START = "hub:"
WORD = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}"
NAME = re.compile(rf"(?P<id>({WORD}/)?{WORD})(@(?P<revision>[A-Za-z0-9_][A-Za-z0-9_./-]{{0,199}}))?")
COMMIT = re.compile(r"[0-9a-f]{40}")
VOCABULARY = ("tokenizer.json", "vocab.txt")  # any of which is a tokenizer here
TENSORS = ("model.safetensors", "model.safetensors.index.json")
PATTERNS: dict[str, tuple[str, ...]] = {  # what is fetched for a key of the recipe; a model's hold its tokenizer's
    "data.tokenizer": (*VOCABULARY, "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")}
PATTERNS["model.weights"] = ("config.json", "preprocessor_config.json", *TENSORS, "model-*-of-*.safetensors",
                             *PATTERNS["data.tokenizer"])
WANTED = {"data.tokenizer": (VOCABULARY,), "model.weights": (("config.json",), TENSORS)}  # one of each
COPIED = Kind(".hub", "config.json", {re.escape(name).replace(r"\*", ".*"): None for name in PATTERNS["model.weights"]})


class Named(NamedTuple):
    """What such a name says."""

    id: str
    revision: str  # a commit, a branch or a tag; "" is the newest


def is_hub(name: object) -> bool:
    """Whether a name is one of a hub."""
    return isinstance(name, str) and name.startswith(START)


def parted(name: str, key: str) -> Named:
    """What a name says. Raises BadInput, with the recipe's `key`, where it is of another form."""
    found = NAME.fullmatch(name.removeprefix(START))
    if found is None or ".." in name or "--" in name.partition("@")[0]:
        raise BadInput(f"{key}={shown(name, 200)}: a name on a hub is written hub:ORG/NAME or hub:ORG/NAME@REVISION")
    return Named(found["id"], found["revision"] or "")


def is_fetched(name: str, key: str) -> bool:
    """Whether a name says its commit, as `fetched` makes it; where it does not, it may mean anything tomorrow."""
    return COMMIT.fullmatch(parted(name, key).revision) is not None


def check_fetched(name: str, key: str) -> str:
    """The name. Raises BadInput where it says no commit: what a file of others names is not fetched by itself."""
    if is_hub(name) and not is_fetched(name, key):
        raise BadInput(f"{key}={shown(name, 200)}: is fetched for a recipe that you name yourself; here say the "
                       "commit, hub:ORG/NAME@COMMIT")
    return name


def folder_of(name: str) -> Path:
    """Where the cache has, or would have, the files of a name with a commit; somewhere that is not there where the
    library is not installed."""
    of = parted(name, "a name on a hub")
    try:
        from huggingface_hub import constants
    except ImportError:
        return Path(name)
    return Path(constants.HF_HUB_CACHE) / f"models--{of.id.replace('/', '--')}" / "snapshots" / of.revision


def fetched(name: str, key: str) -> str:
    """The name with its commit, hub:ORG/NAME@COMMIT, of whose files the cache has by now what `key`, "model.weights" or
    "data.tokenizer", reads.

    Raises BadInput where there is no such model, or it has not what is wanted; MissingEnvironment where the library,
    the network or a permission is missing.
    """
    of, start = parted(name, key), f"{key}={shown(name, 200)}"
    if COMMIT.fullmatch(of.revision) and is_whole(folder_of(name), key) and not exists(folder_of(name) / TENSORS[1]):
        return name  # of a model in several files, the library knows which they are
    need("huggingface_hub", why=f"{start} is fetched with it")
    folder = Path(_downloaded(of, PATTERNS[key], start))
    made = f"{START}{of.id}@{folder.name}"
    if not is_whole(folder, key):
        lacks = " or ".join(next(one for one in WANTED[key] if not any(exists(folder / file) for file in one)))
        raise BadInput(f"{start}: has no {lacks} at commit {folder.name[:12]}" + (
            ": pickles, which run code when they are read, are not taken: name a revision with safetensors"
            if lacks.startswith("model") else ": name another model, or give files of your own"))
    return made


def is_whole(folder: Path, key: str) -> bool:
    """Whether a folder has one of each kind of file that `key` reads."""
    return all(any(exists(folder / file) for file in one) for one in WANTED[key])


def tokenizer_in(name: str) -> Path:
    """The file of a fetched name that is a tokenizer, fetched again where the cache has lost it."""
    folder = folder_of(fetched(name, "data.tokenizer"))
    return next(folder / file for file in VOCABULARY if exists(folder / file))


def copied(name: str, out: Path) -> str:
    """Copies the files of a model into a directory, which `--from` takes on any machine; returns the name with its
    commit. Raises as `fetched` and `clear` do."""
    made = fetched(name, "model.weights")
    clear(out, COPIED, {"verb": "convert", "name": made}, True, "--to")
    files = [file for file in sorted(folder_of(made).iterdir())
             if any(fnmatch(file.name, pattern) for pattern in PATTERNS["model.weights"])]
    for file in sorted(files, key=lambda file: file.name == COPIED.finished):
        shutil.copyfile(file, out / file.name)
    return made


def _downloaded(of: Named, patterns: Sequence[str], start: str) -> str:
    """The folder in the library's cache; what it raises, in one line."""
    from huggingface_hub import errors, snapshot_download

    again = "look at its page, and write hub:ORG/NAME@REVISION"
    try:
        return snapshot_download(of.id, revision=of.revision or None, allow_patterns=list(patterns),
                                 ignore_patterns=["*/*"], endpoint=os.environ.get("HF_ENDPOINT") or None)
    except errors.GatedRepoError:  # before those without a door, whose kind it is
        raise MissingEnvironment(f"{start}: its owners let in only whom they know: ask for access on its page, and set "
                                 "HF_TOKEN to a token of yours") from None
    except errors.RevisionNotFoundError:
        raise BadInput(f"{start}: there is no revision {of.revision or 'main'} of it: {again}") from None
    except errors.RepositoryNotFoundError:
        raise BadInput(f"{start}: there is no such model, or it is private: {again}, or set HF_TOKEN to a token of "
                       "yours") from None
    except errors.HFValidationError as error:
        raise BadInput(f"{start}: {shown(first_line(error, 200))}: {again}") from None
    except Exception as error:  # of the network: the library's and its client's
        if no_writing(error):
            raise
        raise MissingEnvironment(f"{start}: {_unreached(error)}") from None


def _unreached(error):
    """Why nothing was fetched, and what helps."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return ("HF_HUB_OFFLINE is set, and the cache has not all of it: fetch it once without, or name what the cache "
                "has")
    cause = error.__cause__ or error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    said = f"status {status}" if status else f"{type(cause).__name__}: {shown(first_line(cause, 120))}"
    return (f"the hub cannot be reached ({said}): look after the network, or give a directory with model.safetensors "
            "and config.json")
