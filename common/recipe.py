"""The recipe: the validated description of one training. `common/recipe_file.py` reads it from TOML."""

import hashlib
import json
import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt, SerializeAsAny, field_validator, model_validator

from twinscale.common.errors import BadInput, MissingEnvironment, one_of
from twinscale.common.families import FAMILIES, OfFamily, reads_text, traits_of
from twinscale.common.families.convnet import ConvNet
from twinscale.common.families.decoder import Decoder
from twinscale.common.families.mlp import MLP
from twinscale.common.formats import MASTERS
from twinscale.common.metrics import METRICS, tried
from twinscale.common.objectives import OBJECTIVES, ObjectiveOptions
from twinscale.common.objectives import described as objective_of
from twinscale.common.optimizers import OPTIMIZERS
from twinscale.common.optimizers import Options as AnyOptimizer
from twinscale.common.optimizers import OwnOptions as Optimizer
from twinscale.common.registry import load, portable, short
from twinscale.common.schedules import SCHEDULES, described
from twinscale.common.schedules import OwnSchedule as Schedule
from twinscale.common.schedules import ScheduleOptions as AnySchedule
from twinscale.common.section import ByName, Count, Fraction, NonNegative, Positive, Section, an_entry
from twinscale.common.sources import SOURCES, Data, OfSource, source_of


class Train(Section):
    steps: PositiveInt = Field(100, description="optimizer updates")
    global_batch: PositiveInt = Field(8, description="rows of an update, over all devices and micro-batches")
    accumulate: PositiveInt = Field(1, description="micro-batches an update")
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    label_smoothing: Fraction = 0.0
    z_loss: NonNegative = Field(0.0, description="weight of logsumexp(logits)^2 (Chowdhery et al. 2022)")
    metrics: Annotated[tuple[Annotated[str, an_entry(METRICS)], ...], AfterValidator(tried)] = Field(
        (), strict=False, description="what evaluations measure besides loss and accuracy")
    log_every: PositiveInt = 10
    eval_every: Count = Field(0, description="steps between evaluations; 0 evaluates at the end alone")
    save_every: Count = Field(0, description="steps between checkpoints; 0: by time and at the end alone")
    save_minutes: NonNegative = Field(1.0, description="minutes between checkpoints; 0: by steps and at the end alone")
    keep: PositiveInt = Field(2, description="newest checkpoints kept")
    keep_best: Count = Field(0, description="checkpoints of the lowest held-out losses kept besides")


class Keras(Section):
    """How `tfscale` runs; never changes what is computed."""

    jit_compile: bool = True


class Options(dict):
    """A table of free keys, hashed by its items, as all of a recipe can be."""

    def __hash__(self):
        return hash(frozenset(self.items()))


class Jax(Section):
    """How `jaxscale` runs; never changes what is computed."""

    scan: bool = Field(True, description="stack the decoder's blocks and scan over them")
    remat: Literal["none", "dots", "full", "offload"] = Field("none", description="what the backward pass does not "
                                                              "keep on the device: nothing, all but products of "
                                                              "weights, everything; or products in the host's memory")
    overlap: bool = Field(True, description="let collectives run beside computation on TPUs and GPUs")
    attention: Literal["auto", "einsum", "cudnn", "splash"] = Field(
        "auto", description="einsum, the reference; a fused kernel: cudnn (NVIDIA GPUs), splash (TPUs), both in "
                            "bfloat16; auto: the fused one that can run, else einsum")
    deterministic: bool = Field(False, description="GPUs: take only operations that give equal bits in every run")
    preallocate: bool = Field(True, description="GPUs: take the memory at the start")
    memory_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="GPUs: share of the memory to take; 0: XLA's default, three quarters")
    xla_options: Annotated[dict[str, bool | int | float | str], AfterValidator(Options)] = Field(
        Options(), description="further options of XLA's for the train step, by name; they win over ours, and one that "
                               "the compiler does not know is refused")

    @field_validator("xla_options", mode="before")
    @classmethod
    def are_options(cls, options):
        for name, value in options.items() if isinstance(options, dict) else ():
            if not re.fullmatch(r"[A-Za-z_]\w{0,127}", str(name), re.ASCII):
                raise ValueError(f"jax.xla_options: {json.dumps(str(name)[:80])}: names are letters, digits and '_', "
                                 "as in xla_tpu_scoped_vmem_limit_kib")
            if not isinstance(value, bool | int | float | str) or isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"jax.xla_options.{name}: a number, true, false or a text is wanted")
        return options

    def kernel(self, precision, width, length, documents, platform, capability=None, sequence=1):
        """What computes attention: "einsum", "cudnn" or "splash".

        Args:
          precision: that of queries, keys and values; width: of a head; length: positions of a row.
          documents: whether a row's documents are kept apart.
          platform, capability: of the devices, as JAX names them; NVIDIA's capabilities are numbers.
          sequence: devices that share a row's positions.
        Raises BadInput where `attention` names a kernel that cannot run there.
        """
        number = capability if platform == "gpu" and re.fullmatch(r"\d+\.\d+", str(capability)) else None
        bfloat16 = precision == "bfloat16", "train.precision=bfloat16", precision
        needs = {
            "cudnn": [(number is not None, "an NVIDIA GPU", platform), (float(number or 8) >= 8, "one of compute "
                      "capability 8.0 (Ampere) or later", number), bfloat16,
                      (width % 8 == 0 and width <= 128, "heads (model.width / model.heads) of a multiple of 8 up to "
                       "128", width), (not documents or length % 2 == 0, "an even data.sequence where documents are "
                                       "kept apart", length), (sequence == 1, "devices.sequence=1", sequence)],
            "splash": [(platform == "tpu", "a TPU", platform), bfloat16,
                       (length % (128 * sequence) == 0, "data.sequence / devices.sequence a multiple of 128",
                        f"{length} / {sequence}")]}
        lacks = {name: next((lack for lack in wanted if not lack[0]), None) for name, wanted in needs.items()}
        if self.attention == "auto":
            return next((name for name, lack in lacks.items() if lack is None), "einsum")
        if lack := one_of(lacks | {"einsum": None}, self.attention, "jax.attention"):
            raise BadInput(f"jax.attention={self.attention}: needs {lack[1]}, this is {lack[2]}; set auto")
        return self.attention

    def environment(self, given):
        """{variable: value} of what XLA reads when it opens a GPU, but for what the environment `given` says."""
        wanted = {} if self.preallocate else {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        old = "XLA_PYTHON_CLIENT_MEM_FRACTION"  # of the same meaning; XLA refuses to have both
        if self.memory_fraction and old not in given:
            wanted["XLA_CLIENT_MEM_FRACTION"] = str(self.memory_fraction)
        return {name: value for name, value in wanted.items() if name not in given}


class Devices(Section):
    """Where a training runs: never changes what is computed, and stays out of the recipe's hash, so that a run may go
    on elsewhere. Sizes count the devices of all hosts together."""

    strategy: Literal["auto", "one", "mirrored", "multiworker", "tpu"] = Field("auto", description="Keras alone")
    tpu: str = Field("local", description="Keras alone: the TPU's name, or local on its own machine")
    hosts: Count = Field(1, description="processes that train together; 0: as many as the cluster says")
    replica: PositiveInt = Field(1, description="slices that share each batch over the network between them")
    data: Count = Field(1, description="devices that share each batch; 0: all that the other axes leave")
    fsdp: PositiveInt = Field(1, description="devices that share each batch and the weights")
    tensor: PositiveInt = Field(1, description="devices that share each matrix product")
    sequence: PositiveInt = Field(1, description="devices that share each row's positions")
    virtual: Count = Field(0, description="devices to make of each host's CPU; 0: none, take what is there")
    watchdog: NonNegative = Field(600.0, description="seconds without a step until the process gives up; 0: never")
    compile_deadline: NonNegative = Field(3600.0, description="the same for the first step; 0: never")


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
    def steady(self):
        """Whether all masks are of the final sparsity."""
        return one_of({"polynomial": False, "constant": True}, self.schedule, "prune: schedule")

    @property
    def last(self):
        """The update that makes the final mask."""
        if self.steady:
            return self.begin or self.every
        due = self.begin + max(1, (3 * self.steps // 4 - self.begin) // self.every) * self.every
        return self.end or due

    @model_validator(mode="after")
    def reaches(self):
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


AnyModel = Annotated[SerializeAsAny[Annotated[Decoder | ConvNet | MLP, Field(discriminator="family")]],
                     OfFamily(FAMILIES, "family")]


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


class Margin(Section):
    """The largest differences between backends in final held-out metrics that do not matter (P7)."""

    loss: Positive = Field(0.02, description="nats; a ratio of perplexities of 1.02")
    accuracy: Annotated[float, Field(gt=0, lt=1)] = Field(0.01, description="share of predictions")


class Compare(Section):
    float64_steps: PositiveInt = Field(30, description="steps of the float64 trajectory (P4) under a lower precision")
    margin: Margin = Margin()


class Recipe(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    data: Annotated[SerializeAsAny[Data], OfSource(SOURCES, "source", "stdlib")] = Data()
    model: AnyModel
    optimizer: Annotated[SerializeAsAny[AnyOptimizer], ByName(OPTIMIZERS, "name", "adamw")] = Optimizer()
    schedule: Annotated[SerializeAsAny[AnySchedule], ByName(SCHEDULES, "kind", "constant")] = Schedule()
    objective: Annotated[SerializeAsAny[ObjectiveOptions], ByName(OBJECTIVES, "name", "cross-entropy")] = (
        ObjectiveOptions())
    train: Train = Train()
    keras: Keras = Keras()
    jax: Jax = Jax()
    devices: Devices = Devices()
    compare: Compare = Compare()
    compress: Compress = Compress()

    @model_validator(mode="after")
    def fits(self):
        train, schedule = self.train, self.schedule
        if train.global_batch % train.accumulate:
            raise ValueError(f"train.accumulate={train.accumulate} does not divide "
                             f"train.global_batch={train.global_batch}")
        spans = {key: getattr(schedule, key) for key in ("warmup", "decay") if hasattr(schedule, key)}
        if sum(spans.values()) > train.steps:
            named = " and ".join(f"schedule.{key}={span}" for key, span in spans.items())
            raise ValueError(f"{named} together exceed train.steps={train.steps}" if len(spans) > 1 else
                             f"{named} exceeds train.steps={train.steps}")
        if problem := described(schedule).problem(schedule):
            raise ValueError(problem)
        terms = objective_of(self).terms
        for key in ("label_smoothing", "z_loss"):
            if getattr(train, key) and key not in terms:
                raise ValueError(f"train.{key}={getattr(train, key)} is a term that objective.name="
                                 f"{short(self.objective.name)} does not have; set it to 0")
        text = reads_text(self.model)
        if text and self.data.augment:
            raise ValueError(f'data.augment is for images, but model.family="{short(self.model.family)}" reads text')
        name, unknown = source_of(self.data.source)
        if unknown and not text:  # text is asked for where it is opened
            raise ValueError(unknown)
        holds = load(SOURCES, name).holds if name else "either"
        if holds not in ("text" if text else "images", "either"):
            raise ValueError(f'data.source="{short(self.data.source)}" holds {holds}, which '
                             f'model.family="{short(self.model.family)}" does not read')
        return self

    @property
    def hash(self):
        """SHA-256 of the canonical JSON: equal for equal recipes, whatever file, order or override they came from, and
        whatever the devices and the checkpoints."""
        saving, later = {"save_every", "save_minutes", "keep", "keep_best"}, self.later
        exclude = {"devices": True, **later, "train": saving | later.get("train", set())}
        return digest(self.model_dump(mode="json", exclude=exclude))

    @property
    def meaning(self):
        """SHA-256 of what decides the numbers alone: not names, ways to run, logging, checkpoints or margins."""
        outward = {"name": True, "keras": True, "jax": True, "devices": True, "compare": True,
                   "train": {"log_every", "eval_every", "save_every", "save_minutes", "keep", "keep_best", "metrics",
                             *self.later.get("train", ())}}
        return digest(self.model_dump(mode="json", exclude=self.later | outward))

    @property
    def later(self):
        """Keys that earlier recipes did not have, where they say what held then: their hashes stay."""
        first = {("data", "label"): "label", ("jax", "xla_options"): Options(), ("train", "metrics"): ()}
        found = {"objective": True} if self.objective == ObjectiveOptions() else {}
        for (table, key), value in first.items():
            if getattr(getattr(self, table), key) == value:
                found.setdefault(table, set()).add(key)
        return found

    def with_values(self, **sections):
        """A validated copy with some values replaced: `recipe.with_values(train={"steps": 5})`."""
        values = self.model_dump()
        for section, changes in sections.items():
            values[section] = {**values[section], **changes} if isinstance(changes, dict) else changes
            if section == "data" and values["data"]["source"] != self.data.source:  # which alone had some keys
                kept = Data.model_fields.keys() | changes.keys()
                values["data"] = {key: value for key, value in values["data"].items() if key in kept}
        return Recipe.model_validate(values)


AXES = ("replica", "data", "fsdp", "tensor", "sequence")  # of the mesh, from the slowest network to the fastest


def mesh_shape(recipe, framework, found, platform):
    """{axis: size} of the mesh that a recipe trains on, of the `found` devices of all hosts.

    Raises MissingEnvironment where `framework` finds too few, BadInput where they do not divide what they share.
    """
    devices, rows = recipe.devices, micro_batch(recipe)
    others = devices.replica * devices.fsdp * devices.tensor * devices.sequence
    shape = {axis: getattr(devices, axis) for axis in AXES}
    shape["data"] = devices.data or max(1, found // others)
    count = math.prod(shape.values())
    named = " x ".join(f"devices.{axis}={size}" for axis, size in shape.items() if size > 1)
    if count > found:
        raise MissingEnvironment(f"{named} needs {count} devices, but {framework} finds {found} ({platform}): take "
                                 "less, or on a CPU set devices.virtual")
    shares = shape["replica"] * shape["data"] * shape["fsdp"]
    if rows % shares:
        raise BadInput(f"{named}: {shares} shares of a batch do not divide the {rows} rows of a micro-batch "
                       f"(train.global_batch / train.accumulate): take a multiple of {shares}")
    sizes = {key: (size, getattr(devices, axis)) for key, (size, axis) in traits_of(recipe.model).shared.items()}
    if reads_text(recipe.model):
        sizes["data.sequence"] = recipe.data.sequence, devices.sequence
    elif devices.sequence > 1:
        raise BadInput(f"devices.sequence={devices.sequence}: images have no sequence to share; set it to 1")
    for key, (size, share) in sizes.items():
        if size % share:
            raise BadInput(f"{named} does not divide {key}={size}: {share} devices cannot share it")
    return shape


def digest(values):
    """SHA-256 (hex) of values as canonical JSON; a plug-in's file is known by its name and content, wherever it is."""
    return hashlib.sha256(json.dumps(_portable(values), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _portable(values):
    if isinstance(values, dict | list):
        return ({key: _portable(value) for key, value in values.items()} if isinstance(values, dict) else
                [_portable(value) for value in values])
    return portable(values) if isinstance(values, str) and "#sha256=" in values else values


def micro_batch(recipe):
    """Rows of one micro-batch, over all devices."""
    return recipe.train.global_batch // recipe.train.accumulate


def positions(recipe):
    """Labels of one update: tokens of text, or images."""
    return recipe.train.global_batch * (recipe.data.sequence if reads_text(recipe.model) else 1)


def in_float64(recipe):
    """The recipe in float64, by which programs are compared without rounding. Where that is another precision than its
    own, Keras runs it as TensorFlow's own kernels: they need no compiling, and share no compiler with JAX."""
    if recipe.train.precision == "float64":
        return recipe
    return recipe.with_values(train={"precision": "float64"}, keras={"jit_compile": False})


def master_dtype(recipe):
    """The dtype of weights and optimizer slots: float32 masters under bfloat16 compute."""
    return one_of(MASTERS, recipe.train.precision, "train.precision")
