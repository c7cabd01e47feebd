"""Slices of TPUs by name: what a chip can hold and do, and how neighbours are joined. Every figure names its source.

Names: a chip and a shape, `v5e:4x4`, or a size as Google Cloud writes it, `v5e-16`, which counts chips for v5e and v6e
and TensorCores, two a chip, for v4, v5p and TPU7x (`tpu7x-8`).
"""

import math
import re
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.files import shown
from twinscale.common.flops import PEAKS
from twinscale.common.recipe_file import did_you_mean

CLOUD = "Google Cloud, TPU documentation"
COMPILER = "libtpu 0.0.45: what the compiler says is available"
BOOK = "Austin et al. 2025, How to Scale Your Model"
FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")  # all that there are
# The usual ones: of others, every side is a multiple of 4.
SOLID = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "4x4x12", "4x8x12", "8x8x8", "8x8x12", "8x8x16",
         "8x12x16", "8x16x16", "12x16x16", "16x16x16", "16x16x24")


@dataclass(frozen=True)
class Chip:
    """One chip; bandwidths are in bytes a second and go one way."""

    name: str
    cores: int  # TensorCores, which sizes such as v4-8 count
    devices: int  # that the compiler and JAX see of it: one that all its cores drive, or one a core
    hbm_bytes: int  # that a program may use of each device
    hbm_bandwidth: float
    links: int  # to its neighbours, two an axis of the network
    link_bandwidth: float
    dcn_bandwidth: float  # its share of the network between slices
    shapes: tuple  # of the slices there are
    largest: int  # chips of a slice
    sources: dict = field(hash=False)  # {figure: where it is from}

    @property
    def peak_flops(self):
        """bfloat16 operations a second of all its devices, as `common/flops.py` has them."""
        return self.devices * PEAKS[self.kind]

    @property
    def kind(self):
        """A device's name in `common/flops.py`."""
        return "TPU7x" if self.name == "tpu7x" else f"TPU {self.name}"


def sources(**others):
    return {"peak_flops": CLOUD, "hbm_bytes": COMPILER, "hbm_bandwidth": CLOUD, "link_bandwidth": CLOUD,
            "dcn_bandwidth": BOOK} | others


CHIPS = {chip.name: chip for chip in (
    Chip("v4", 2, 1, round(30.75 * 2**30), 1200e9, 6, 50e9, 6.25e9, SOLID[:16], 4096,
         sources(link_bandwidth="Jouppi et al. 2023, TPU v4, table 4")),
    Chip("v5e", 1, 1, round(15.75 * 2**30), 819e9, 4, 50e9, 3.125e9, FLAT, 256, sources()),
    Chip("v5p", 2, 1, round(95.73 * 2**30), 2765e9, 6, 100e9, 6.25e9, SOLID, 6144, sources()),
    Chip("v6e", 1, 1, round(31.24 * 2**30), 1638e9, 4, 100e9, 12.5e9, FLAT, 256, sources()),
    # Two chiplets, each a device with a memory of its own; six links of 200 GB/s both ways, 100 Gb/s between slices.
    Chip("tpu7x", 2, 2, round(94.74 * 2**30), 7380e9, 6, 100e9, 12.5e9, SOLID, 9216,
         sources(dcn_bandwidth=CLOUD)),
)}
ALIASES = {"v5litepod": "v5e", "v5lite": "v5e", "v5": "v5p", "v7x": "tpu7x"}  # of Google Cloud's and JAX's
SLICES = 1000  # that one job joins at most here
# The first libtpu that was seen to compile a decoder for a chip: with 0.0.42.1 decoder-125m did not end in 900 s,
# though small programs do; with 0.0.45 it takes two or three minutes.
LIBTPU = {"tpu7x": "0.0.45"}
NO_TENSORFLOW = ("tpu7x",)  # chips for which there is none: Google Cloud, TPU documentation, TPU7x


@dataclass(frozen=True)
class Topology:
    """One or several slices of equal shape."""

    chip: Chip
    shape: tuple
    slices: int = 1

    @property
    def name(self):
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self):
        """Of all slices."""
        return math.prod(self.shape) * self.slices

    @property
    def devices(self):
        """Of all slices: places of a mesh."""
        return self.chips * self.chip.devices

    @property
    def wraps(self):
        """Whether each axis of the network closes to a ring."""
        if len(self.shape) == 2:
            return tuple(side == 16 for side in self.shape)
        return (all(side % 4 == 0 for side in self.shape),) * 3

    @property
    def links(self):
        """Links of one chip that lead to another of its slice, at the best place in it."""
        return sum(0 if side == 1 else 1 if side == 2 and not ring else 2
                   for side, ring in zip(self.shape, self.wraps, strict=True))

    @property
    def options(self):
        """What `jax.experimental.topologies.get_topology_desc` takes."""
        solid = (*self.shape, 1)[:3]
        return {"topology_name": self.name, "chips_per_host_bounds": [min(2, side) for side in solid[:2]] + [1],
                "num_slices": self.slices, "wrap": [*self.wraps, False][:3],
                "chip_config_name": "megacore" if self.chip.cores > self.chip.devices else "default"}


def libtpu_version(environment):
    """The version of the libtpu that JAX loads, or None where nothing says it: the one of TPU_LIBRARY_PATH, else the
    package's."""
    if given := environment.get("TPU_LIBRARY_PATH"):
        return library_version(Path(given))
    try:
        return metadata.version("libtpu")
    except metadata.PackageNotFoundError:
        return None


def library_version(library):
    """The version of the libtpu that a library belongs to, None where nothing says it."""
    found = [path.name.removeprefix("libtpu-").removesuffix(".dist-info")
             for path in library.parent.parent.glob("libtpu-*.dist-info")]
    return max(found, key=numbers, default=None)  # pip leaves what it replaces in a folder of one's own


def too_old(chip, version):
    """The libtpu that a chip wants where `version` is known to be older, else None."""
    wanted = LIBTPU.get(chip.name)
    return wanted if wanted and version and numbers(version) < numbers(wanted) else None


def check_libtpu(kind, version):
    """Raises MissingEnvironment where the libtpu of a `version` is too old for devices of a kind, as JAX names it; None
    where nothing says which it is."""
    chip = next((chip for chip in CHIPS.values() if chip.kind == kind), None)
    if wanted := chip and too_old(chip, version):
        raise MissingEnvironment(f"libtpu {version} is too old for {kind}, where a decoder's compile was not seen to "
                                 f"end; it takes {wanted} or newer: make the environment with Python 3.12 or newer, "
                                 f"pip install --upgrade 'twinscale[jax-tpu]' 'libtpu>={wanted}'")


def numbers(version):
    """(0, 0, 42, 1) of "0.0.42.1", as far as its parts are numbers."""
    return tuple(int(part) for part in re.match(r"[\d.]*", version)[0].split(".") if part)


def titled(name, slices):
    """So many slices of a name, as people say it."""
    return f"{slices} x {name}" if slices > 1 else name


def parse(text, slices=1):
    """The Topology of a name. Raises BadInput, with what there is, where there is no such slice."""
    if not 1 <= slices <= SLICES:
        raise BadInput(f"--slices {slices}: from 1 to {SLICES:,}")
    written = text.lower()
    name, mark, size = re.fullmatch(r"([^:=-]*)([:=-]?)(.*)", written, re.DOTALL).groups()
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
    more = "" if chip.shapes is FLAT else ", and shapes of larger sides, each a multiple of 4"
    raise BadInput(f"--topology {shown(text, 60)}: no such slice; there are {', '.join(there)}{more}"
                   + did_you_mean(f"{name}{mark}{size}", there))


def sides(shape):
    """(4, 4) of "4x4"."""
    return tuple(map(int, shape.split("x")))


def exists(chip, shape):
    """Whether a shape that is not among the usual ones can be had: of whole cubes of 4 a side, the longest last."""
    return (chip.shapes is not FLAT and all(side and side % 4 == 0 for side in shape)
            and list(shape) == sorted(shape) and math.prod(shape) <= chip.largest)


def named_sizes(chip):
    """{"16": shape} of a chip's sizes as Google Cloud names them."""
    found = {}
    for shape in map(sides, chip.shapes):
        found.setdefault(str(math.prod(shape) * chip.cores), shape)
    return dict(sorted(found.items(), key=lambda size: int(size[0])))
