"""Slices of TPUs by name, of the chips of `common/machine/chips.py`, and how neighbours in them are joined.

Names: a chip and a shape, `v5e:4x4`, or a size as Google Cloud writes it, `v5e-16`, which counts chips for v5e and v6e
and TensorCores, two a chip, for v4, v5p and TPU7x (`tpu7x-8`).
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.files.access import shown
from twinscale.common.machine.chips import CHIPS, Chip, of_kind
from twinscale.common.recipe.file import did_you_mean

ALIASES = {alias: chip.name for chip in CHIPS.values() for alias in chip.aliases}
LIBTPU = {chip.name: chip.libtpu for chip in CHIPS.values() if chip.libtpu}  # the first that compiles for a chip
SLICES = 1000  # that one job joins at most here


@dataclass(frozen=True)
class Topology:
    """One or several slices of equal shape."""

    chip: Chip
    shape: tuple
    slices: int = 1

    @property
    def name(self) -> str:
        """As JAX calls it, such as v5e:4x4."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        """Of all slices."""
        return math.prod(self.shape) * self.slices

    @property
    def devices(self) -> int:
        """Of all slices: places of a mesh."""
        return self.chips * self.chip.devices

    @property
    def wraps(self) -> tuple[bool, ...]:
        """Whether each axis of the network closes to a ring."""
        if len(self.shape) == 2:
            return tuple(side == 16 for side in self.shape)
        return (all(side % 4 == 0 for side in self.shape),) * 3

    @property
    def links(self) -> int:
        """Links of one chip that lead to another of its slice, at the best place in it."""
        return sum(0 if side == 1 else 1 if side == 2 and not ring else 2
                   for side, ring in zip(self.shape, self.wraps, strict=True))

    @property
    def options(self) -> dict[str, Any]:
        """What `jax.experimental.topologies.get_topology_desc` takes."""
        solid = (*self.shape, 1)[:3]
        return {"topology_name": self.name, "chips_per_host_bounds": [min(2, side) for side in solid[:2]] + [1],
                "num_slices": self.slices, "wrap": [*self.wraps, False][:3],
                "chip_config_name": "megacore" if self.chip.cores > self.chip.devices else "default"}


def libtpu_version(environment: Mapping[str, str]) -> str | None:
    """The version of the libtpu that JAX loads, or None where nothing says it: the one of TPU_LIBRARY_PATH, else the
    package's."""
    if given := environment.get("TPU_LIBRARY_PATH"):
        return library_version(Path(given))
    try:
        return metadata.version("libtpu")
    except metadata.PackageNotFoundError:
        return None


def library_version(library: Path) -> str | None:
    """The version of the libtpu that a library belongs to, None where nothing says it."""
    found = [path.name.removeprefix("libtpu-").removesuffix(".dist-info")
             for path in library.parent.parent.glob("libtpu-*.dist-info")]
    return max(found, key=numbers, default=None)  # pip leaves what it replaces in a folder of one's own


def too_old(chip: Chip, version: str | None) -> str | None:
    """The libtpu that a chip wants where `version` is known to be older, else None."""
    wanted = chip.libtpu
    return wanted if wanted and version and numbers(version) < numbers(wanted) else None


def check_libtpu(kind: str, version: str | None) -> None:
    """Raises MissingEnvironment where the libtpu of a `version` is too old for devices of a kind, as JAX names it; None
    where nothing says which it is."""
    chip = of_kind(kind)
    if wanted := chip and too_old(chip, version):
        raise MissingEnvironment(f"libtpu {version} is too old for {kind}, where a decoder's compile was not seen to "
                                 f"end; it takes {wanted} or newer: make the environment with Python 3.12 or newer, "
                                 f"pip install --upgrade 'twinscale[jax-tpu]' 'libtpu>={wanted}'")


def numbers(version: str) -> tuple[int, ...]:
    """(0, 0, 42, 1) of "0.0.42.1", as far as its parts are numbers."""
    return tuple(int(part) for part in re.split(r"[^\d.]", version, maxsplit=1)[0].split(".") if part)


def titled(name: str, slices: int) -> str:
    """So many slices of a name, as people say it."""
    return f"{slices} x {name}" if slices > 1 else name


def parse(text: str, slices: int = 1) -> Topology:
    """The Topology of a name. Raises BadInput, with what there is, where there is no such slice."""
    if not 1 <= slices <= SLICES:
        raise BadInput(f"--slices {slices}: from 1 to {SLICES:,}")
    written = text.lower()
    name, mark, size = (*re.split("([:=-])", written, maxsplit=1), "", "")[:3]
    name = ALIASES.get(name, name)
    if name not in CHIPS:
        raise BadInput(f"--topology {shown(text, 60)}: no such chip; there are {', '.join(CHIPS)}"
                       + (did_you_mean(name, CHIPS) or ", as in v5e:4x4"))
    chip, mark = CHIPS[name], "-" if mark == "-" else ":"
    known = {shape: sides(shape) for shape in chip.shapes} if mark == ":" else named_sizes(chip)
    if size in known:
        return Topology(chip, known[size], slices)
    if mark == ":" and re.fullmatch(r"[0-9]{1,5}(x[0-9]{1,5}){2}", size) and exists(chip, sides(size)):
        return Topology(chip, sides(size), slices)
    there = [f"{name}{mark}{each}" for each in known]
    more = "" if chip.flat else ", and shapes of larger sides, each a multiple of 4"
    raise BadInput(f"--topology {shown(text, 60)}: no such slice; there are {', '.join(there)}{more}"
                   + did_you_mean(f"{name}{mark}{size}", there))


def sides(shape: str) -> tuple[int, ...]:
    """(4, 4) of "4x4"."""
    return tuple(map(int, shape.split("x")))


def exists(chip: Chip, shape: Sequence[int]) -> bool:
    """Whether a shape that is not among the usual ones can be had: of whole cubes of 4 a side, the longest last."""
    return (not chip.flat and all(side and side % 4 == 0 for side in shape)
            and list(shape) == sorted(shape) and math.prod(shape) <= chip.largest)


def named_sizes(chip: Chip) -> dict[str, tuple[int, ...]]:
    """{"16": shape} of a chip's sizes as Google Cloud names them."""
    found = {}
    for shape in map(sides, chip.shapes):
        found.setdefault(str(math.prod(shape) * chip.cores), shape)
    return dict(sorted(found.items(), key=lambda size: int(size[0])))
