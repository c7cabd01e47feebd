"""Families of models: all that is asked of one stands in one object.

A recipe names a family by `model.family`. Its two builders stand in the rooms; nobody else asks for a family's name,
but for what it reads and what its models have. `docs/adding.md` adds two families from outside.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import core_schema

from twinscale.common.errors import BadInput
from twinscale.common.families.sharding import Sharding
from twinscale.common.registry import Registry, is_reference, load, names, resolved
from twinscale.common.section import ByName, Section

FAMILIES = Registry("families", "model.family", {name: f"twinscale.common.families.{name}:FAMILY" for name in (
    "decoder", "convnet", "mlp", "encoder", "pair", "resnet", "vit")}, "twinscale.common.families:Family")
READS = ("text", "images", "arrays")


@dataclass(frozen=True)
class Attention:
    """Causal attention in each block, at the places `block_0.attention...`."""

    heads: int  # of queries
    key_heads: int  # of keys and values, which divide them
    width: int  # of a head


@dataclass(frozen=True)
class Traits:
    """What a model of some options has, that others go by. What its tree or its places say is asked there."""

    activation: str = ""  # of its places "activation": "relu", which rounding can turn on or off; "": a smooth one
    norm: str = ""  # of its places "norm": "layer", "rms", "batch" (running statistics are .mean and .var); "": any
    blocks: int = 0  # equal ones, `block_0`, `block_1`, ...: JAX may scan over them, students' learn from teachers'
    attention: Attention | None = None
    shared: dict = field(default_factory=dict)  # {key: (its size, the key of [devices] that has to divide it)}
    sharding: Sharding | None = None  # how its tensors lie on a mesh, where that is not by the names that ours have
    computes: str = ""  # "float32" where its programs compute in that whatever comes in; "": in what comes in
    foreign: bool = False  # programs of somebody's own: what they have inside is not known here, nor how they compute
    planted: tuple = ()  # words of `common.planted.planting.HAS` for changes to its own builders, where there are any


def no_traits(options: Any) -> Traits:
    """Of a family that says nothing of itself."""
    return Traits()


def each_kernel_once(options: Any, tree: Mapping[str, Any], classes: int, example_shape: Sequence[int], convention: str
                    ) -> int:
    """Forward operations of one example where every kernel multiplies each token, or each image, once."""
    positions = example_shape[0] if len(example_shape) == 1 else 1
    return sum(2 * positions * math.prod(p.shape) for name, p in tree.items() if name.endswith(".kernel"))


@dataclass(frozen=True)
class Layouts:
    """How the Hugging Face library has a family's tensors.

    layout: options to (a layout's name, ""), or (None, why there is none).
    pairs: (name, options) to [(the layout's name of a tensor, canonical names that lie beside each other in it along
      the last axis, whether it is transposed, or another of `common/families/ways.py`)].
    config: (name, options, vocabulary, length, dtype) to what config.json says; of images, classes for vocabulary and
      (H, W, C) for length.
    options: (name, what config.json says) to the options that it says. Raises KeyError for what it lacks.
    prefixes: {name: what the library may have before the names of a body, which has a head beside it}.
    body: {name: how the names of blocks' tensors begin, after that}.
    fresh: patterns of canonical names that a file need not have.
    nearest: as `layout`, of a file whose head may be another; None: as `layout`.
    shape: of images: (options, tensors by canonical names) to the (H, W, C) that they are for; 0 for what config.json
      does not say.
    """

    layout: Callable
    pairs: Callable
    config: Callable
    options: Callable = lambda name, config: {}
    prefixes: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, str] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    nearest: Callable | None = None
    shape: Callable | None = None


@dataclass(frozen=True)
class Family:
    """One family of models.

    options: a Section with `family: str`, and whatever the [model] of a recipe may say besides.
    reads: "text" (inputs and positions int32 (B, T), and where documents are kept apart segments; logits (B, T, V)) or
      "images" (inputs (B, H, W, C) from 0 to 1; logits (B, classes)), or "arrays" (any by their names; outputs of any
      shape (B, ...)); or a function of the options that says which.
    tree: (options, classes, example_shape) to {canonical name: common.families.parameters.Parameter} in forward order.
    places: (options, place), which calls place(name, operation, *places read, holds=name, kind=of it) for every
      operation in forward order, the last "head"; see `common/families/places.py`.
    keras: (options, classes, inputs, policy, the keras module) to logits, or "MODULE:OBJECT" of that; an own family has
      it as `build` in the file of its name in tfscale/models/.
    jax: (recipe, classes, example_shape, kinds) to an nnx.Module from a batch to logits, the same in jaxscale/models/.
    flops: (options, tree, classes, example_shape, convention) to forward operations of one example.
    traits: options to Traits.
    layouts: its Layouts, or "MODULE:OBJECT" of them; None: an export for the library has canonical names.
    drawn: options at random for `audit --clean`, by a function that takes one of its arguments.
    draws: (options) to whether the model draws shared bits in training besides those that its places say.
    inputs: of what reads arrays: options to the names of those that it reads; None: all that there are.
    check: of what reads arrays: (options, {name: array (rows, ...)} with labels and weights, the Objective, what a line
      of an error begins with), which raises BadInput where the rows are none that the model can read.
    stress: of what reads arrays: (options, batch, classes, a NumPy generator) to what a stress batch holds in place of
      the batch's arrays; None: floats at their ends, and all else as it is.
    rows: of what reads arrays: options to `data.inputs` of the source "random", which `audit --clean` trains on.
    """

    name: str
    options: type
    reads: str | Callable
    tree: Callable
    places: Callable
    keras: Callable | str | None = None
    jax: Callable | str | None = None
    flops: Callable = each_kernel_once
    traits: Callable = no_traits
    layouts: Layouts | str | None = None
    drawn: Callable | None = None
    draws: Callable = lambda m: False
    inputs: Callable | None = None
    check: Callable | None = None
    stress: Callable | None = None
    rows: Callable | None = None

    def __post_init__(self):
        if not callable(self.reads) and self.reads not in READS:
            raise BadInput(f'family {self.name}: reads "{self.reads}": one of {", ".join(READS)} is wanted')
        if not (isinstance(self.options, type) and issubclass(self.options, Section)
                and "family" in self.options.model_fields):
            raise BadInput(f"family {self.name}: options: a Section of common.section with `family: str` is wanted")
        if not self.name.isidentifier():  # which frameworks call a model
            raise BadInput(f'family {self.name}: name: letters, digits and "_" are wanted')

    @property
    def text(self) -> bool:
        """Whether it reads text."""
        return self.reads == "text"


class OfFamily(ByName):
    """`ByName` of a [model]: own families are a union that pydantic tells apart, with its errors and its schema; others
    are asked for by name."""

    def __get_pydantic_core_schema__(self, source, handler):
        return core_schema.no_info_wrap_validator_function(self.of_any, handler(source))

    def of_any(self, values: Any, own: Any) -> Any:
        """The options that values make; `own` makes those of own families."""
        name = values.get(self.key) if isinstance(values, dict) else getattr(values, self.key, None)
        if not isinstance(name, str) or name in self.registry.builtin or not (
                is_reference(name) or name in names(self.registry)):
            return own(values)
        return self.chosen(values)


def family_of(model: Any) -> Family:
    """The Family of a model section of the recipe. Raises as `common.registry.load` does."""
    family = load(FAMILIES, model.family)
    return replace(family, reads=family.reads(model)) if callable(family.reads) else family


def builder_of(model: Any, backend: str, own: Any) -> Callable[..., Any]:
    """The function by which a backend builds the models of a family: of the `own` ones, {name: function}, or what the
    family has as `backend`. Raises BadInput where it has none."""
    family = family_of(model)
    found = own.get(model.family) or resolved(getattr(family, backend))
    if found is None:
        raise BadInput(f"model.family = {model.family}: family {family.name} has no builder for {backend}")
    return found


def reads_text(model: Any) -> bool:
    """Whether the family of a model section reads text; else images or arrays."""
    return family_of(model).text


def reads_arrays(model: Any) -> bool:
    """Whether the family of a model section reads arrays by their names."""
    return family_of(model).reads == "arrays"


def traits_of(model: Any) -> Traits:
    """The Traits of a model section."""
    return family_of(model).traits(model)
