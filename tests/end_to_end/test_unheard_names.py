"""A name that only the recipe's schema knows trains nothing, in either room: both would agree on what they took for
it."""

import typing
from importlib import import_module
from types import UnionType

import numpy as np
import pytest
from pydantic import BaseModel

from twinscale.common.compress.recipes import stage_recipe
from twinscale.common.compress.rules import extra_tensors
from twinscale.common.data import open_dataset
from twinscale.common.errors import BadInput
from twinscale.common.families.pair import Pair
from twinscale.common.recipe.schema import Recipe
from twinscale.common.section import ByName

UNHEARD = "unheard"
ROOMS = ("tfscale", "jaxscale")


def choices(annotation, path=(), seen=None):
    """{dotted path: choices} of every Literal below an annotation of the schema; of a kind of section that comes twice,
    the first alone."""
    seen = set() if seen is None else seen
    if typing.get_origin(annotation) is typing.Literal:
        return {".".join(path): typing.get_args(annotation)}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation in seen:
            return {}
        seen.add(annotation)
        own = (*path[:-1], annotation.__name__) if path in (("model",), ("compress", "stages")) else path
        named = {".".join((*own, name, by.key)): tuple(by.registry.builtin)  # what a registry has is open
                 for name, field in annotation.model_fields.items() for by in field.metadata if isinstance(by, ByName)}
        return named | {key: value for name, field in annotation.model_fields.items()
                        for key, value in choices(field.annotation, (*own, name), seen).items()}
    inner = typing.get_args(annotation) if typing.get_origin(annotation) in (
        tuple, typing.Union, UnionType, typing.Annotated) else ()
    return {key: value for part in inner for key, value in choices(part, path, seen).items()}


CHOICES = choices(Recipe)
STAGES = {key for key in CHOICES if key.startswith("compress.")}
# What only one room has, or none but what has a test of it elsewhere: a source, an augmentation, the trackers of a run;
# and what a stage hands on to the schedule.
ALONE = {"data.tags": (), "data.augmenting.border": (), "data.masked_by": (), "data.quality": (), "train.trackers": (),
         "jax.remat": ROOMS[1:], "jax.attention": ROOMS[1:], "devices.strategy": ROOMS[:1]}
HANDED_ON = {key for key in STAGES if key.endswith(".decay")}
CASES = [(key, room) for key in sorted(CHOICES.keys() - HANDED_ON) for room in ALONE.get(key, ROOMS)]


def unheard(section, keys):
    """A copy of a section in which the value at some keys is a name that no code knows; nothing is validated."""
    key, *rest = keys
    value = getattr(section, key)
    changed = unheard(value, rest) if rest else (UNHEARD,) if isinstance(value, tuple) else UNHEARD
    return section.model_copy(update={key: changed})


def test_every_choice_of_the_schema_is_found():
    assert {"data.tags", "data.augment", "Decoder.family", "Decoder.norm", "Decoder.positions", "MLP.activation",
            "Decoder.activation", "optimizer.name", "schedule.kind", "objective.name", "train.precision",
            "jax.attention"} <= set(CHOICES)
    assert CHOICES["optimizer.name"] == ("adamw", "sgd", "lion", "lamb", "pair") and len(STAGES) >= 8


@pytest.mark.parametrize(("key", "name"), [case for case in CASES if case[0] not in STAGES])
def test_a_name_that_only_the_schema_knows_trains_nothing(open_room, recipe_of, key, name):
    section, *keys = key.split(".")
    text = section == "Decoder" or key in ("jax.attention", "jax.remat")
    others = {"ConvNet": "convnet", "Encoder": "encoder", "ResNet": "resnet", "ViT": "vit"}
    family = others.get(section, "decoder" if text else "mlp")
    recipe = recipe_of(family, train={"steps": 2})
    if section == "Pair":
        recipe = recipe.model_copy(update={"model": Pair.model_construct(family="pair", reads="images")})
    recipe = unheard(recipe, [section if section.islower() else "model", *keys])
    with pytest.raises(BadInput, match=UNHEARD), open_room(name, recipe) as opened:
        opened.tensors()


@pytest.mark.parametrize(("key", "name"), [case for case in CASES if case[0] in STAGES])
def test_a_stage_of_such_a_name_compresses_nothing(room_of, recipe_of, key, name):
    kind, changed = key.split(".")[1:]
    kind = {"Prune": "prune", "Quantize": "quantize", "PostTraining": "post_training", "Cluster": "cluster",
            "Distil": "distil"}[kind]
    pattern = {"pattern": "4x4"} if changed == "pooling" else {}
    stages = [{"kind": kind, **({"steps": 20, **pattern} if kind == "prune" else {})}]
    recipe = stage_recipe(recipe_of("mlp", train={"precision": "float32"}, compress={"stages": stages}), 0)
    stage = unheard(recipe.compress.stages[0], [changed])
    recipe = recipe.model_copy(update={"compress": recipe.compress.model_copy(update={"stages": (stage,)})})
    with pytest.raises(BadInput, match=UNHEARD):
        extra_tensors(recipe, open_dataset(recipe))
        room_of(name).make_masks(stage, 15, {"layer_0.kernel": np.ones((64, 24), np.float32)})


@pytest.mark.parametrize("key", sorted(HANDED_ON))
def test_a_stages_decay_is_its_schedule(recipe_of, key):
    kind = {"Prune": "prune", "Quantize": "quantize", "Cluster": "cluster", "Distil": "distil"}[key.split(".")[1]]
    recipe = recipe_of("mlp", compress={"stages": [{"kind": kind, "decay": "linear"}]})
    assert stage_recipe(recipe, 0).schedule.kind == "linear"


def test_a_format_that_nobody_reads_or_writes_is_no_other_ones(tmp_path):
    for room in ROOMS:
        for call in ("strange", "load"):
            with pytest.raises(BadInput, match=UNHEARD):
                getattr(import_module(f"twinscale.{room}.predict"), call)(UNHEARD, tmp_path / "absent")
