"""The recipes that come with Twinscale, and the samples of data that some of them read."""

import re
from pathlib import Path

from twinscale.common.errors import BadInput, did_you_mean
from twinscale.common.files.access import exists, read_bytes, read_toml, shown, write_bytes
from twinscale.common.recipe import file

SAMPLE = re.compile(r"[a-z]+:(recipes/data/[^/]+)")  # a source that is a folder of ours


def listed() -> dict[str, str]:
    """{name: what it is, by the first words of its comment} of every recipe that comes along, sorted."""
    return {path.stem: words_of(path) for path in sorted(file.RECIPES.glob("*.toml"))}


def words_of(path: Path) -> str:
    """The first sentence of the comment that a recipe begins with, behind its commands."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = [line[1:].strip() for line in lines[:next((i for i, x in enumerate(lines) if not x.startswith("#")), 0)]]
    text = " ".join(line for line in comment if line and not line.startswith(("twinscale ", "make ")))
    return re.split(r"(?<=[.]) (?=[A-Z])", text)[0].rstrip(".:")


def copied(name: str, to: Path) -> list[Path]:
    """The files that a recipe is made of, copied to where they are named from a directory `to`: recipes/NAME.toml,
    those that it extends, and the sample that its data.source names.

    Raises BadInput where no such recipe comes along, or a file is there that says something else.
    """
    root, known = file.RECIPES.parent, listed()
    if name not in known:
        raise BadInput(f'recipe copy: "{shown(name)}" does not come with Twinscale'
                       + (did_you_mean(name, known) or f": take one of {', '.join(known)}"))
    wanted = parts_of(file.RECIPES / f"{name}.toml")
    targets = {to / source.relative_to(root): read_bytes(source) for source in wanted}
    for path, content in targets.items():
        if exists(path) and read_bytes(path) != content:
            raise BadInput(f"{shown(path)}: is there and says something else; move it, or choose another directory")
    for path, content in targets.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    return [*targets]


def parts_of(path: Path) -> list[Path]:
    """A recipe's file, those that it extends, and the files of its sample."""
    values = read_toml(path, dict)
    found = [path]
    parents = values.get("extends", [])
    for parent in [parents] if isinstance(parents, str) else parents:
        found += parts_of(path.parent / parent)
    sample = SAMPLE.match(str(values.get("data", {}).get("source", "")))
    if sample:
        found += sorted(one for one in (file.RECIPES.parent / sample[1]).rglob("*") if one.is_file())
    return found
