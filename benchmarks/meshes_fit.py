"""The meshes that each backend is tried on, and which of them fit a recipe."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from pydantic import ValidationError

from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.families import reads_text, traits_of
from twinscale.common.recipe.schema import Recipe, mesh_shape

VIRTUAL = 8  # devices of a process
FRAMEWORKS = {"keras": "TensorFlow", "jax": "JAX"}


class Mesh(NamedTuple):
    """A way to share one training: sizes of the mesh's axes over all hosts, and of the recipe's section `devices` what
    else there is; micro-batches an update in place of the recipe's."""

    axes: dict
    hosts: int = 1
    accumulate: int | None = None
    strategy: str = "auto"  # Keras alone

    @property
    def size(self) -> int:
        """How many devices it has."""
        return math.prod(self.axes.values())

    @property
    def name(self) -> str:
        """It in words, as runs and rows are called."""
        words = [" x ".join(f"{axis} {size}" for axis, size in self.axes.items()) or "one device"]
        words += [f"accumulate {self.accumulate}"] * bool(self.accumulate) + [f"{self.hosts} hosts"] * (self.hosts > 1)
        return ", ".join(words)


MESHES = {
    "keras": (
        Mesh({}, accumulate=4, strategy="one"),
        Mesh({"data": 2}, strategy="mirrored"),
        Mesh({"data": 4}, strategy="mirrored"),
        Mesh({"data": 8}, strategy="mirrored"),
        Mesh({"data": 2}, accumulate=2, strategy="mirrored"),
        Mesh({"data": 2}, accumulate=4, strategy="mirrored"),
        Mesh({"data": 2}, hosts=2, strategy="multiworker"),
        Mesh({"data": 2}, hosts=2, accumulate=2, strategy="multiworker"),
    ),
    "jax": (
        Mesh({}, accumulate=4),
        Mesh({"data": 2}),
        Mesh({"data": 4}),
        Mesh({"data": 8}),
        Mesh({"fsdp": 2}),
        Mesh({"fsdp": 4}),
        Mesh({"tensor": 2}),
        Mesh({"tensor": 4}),
        Mesh({"sequence": 2}),
        Mesh({"data": 2, "fsdp": 2, "tensor": 2}),
        Mesh({"data": 2, "fsdp": 2}, accumulate=2),
        Mesh({"data": 2, "fsdp": 2}, accumulate=4),
        Mesh({"data": 2}, hosts=2),
        Mesh({"data": 2, "fsdp": 2}, hosts=2),
        Mesh({"data": 2, "tensor": 2}, hosts=2),
    ),
}
TEXT_ALONE = {"tensor", "sequence"}  # axes that share what decoders have
ACCELERATED = "cudnn", "splash"  # kernels that no CPU has, whose parts virtual devices are
RULED = {"tensor"}  # of these what rules of the recipe may share too


def normed(recipe: Recipe) -> bool:
    """Whether statistics of a micro-batch enter the model, so that another number of them is another training."""
    return traits_of(recipe.model).norm == "batch"


def base_of(recipe: Recipe, mesh: Mesh) -> Mesh:
    """The mesh of one device that another is judged against."""
    return Mesh({}, accumulate=mesh.accumulate if normed(recipe) else None)


def meshes_of(recipe: Recipe, backend: str) -> list[tuple[Mesh, str | None]]:
    """[(mesh, why it does not fit the recipe, or None)] of a backend, bases left out."""
    found: list[tuple[Mesh, str | None]] = []
    of_text = TEXT_ALONE if traits_of(recipe.model).sharding is None else TEXT_ALONE - RULED
    for mesh in MESHES[backend]:
        if mesh.name == base_of(recipe, mesh).name or (
                not reads_text(recipe.model) and of_text & mesh.axes.keys()):
            continue
        if recipe.train.global_batch % (mesh.accumulate or 1):
            why: str | None = (f"train.accumulate={mesh.accumulate} does not divide "
                               f"train.global_batch={recipe.train.global_batch}")
        else:
            why = misfit(recipe, backend, mesh)
        found.append((mesh, why))
    return found


def attending(recipe: Recipe, sequence: int = 1, absent: Iterable[str] = ()) -> Recipe:
    """The recipe as so many devices that share positions can attend: where it asks for a ring and they are none, or for
    one of the kernels that are `absent`, with what there is."""
    lacks = {*absent, "ring"} if sequence == 1 else {*absent}
    return recipe.with_values(jax={"attention": "auto"}) if recipe.jax.attention in lacks else recipe


def misfit(recipe: Recipe, backend: str, mesh: Mesh) -> str | None:
    """Why a mesh cannot train a recipe, or None."""
    found = recipe.devices.virtual if mesh.hosts == 1 else mesh.size
    try:
        mesh_shape(on_mesh(recipe, backend, mesh), FRAMEWORKS[backend], found or VIRTUAL, "cpu")
    except ValidationError as error:  # of keys that only together with the mesh's are refused
        return "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())
    except (BadInput, MissingEnvironment) as error:
        return str(error)
    return None


def bases_of(recipe: Recipe, backend: str) -> list[Mesh]:
    """The meshes of one device that a backend's are judged against."""
    bases = {base_of(recipe, mesh).name: base_of(recipe, mesh) for mesh, why in meshes_of(recipe, backend) if not why}
    return list(bases.values())


def on_mesh(recipe: Recipe, backend: str, mesh: Mesh) -> Recipe:
    """The recipe on a mesh."""
    virtual = recipe.devices.virtual if mesh.hosts == 1 else mesh.size // mesh.hosts if backend == "jax" else 0
    return attending(recipe, mesh.axes.get("sequence", 1), ACCELERATED).with_values(
        train={"accumulate": mesh.accumulate or recipe.train.accumulate},
        devices=mesh.axes | {"hosts": mesh.hosts, "strategy": mesh.strategy, "virtual": virtual})
