"""What is refused of a compression before anything is trained: stages that cannot do what they say."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twinscale.common.compress.recipes import model_after
from twinscale.common.compress.rules import BLOCK, chosen, kernels
from twinscale.common.errors import BadInput
from twinscale.common.families import reads_arrays, traits_of
from twinscale.common.families.parameters import parameters
from twinscale.common.registry import short

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.recipe.schema import Recipe


def check_stages(recipe: "Recipe", dataset: "Dataset") -> None:
    """Raises BadInput, before anything is trained, for a stage that cannot do what it says."""
    if recipe.compress.stages and traits_of(recipe.model).foreign:
        raise BadInput(f'compress.stages: model.family = "{short(recipe.model.family)}": TF-MOT wraps layers of its '
                       "own Keras, which programs of your own are not made of; compress them by other means")
    if recipe.compress.stages and reads_arrays(recipe.model):
        raise BadInput(f'compress.stages: model.family = "{short(recipe.model.family)}" reads arrays, and compressions '
                       "are of models of text or images: take the stages out")
    for number, stage in enumerate(recipe.compress.stages):
        where = f"compress.stages[{number}] ({stage.kind})"
        tree = parameters(model_after(recipe, number), dataset.classes, dataset.example_shape)
        for pattern in getattr(stage, "names", ()):
            if not (names := chosen([pattern], tree)):
                raise BadInput(f'{where}: names "{pattern}" matches no parameter; there are {", ".join(list(tree)[:6])}'
                               f" and {max(0, len(tree) - 6)} more")
            if wrong := [name for name in names if name not in kernels(tree)]:
                raise BadInput(f'{where}: names "{pattern}" matches {wrong[0]}, which cannot be '
                               f"{'pruned' if stage.kind == 'prune' else 'clustered'}: kernels and tables alone can")
        if stage.kind == "prune":
            check_pattern(where, stage, tree)
        if not has_float64(stage) and recipe.train.precision != "float32":
            raise BadInput(f'{where}: TensorFlow and TF-MOT do it in float32 alone; set train.precision="float32"')
        if stage.kind in ("prune", "cluster") and recipe.train.precision == "bfloat16":
            raise BadInput(f'{where}: masks and centroids of bfloat16 models are not known here; set '
                           'train.precision="float32"')
        if stage.kind in ("quantize", "post_training") and number + 1 < len(recipe.compress.stages):
            raise BadInput(f"{where}: what is quantised is not compressed further: make it the last stage")
        if stage.kind == "distil":
            check_student(where, recipe, number)


def has_float64(stage: Any) -> bool:
    """Whether a stage can be trained in float64: TensorFlow's fake quantisation and TF-MOT's 2:4 masks cannot."""
    return stage.kind not in ("quantize", "post_training") and getattr(stage, "pattern", None) != "2:4"


def check_pattern(where: str, stage: Any, tree: Mapping[str, Any]) -> None:
    """Raises BadInput where a pattern of pruning does not fit a tensor."""
    for name in chosen(stage.names, tree):
        shape = tree[name].shape
        inputs = shape[-2]
        if stage.pattern == "2:4" and inputs % BLOCK:
            raise BadInput(f'{where}: pattern "2:4" needs inputs of a multiple of {BLOCK}, but {name} has {inputs} '
                           f"(shape {shape}); leave it out of names")
        if stage.pattern == "4x4" and len(shape) != 2:
            raise BadInput(f'{where}: pattern "4x4" is of kernels of two axes, but {name} has shape {shape}; leave it '
                           "out of names")
        if stage.pattern == "4x4" and min(shape) <= BLOCK:  # TF-MOT drops an axis of one block, and fails
            raise BadInput(f'{where}: pattern "4x4" needs axes longer than {BLOCK}, but {name} has shape {shape}; '
                           "leave it out of names")


def check_student(where: str, recipe: "Recipe", number: int) -> None:
    """Raises BadInput where a student does not go with its model."""
    stage: Any = recipe.compress.stages[number]
    student, before = model_after(recipe, number), model_after(recipe, number - 1)
    if (stage.hidden or stage.attention) and not traits_of(student).attention:
        raise BadInput(f"{where}: hidden and attention are of decoders, but the model is a "
                       f"{short(recipe.model.family)}; set them to 0")
    if stage.hidden or stage.attention:
        check_matched(where, stage, student, stage.teacher_model or before)
    if stage.labels == stage.logits == stage.hidden == stage.attention == 0:
        raise BadInput(f"{where}: labels, logits, hidden and attention are all 0: there is nothing to learn")


def check_matched(where: str, stage: Any, student: Any, teacher: Any) -> None:
    """Raises BadInput where hidden states or attention of two decoders cannot be compared."""
    if stage.hidden and student.width != teacher.width:
        raise BadInput(f"{where}: hidden={stage.hidden} needs a student of the teacher's width {teacher.width}, not "
                       f"{student.width}; set hidden=0")
    if stage.attention and student.heads != teacher.heads:
        raise BadInput(f"{where}: attention={stage.attention} needs a student of the teacher's {teacher.heads} heads, "
                       f"not {student.heads}; set attention=0")
    if teacher.layers < student.layers:
        raise BadInput(f"{where}: hidden and attention need a teacher of no fewer blocks than the student's "
                       f"{student.layers}, not {teacher.layers}")
