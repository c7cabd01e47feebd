"""The stages of a compression in a recipe, with the mathematics that the backends share; TF-MOT is the reference."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from twinscale.common.errors import one_of
from twinscale.common.recipe.model import AnyModel
from twinscale.common.section import Count, Fraction, NonNegative, Positive, Section


class Stage(Section):
    """What every stage of a compression has: it trains the model that the stage before has left."""

    steps: PositiveInt = Field(100, description="optimizer updates")
    learning_rate: NonNegative = Field(1e-4, description="at the first of them")
    decay: Literal["constant", "cosine", "linear"] = Field("cosine", description="of the learning rate, to 0")


class Prune(Stage):
    """Magnitude pruning on a schedule (Zhu & Gupta 2017, "To prune, or not to prune"), as TF-MOT has it.

    The sparsity at update t (from 1) is final + (initial - final) (1 - p)^power with p = (t - begin) / (end - begin)
    within 0 and 1, in float32; masks are made at every t of [begin, end] with (t - begin) mod every = 0.
    """

    kind: Literal["prune"]
    sparsity: Fraction = Field(0.8, description="share of zeros at the end; 2:4 has its own, a half")
    initial: Fraction = Field(0.0, description="share of zeros at the first mask; polynomial only")
    schedule: Literal["polynomial", "constant"] = "polynomial"
    power: PositiveInt = 3
    begin: Count = Field(0, description="update that counting begins at")
    end: Count = Field(0, description="update that reaches the final sparsity; 0: three quarters of the steps, on the "
                                      "schedule")
    every: PositiveInt = Field(10, description="updates between masks")
    pattern: Literal["unstructured", "2:4", "4x4"] = Field("unstructured", description="2:4: two of four neighbours "
                                                           "along the inputs; 4x4: whole blocks, kernels of two axes")
    pooling: Literal["average", "max"] = Field("average", description="4x4: what of a block's magnitudes counts")
    names: tuple[str, ...] = Field(("*.kernel",), strict=False, min_length=1,
                                   description="patterns of canonical names of what is pruned")

    @property
    def steady(self) -> bool:
        """Whether all masks are of the final sparsity."""
        return one_of({"polynomial": False, "constant": True}, self.schedule, "prune: schedule")

    @property
    def last(self) -> int:
        """The update that makes the final mask."""
        if self.steady:
            return self.begin or self.every
        due = self.begin + max(1, (3 * self.steps // 4 - self.begin) // self.every) * self.every
        return self.end or due

    @model_validator(mode="after")
    def reaches(self) -> Self:
        """Raises ValueError where the final sparsity is never reached."""
        last, span = self.last, self.last - self.begin
        if self.pattern == "2:4":  # made at the first update, whatever the schedule
            return self
        if not self.steady and span <= 0:
            raise ValueError(f"prune: end={self.end} is not after begin={self.begin}")
        if not self.steady and span % self.every:
            below = self.begin + max(1, span // self.every) * self.every
            raise ValueError(f"prune: sparsity={self.sparsity} is never reached, for masks are made every {self.every} "
                             f"updates from begin={self.begin} and end={last} is none of them; set end={below}")
        if last > self.steps:
            raise ValueError(f"prune: sparsity={self.sparsity} is never reached, for it is due at update {last} and "
                             f"steps={self.steps}; set steps={last} or more")
        if self.initial > self.sparsity:
            raise ValueError(f"prune: initial={self.initial} is above sparsity={self.sparsity}")
        return self


class Quantize(Stage):
    """Quantisation-aware training in 8 bits (Jacob et al. 2018), as TF-MOT has it; zeros and centroids that a stage
    before has left are kept."""

    kind: Literal["quantize"]
    calibrate: Count = Field(4, description="batches whose extremes the ranges of activations start from; 0: +-6, as "
                                            "TF-MOT starts")
    preserve: bool = Field(True, description="keep the zeros and the centroids of the stages before")


class PostTraining(Section):
    """8 bits without training: ranges from `calibrate` batches, and nothing moves."""

    kind: Literal["post_training"]
    calibrate: PositiveInt = Field(16, description="batches whose extremes the ranges of activations are")


class Cluster(Stage):
    """Weight clustering (Han et al. 2016, "Deep compression"), as TF-MOT has it: centroids start evenly spaced."""

    kind: Literal["cluster"]
    clusters: Annotated[int, Field(ge=3, le=256)] = Field(16, description="centroids of each tensor")
    preserve: bool = Field(True, description="keep the zeros of a pruning before: one centroid is zero")
    names: tuple[str, ...] = Field(("*.kernel",), strict=False, min_length=1,
                                   description="patterns of canonical names of what is clustered")


class Student(Section):
    """What a student's [model] has otherwise than its teacher's; what is not given is the same."""

    layers: PositiveInt | None = None
    width: PositiveInt | None = None
    heads: PositiveInt | None = None
    kv_heads: Count | None = None
    hidden: Count | Annotated[tuple[PositiveInt, ...], Field(strict=False)] | None = None
    channels: Annotated[tuple[PositiveInt, ...], Field(strict=False)] | None = None
    blocks: PositiveInt | None = None


class Distil(Stage):
    """Distillation into a student (Hinton et al. 2015; hidden states and attention as in Jiao et al. 2020, "TinyBERT").

    The loss of a position is `labels` cross-entropy + `logits` T^2 KL(teacher / T || student / T) + `hidden` the mean
    squared difference of the blocks' outputs + `attention` KL(teacher's shares || student's), each a mean over matched
    blocks (and heads): block i of n learns from block (i + 1) N / n - 1 of the teacher's N.
    """

    kind: Literal["distil"]
    teacher: str = Field("", description="a run of either backend; empty: the model that the stage before has left")
    teacher_model: AnyModel | None = Field(
        None, description="its [model], which its run says")
    student: Student = Field(Student(), description="what the student's [model] has otherwise; empty: "
                                                    "self-distillation")
    learning_rate: NonNegative = Field(1e-3, description="at the first of them")
    temperature: Positive = 2.0
    labels: NonNegative = Field(0.5, description="weight of the labels' cross-entropy")
    logits: NonNegative = Field(0.5, description="weight of the teacher's logits")
    hidden: NonNegative = Field(0.0, description="weight of hidden states; decoders of one width")
    attention: NonNegative = Field(0.0, description="weight of attention; decoders with as many heads")


AnyStage = Annotated[Prune | Quantize | PostTraining | Cluster | Distil, Field(discriminator="kind")]


class Compress(Section):
    """Stages, in order: each trains what the one before has left. Empty: nothing is compressed."""

    stages: tuple[AnyStage, ...] = Field((), strict=False)
