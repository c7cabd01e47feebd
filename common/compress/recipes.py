"""The stages of a compression as recipes of their own, and the models that they train and learn from."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twinscale.common.errors import BadInput
from twinscale.common.families import family_of, reads_text
from twinscale.common.recipe.adapt import Adapt
from twinscale.common.registry import short
from twinscale.common.schedules import OwnSchedule

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe


def dense_recipe(recipe: "Recipe") -> "Recipe":
    """The recipe of the model that is going to be compressed, or that a training with adapters has left."""
    return recipe.with_values(compress={"stages": ()}, adapt=Adapt())


def stage_recipe(recipe: "Recipe", number: int) -> "Recipe":
    """The recipe that stage `number` (from 0) trains: `compress.stages` ends with it, the model is what the stages
    until then have made of it, and the order of data is its own."""
    stage: Any = recipe.compress.stages[number]
    trained = stage.kind != "post_training"
    stages = [dict(values) for values in recipe.model_dump()["compress"]["stages"][:number + 1]]
    if stage.kind == "distil" and not stage.teacher:
        stages[-1]["teacher_model"] = model_after(recipe, number - 1).model_dump()
    values = {"compress": {"stages": stages},
              "name": f"{recipe.name[:48]}-{number + 1}-{stage.kind}", "seed": (recipe.seed + number + 1) % (1 << 63),
              "model": model_after(recipe, number).model_dump(),
              "optimizer": {"learning_rate": stage.learning_rate if trained else 0.0, "ema": 0.0},
              "schedule": OwnSchedule(kind=stage.decay if trained else "constant"),
              "train": {"steps": stage.steps if trained else 1, "eval_every": 0, "stop_after": 0},
              "jax": {"scan": False, "remat": "none", "remat_save": (), "remat_offload": (), "attention": "einsum"}}
    return recipe.with_values(**values)


def model_after(recipe: "Recipe", number: int) -> Any:
    """The model section that stage `number` trains: the last student's."""
    values = recipe.model.model_dump()
    for stage in recipe.compress.stages[:number + 1]:
        if stage.kind == "distil":
            values |= stage.student.model_dump(exclude_none=True)
    return type(recipe.model).model_validate(values)


def alone_recipe(recipe: "Recipe") -> "Recipe":
    """A stage's recipe whose student learns from the labels alone: what its teacher has to be better than."""
    stages = [dict(values) for values in recipe.model_dump()["compress"]["stages"]]
    stages[-1] |= {"labels": 1.0, "logits": 0.0, "hidden": 0.0, "attention": 0.0}
    return recipe.with_values(compress={"stages": stages}, name=f"{recipe.name[:58]}-alone")


def active(recipe: "Recipe") -> Any:
    """The stage that a stage's recipe trains."""
    return recipe.compress.stages[-1]


def resolved(recipe: "Recipe", model_of: Callable) -> "tuple[Recipe, dict[int, Any]]":
    """The recipe with the models of its teachers' runs read, and {stage: {canonical name: array}} of those teachers.

    Args:
      recipe: the recipe with stages.
      model_of: `common.training.canonical.model_of`.
    Raises BadInput where a teacher is of another kind or has another vocabulary.
    """
    values, teachers = recipe.model_dump(), {}
    for number, stage in enumerate(recipe.compress.stages):
        if stage.kind != "distil" or not stage.teacher:
            continue
        where = f'compress.stages[{number}] (distil): teacher "{stage.teacher}"'
        taught, teachers[number] = model_of(stage.teacher)
        check_teacher(where, recipe, taught)
        values["compress"]["stages"][number]["teacher_model"] = taught.model.model_dump()
    return type(recipe).model_validate(values), teachers


def check_teacher(where: str, recipe: "Recipe", taught: "Recipe") -> None:
    """Raises BadInput where a teacher's classes or tokens are not those of the recipe."""
    if family_of(taught.model) is not family_of(recipe.model):
        raise BadInput(f"{where} is a {short(taught.model.family)}, but the student a {short(recipe.model.family)}")
    keys = ["tokenizer"] if reads_text(recipe.model) else ["source"]
    if recipe.data.tokenizer == "bpe":  # its vocabulary is what the documents have made it
        keys += ["vocabulary", "source", "held_out", "max_documents"]
    for key in [*keys, "sequence"]:
        ours, theirs = getattr(recipe.data, key), getattr(taught.data, key)
        if ours != theirs:
            what = "another vocabulary" if key != "sequence" else "another length of rows"
            raise BadInput(f"{where} has {what}: data.{key}={theirs!r} there and {ours!r} here; take a teacher of the "
                           "same data")


def teacher_model(recipe: "Recipe") -> Any:
    """The model section of the teacher of a stage's recipe that distils."""
    return active(recipe).teacher_model
