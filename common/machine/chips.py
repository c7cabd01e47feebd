"""TPU chips and the slices that there are of them: the one table that all who speak of a chip read. Every figure names
its source. To add a chip, add its entry to `CHIPS`."""

from dataclasses import dataclass, field
from typing import Any

CLOUD = "Google Cloud, TPU documentation"
COMPILER = "libtpu 0.0.45: what the compiler says is available"
BOOK = "Austin et al. 2025, How to Scale Your Model"

# Shapes of flat slices, all that there are, and for each number of hosts that one may have, the chips of a host. From
# the configuration tables of Cloud TPU's pages on v5e and v6e and of GKE's page "Plan TPUs in GKE": a host has 1, 4 or
# 8 chips where it is a slice by itself, else 4. A slice of 2x4 is one host of 8 or, on GKE, two of 4.
FLAT = {"1x1": {1: 1}, "2x2": {1: 4}, "2x4": {1: 8, 2: 4}, "4x4": {4: 4}, "4x8": {8: 4}, "8x8": {16: 4},
        "8x16": {32: 4}, "16x16": {64: 4}}
# The usual solid ones: of others, every side is a multiple of 4. From the same pages on v4, v5p and TPU7x: hosts of 4
# chips.
SOLID = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "4x4x12", "4x8x12", "8x8x8", "8x8x12", "8x8x16",
         "8x12x16", "8x16x16", "12x16x16", "16x16x16", "16x16x24")


@dataclass(frozen=True)
class Chip:
    """One chip; bandwidths are in bytes a second and go one way."""

    name: str
    kinds: tuple  # what JAX and the frameworks call a device of it; the last is how we do
    cores: int  # TensorCores, which sizes such as v4-8 count
    devices: int  # that the compiler and JAX see of it: one that all its cores drive, or one a core
    peak: float  # bfloat16 operations a second of a device, with sums in float32
    hbm_bytes: int  # that a program may use of each device
    hbm_bandwidth: float
    links: int  # to its neighbours, two an axis of the network
    link_bandwidth: float
    dcn_bandwidth: float  # its share of the network between slices
    shapes: tuple  # of the slices there are
    largest: int  # chips of a slice
    accelerator: str  # its name on GKE
    aliases: tuple = ()  # other names of Google Cloud's and JAX's
    libtpu: str | None = None  # the first that was seen to compile a decoder for it, where earlier ones do not end
    tensorflow: bool = True  # whether there is one for it
    sources: dict = field(default_factory=dict, hash=False)  # {figure: where it is from}

    @property
    def peak_flops(self) -> float:
        """bfloat16 operations a second of all its devices."""
        return self.devices * self.peak

    @property
    def kind(self) -> str:
        """A device's name."""
        return self.kinds[-1]

    @property
    def flat(self) -> bool:
        """Whether its slices have two axes."""
        return self.links == 4


def sources(**others: Any) -> dict[str, Any]:
    """Where a chip's figures are from, but for the `others`."""
    return {"peak_flops": CLOUD, "hbm_bytes": COMPILER, "hbm_bandwidth": CLOUD, "link_bandwidth": CLOUD,
            "dcn_bandwidth": BOOK} | others


def gib(count: float) -> int:
    """Bytes of so many GiB."""
    return round(count * 2**30)


CHIPS = {chip.name: chip for chip in (
    Chip("v4", ("TPU v4",), cores=2, devices=1, peak=275e12, hbm_bytes=gib(30.75), hbm_bandwidth=1200e9, links=6,
         link_bandwidth=50e9, dcn_bandwidth=6.25e9, shapes=SOLID[:16], largest=4096, accelerator="tpu-v4-podslice",
         sources=sources(link_bandwidth="Jouppi et al. 2023, TPU v4, table 4")),
    Chip("v5e", ("TPU v5 lite", "TPU v5e"), cores=1, devices=1, peak=197e12, hbm_bytes=gib(15.75), hbm_bandwidth=819e9,
         links=4, link_bandwidth=50e9, dcn_bandwidth=3.125e9, shapes=tuple(FLAT), largest=256,
         accelerator="tpu-v5-lite-podslice", aliases=("v5litepod", "v5lite"), sources=sources()),
    Chip("v5p", ("TPU v5", "TPU v5p"), cores=2, devices=1, peak=459e12, hbm_bytes=gib(95.73), hbm_bandwidth=2765e9,
         links=6, link_bandwidth=100e9, dcn_bandwidth=6.25e9, shapes=SOLID, largest=6144, accelerator="tpu-v5p-slice",
         aliases=("v5",), sources=sources()),
    Chip("v6e", ("TPU v6 lite", "TPU v6e"), cores=1, devices=1, peak=918e12, hbm_bytes=gib(31.24),
         hbm_bandwidth=1638e9, links=4, link_bandwidth=100e9, dcn_bandwidth=12.5e9, shapes=tuple(FLAT), largest=256,
         accelerator="tpu-v6e-slice", sources=sources()),
    # Two chiplets, each a device with a memory of its own and half of the chip's peak; six links of 200 GB/s both ways,
    # 100 Gb/s between slices. With libtpu 0.0.42.1 decoder-125m did not end in 900 s, though small programs do; with
    # 0.0.45 it takes two or three minutes. Of TensorFlow: Google Cloud, TPU documentation, TPU7x.
    Chip("tpu7x", ("TPU7x",), cores=2, devices=2, peak=1153.5e12, hbm_bytes=gib(94.74), hbm_bandwidth=7380e9, links=6,
         link_bandwidth=100e9, dcn_bandwidth=12.5e9, shapes=SOLID, largest=9216, accelerator="tpu7x", aliases=("v7x",),
         libtpu="0.0.45", tensorflow=False, sources=sources(dcn_bandwidth=CLOUD)),
)}


def of_accelerator(name: str) -> Chip | None:
    """The Chip of an accelerator's name on GKE, None of another."""
    return next((chip for chip in CHIPS.values() if chip.accelerator == name), None)


def of_kind(name: str) -> Chip | None:
    """The Chip of a device's name, None of another."""
    return next((chip for chip in CHIPS.values() if name in chip.kinds), None)
