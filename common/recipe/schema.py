"""The recipe: the validated description of one training. `common/recipe/file.py` reads it from TOML."""

import hashlib
import json
import math
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PositiveInt, SerializeAsAny, model_validator

from twinscale.common.errors import BadInput, MissingEnvironment, one_of
from twinscale.common.families import family_of, reads_text, traits_of
from twinscale.common.families.sharding import SHARED, check_rules
from twinscale.common.files.access import shown
from twinscale.common.files.pins import MARK, unpinned
from twinscale.common.metrics import METRICS, added, higher_is_better, tried, ways_of
from twinscale.common.numbers.formats import MASTERS
from twinscale.common.objectives import OBJECTIVES, ObjectiveOptions
from twinscale.common.objectives import described as objective_of
from twinscale.common.optimizers import OPTIMIZERS
from twinscale.common.optimizers import Options as AnyOptimizer
from twinscale.common.optimizers import OwnOptions as Optimizer
from twinscale.common.optimizers import described as optimizer_of
from twinscale.common.quality import Subset, Thresholds
from twinscale.common.recipe.adapt import Adapt
from twinscale.common.recipe.compress import Compress
from twinscale.common.recipe.model import AnyModel
from twinscale.common.recipe.products import products_problem
from twinscale.common.recipe.running import JAX_LATER, Devices, Jax, Keras
from twinscale.common.registry import is_reference, portable, short
from twinscale.common.schedules import SCHEDULES, described
from twinscale.common.schedules import OwnSchedule as Schedule
from twinscale.common.schedules import ScheduleOptions as AnySchedule
from twinscale.common.section import ByName, Count, Fraction, FreeTable, NonNegative, Positive, Section, an_entry
from twinscale.common.sources import (
    PACKED,
    SOURCES,
    TRAINED,
    Augmenting,
    Data,
    OfSource,
    source_named,
    source_of,
    unfit,
)


def of_classes(weights: Any) -> Any:
    """What `train.class_weights` says. Raises ValueError, once and not for each kind of value, where it says neither
    of them."""
    table = isinstance(weights, dict) and weights and all(
        isinstance(x, int | float) and not isinstance(x, bool) and 0 < x < math.inf for x in weights.values())
    if not table and weights not in ("none", "balanced"):
        raise ValueError(f'train.class_weights={shown(weights, 80)}: expected "none", "balanced" or a table {{class: '
                         "weight} of weights above 0")
    return weights


ClassWeights = Annotated[Literal["none", "balanced"] | Annotated[dict[str, Positive], AfterValidator(FreeTable)],
                         BeforeValidator(of_classes)]


class Train(Section):
    """How long and on how much is trained, and what is kept of it. An update is of `global_batch` rows, however many
    micro-batches and devices share them."""

    steps: PositiveInt = Field(100, description="optimizer updates")
    global_batch: PositiveInt = Field(8, description="rows of an update, over all devices and micro-batches")
    accumulate: PositiveInt = Field(1, description="micro-batches an update")
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    products: Literal["full", "int8", "fp8"] = Field("full", description="what JAX' blocks multiply their weights in: "
                                                     "train.precision, or 8 bits, whole or floating")
    label_smoothing: Fraction = 0.0
    z_loss: NonNegative = Field(0.0, description="weight of logsumexp(logits)^2 (Chowdhery et al. 2022)")
    metrics: Annotated[tuple[Annotated[str, an_entry(METRICS)], ...], AfterValidator(tried)] = Field(
        (), strict=False, description="what evaluations measure besides loss and accuracy")
    class_weights: ClassWeights = Field("none", description="what a position counts in training by its class: "
                                        '"balanced", or a table {class: weight}, 1 where a class is not in it')
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = Field(
        (), strict=False, description="trackers of experiments that the training is logged to besides")
    log_every: PositiveInt = 10
    eval_every: Count = Field(0, description="steps between evaluations; 0 evaluates at the end alone")
    save_every: Count = Field(0, description="steps between checkpoints; 0: by time and at the end alone")
    save_minutes: NonNegative = Field(1.0, description="minutes between checkpoints; 0: by steps and at the end alone")
    keep: PositiveInt = Field(2, description="newest checkpoints kept")
    keep_best: Count = Field(0, description="checkpoints kept besides at which what is watched was best")
    watch: str = Field("loss", description="the value of evaluations that says which state is best")
    stop_after: Count = Field(0, description="evaluations without a better one after which training ends; 0: none")


class Margin(Section):
    """The largest differences between backends in final held-out metrics that do not matter (P7)."""

    loss: Positive = Field(0.02, description="nats; a ratio of perplexities of 1.02")
    accuracy: Annotated[float, Field(gt=0, lt=1)] = Field(0.01, description="share of predictions")
    f1_macro: Annotated[float, Field(gt=0, lt=1)] = Field(0.01, description='the mean F1 of classes, of "report"')
    entity_f1: Annotated[float, Field(gt=0, lt=1)] = Field(0.01, description='F1 of entities, of "entities"')


class Compare(Section):
    """What a comparison of both backends asks for besides its rungs' own bounds, which are measured or derived and not
    set here; never changes what is trained."""

    float64_steps: PositiveInt = Field(30, description="steps of the float64 trajectory (P4) under a lower precision")
    margin: Margin = Margin()


def with_programs(schema: dict[str, Any]) -> None:
    """Adds [programs] to the JSON schema of a recipe, in which they stand beside [model] and are of it."""
    own = {key: {"type": "string"} for key in ("a", "b")} | {"framework": {"enum": ["keras", "flax"]},
                                                           "side": {"enum": ["a", "b"], "default": "a"}}
    schema["properties"]["programs"] = {
        "type": "object", "properties": own, "additionalProperties": False, "required": ["a", "b", "framework"],
        "description": "Two programs of one framework, where model.family is \"pair\"."}


class Recipe(Section):
    """A training, the same for both backends: what it reads, the model, how it is trained and compressed, and where it
    runs."""

    model_config = ConfigDict(json_schema_extra=with_programs)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    data: Annotated[SerializeAsAny[Data], OfSource(SOURCES, "source", "stdlib")] = Data()
    model: AnyModel
    optimizer: Annotated[SerializeAsAny[AnyOptimizer], ByName(OPTIMIZERS, "name", "adamw")] = Optimizer()
    schedule: Annotated[SerializeAsAny[AnySchedule], ByName(SCHEDULES, "kind", "constant")] = Schedule()
    objective: Annotated[SerializeAsAny[ObjectiveOptions], ByName(OBJECTIVES, "name", "cross-entropy")] = (
        ObjectiveOptions())
    adapt: Adapt = Adapt()
    train: Train = Train()
    keras: Keras = Keras()
    jax: Jax = Jax()
    devices: Devices = Devices()
    compare: Compare = Compare()
    compress: Compress = Compress()

    @model_validator(mode="before")
    @classmethod
    def paired(cls, values: Any) -> Any:
        """[programs], the two programs of a pair of one framework, are of its model."""
        if not isinstance(values, dict) or "programs" not in values:
            return values
        model, programs = values.get("model", {}), values["programs"]
        if not (isinstance(model, dict) and isinstance(programs, dict) and model.get("family") == "pair"):
            raise ValueError('[programs] are those of a pair: a table of a, b and framework, beside model.family = '
                             '"pair"')
        return {key: value for key, value in values.items() if key != "programs"} | {"model": model | programs}

    @model_validator(mode="before")
    @classmethod
    def probed(cls, values: Any) -> Any:
        """A pair that reads arrays has the probe for its objective where it says none; optimizers and losses of the
        user's own are pairs."""
        if not isinstance(values, dict):
            return values
        for table in ("optimizer", "objective"):
            own = values.get(table)
            if isinstance(own, dict) and "name" not in own and {"keras", "jax"} & own.keys():
                values = values | {table: {"name": "pair", **own}}
        model = values.get("model")
        reads = model.get("reads") if isinstance(model, dict) else None
        return values | {"objective": {"name": "probe"}} if reads == "arrays" and "objective" not in values else values

    @model_validator(mode="after")
    def fits(self) -> Self:
        """Raises ValueError where tables do not go together."""
        train, schedule = self.train, self.schedule
        if train.global_batch % train.accumulate:
            raise ValueError(f"train.accumulate={train.accumulate} does not divide "
                             f"train.global_batch={train.global_batch}")
        spans = {key: getattr(schedule, key) for key in ("warmup", "decay") if hasattr(schedule, key)}
        if sum(spans.values()) > train.steps:
            named = " and ".join(f"schedule.{key}={span}" for key, span in spans.items())
            raise ValueError(f"{named} together exceed train.steps={train.steps}" if len(spans) > 1 else
                             f"{named} exceeds train.steps={train.steps}")
        if problem := described(schedule).problem(schedule) or products_problem(self):
            raise ValueError(problem)
        alike = self.optimizer.layer_decay == 1 and not self.optimizer.freeze
        if not alike and (optimizer_of(self.optimizer).theirs or self.compress.stages):
            what = "stages of a compression move" if self.compress.stages else "your own optimizer moves"
            raise ValueError(f"optimizer.freeze, optimizer.layer_decay: {what} every tensor alike; leave them out")
        if optimizer_of(self.optimizer).theirs and schedule != Schedule():
            raise ValueError(f"schedule.kind={short(schedule.kind)}: the learning rate is inside of your own "
                             "optimizers, and a schedule of it: say it there, and leave out [schedule]")
        self.jax.check_places(self.model)
        self.jax.check_fused(self.model, self.devices.tensor)
        terms = objective_of(self).terms
        if train.metrics and family_of(self.model).reads == "arrays" and not objective_of(self).labels:
            raise ValueError(f"train.metrics={list(map(short, train.metrics))} read labels, and "
                             f"objective.name={short(self.objective.name)} reads none; leave them out, or set another")
        for key in ("label_smoothing", "z_loss"):
            if getattr(train, key) and key not in terms:
                raise ValueError(f"train.{key}={getattr(train, key)} is a term that objective.name="
                                 f"{short(self.objective.name)} does not have; set it to 0")
        text, reads = reads_text(self.model), family_of(self.model).reads
        name, unknown = source_of(self.data.source)
        if unknown and not text:  # text is asked for where it is opened
            raise ValueError(unknown)
        source = source_named(name) if name else None
        if problem := unfit(self.data, source, reads, self.model.family):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def narrowed(self) -> Self:
        """The recipe, whose model has adapters as narrow as `adapt.width` where it trains such; they stay in the model.
        Raises ValueError where the model says another width, or cannot have any."""
        if self.adapt.kind != "bottleneck":
            return self
        width, said = self.adapt.width, getattr(self.model, "bottleneck", None)
        if said is None:
            raise ValueError(f'adapt.kind="bottleneck": model.family="{short(self.model.family)}" has no blocks of '
                             'attention and feed-forward layers to have adapters behind: take adapt.kind="lora"')
        if said not in (0, width):
            raise ValueError(f"model.bottleneck={said} is another width than adapt.width={width}: set both, or leave "
                             "model.bottleneck out")
        object.__setattr__(self, "model", self.model.model_copy(update={"bottleneck": width}))
        return self

    @model_validator(mode="after")
    def adaptable(self) -> Self:
        """Raises ValueError where adapters do not go with what else a recipe says."""
        if self.adapt.kind == "none":
            return self
        said = f'adapt.kind="{self.adapt.kind}"'
        if self.compress.stages:
            raise ValueError(f"{said}: stages of a compression train all of a model: compress what `twinscale export` "
                             "makes of the run, or leave one of both out")
        if optimizer_of(self.optimizer).theirs or traits_of(self.model).foreign:
            whose = "your own optimizers move" if optimizer_of(self.optimizer).theirs else "programs of your own have"
            raise ValueError(f"{said}: {whose} their tensors in ways that are not known here: leave it out")
        return self

    @model_validator(mode="after")
    def measured(self) -> Self:
        """Raises ValueError where a metric is of classes, and labels are none."""
        odd = [metric.title for metric in added(self.train.metrics) if metric.classes and objective_of(self).judged]
        if odd:
            raise ValueError(f'train.metrics: "{odd[0]}" is of classes, and objective.name='
                             f"{short(self.objective.name)} has none: leave it out")
        weights, reads = self.train.class_weights, family_of(self.model).reads
        if weights != "none" and (reads == "text" or objective_of(self).judged):
            what = f"{short(self.objective.name)}, of no classes"
            said = "text, whose labels are tokens" if reads == "text" else what
            raise ValueError(f"train.class_weights: for {said}: leave it out")
        return self

    @model_validator(mode="after")
    def watched(self) -> Self:
        """Raises ValueError where what is watched is not measured, or never."""
        train, of_classes = self.train, not objective_of(self).judged
        if higher_is_better(train.metrics, train.watch) is None:
            known = ", ".join(pattern for pattern, _ in ways_of(train.metrics))
            raise ValueError(f'train.watch="{train.watch}": of no value that is measured so is known whether more of '
                             f"it is better: take one of {known}, or add its metric to train.metrics")
        needs = {"accuracy": of_classes, **dict.fromkeys(("perplexity", "bits_per_byte"), reads_text(self.model))}
        if not needs.get(train.watch, True):
            raise ValueError(f'train.watch="{train.watch}": is not measured of such a model or objective: take "loss"')
        if train.stop_after and not train.eval_every:
            raise ValueError(f"train.stop_after={train.stop_after} counts evaluations, and train.eval_every=0 has none "
                             "before the end: set it")
        return self

    @model_validator(mode="after")
    def pieces(self) -> Self:
        """Raises ValueError where the tokenizer is not of what the model reads."""
        reads, tokenizer = family_of(self.model).reads, self.data.tokenizer
        name = source_of(self.data.source)[0]
        if name and reads == "text" and tokenizer not in PACKED:
            raise ValueError(f'data.tokenizer="{tokenizer}" is for labelled text, but model.family='
                             f'"{short(self.model.family)}" reads text that is packed: set "bpe" or "bytes"')
        if name and reads == "arrays" and tokenizer in PACKED and (
                source_named(name).labelled or self.data.unlabelled):
            raise ValueError(f'data.tokenizer="{tokenizer}" is for text that is packed: of labelled text, set '
                             f'"{TRAINED}", or the path of a tokenizer.json or vocab.txt')
        return self

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON: equal for equal recipes, whatever file, order or override they came from, and
        whatever the devices and the checkpoints."""
        saving, later = {"save_every", "save_minutes", "keep", "keep_best", "trackers"}, self.later
        exclude = {"devices": True, **later, "train": saving | later.get("train", set())}
        return digest(self.model_dump(mode="json", exclude=exclude))

    @property
    def meaning(self) -> str:
        """SHA-256 of what decides the numbers alone: not names, ways to run, logging, checkpoints or margins."""
        outward = {"name": True, "keras": True, "jax": True, "devices": True, "compare": True,
                   "model": {"side", *self.later.get("model", ())},
                   "train": {"log_every", "eval_every", "save_every", "save_minutes", "keep", "keep_best", "metrics",
                             "watch", "stop_after", "trackers", *self.later.get("train", ())}}
        return digest(self.model_dump(mode="json", exclude=self.later | outward))

    @property
    def later(self) -> dict[str, Any]:
        """Keys that earlier recipes did not have, where they say what held then: their hashes stay."""
        first = {**{("data", key): value for key, value in Data().model_dump(include={
            "label", "inputs", "rows", "seed", "header", "quotes", "labels", "tags",
            "standardise", "mean", "deviation",
            "masked", "masked_by", "span", "augment_share", "next_sentence", "field_2", "rewrite"}).items()},
            ("data", "augmenting"): Augmenting(), ("data", "size"): 0,
            ("data", "quality"): (), ("data", "quality_options"): Thresholds(), ("data", "subset"): Subset(),
            **JAX_LATER, ("train", "metrics"): (), ("model", "weights"): "",
            ("model", "bottleneck"): 0, ("adapt", "width"): Adapt().width, ("adapt", "dropout"): 0.0,
            ("optimizer", "freeze"): (), ("optimizer", "layer_decay"): 1.0,
            ("train", "class_weights"): "none", ("train", "watch"): "loss", ("train", "stop_after"): 0,
            ("train", "products"): "full"}
        found: dict[str, Any] = {"objective": True} if self.objective == ObjectiveOptions() else {}
        for (table, key), value in first.items():
            if getattr(getattr(self, table), key, None) == value:
                found.setdefault(table, set()).add(key)
        found |= {"adapt": True} if self.adapt == Adapt() else {}
        margin, usual = self.compare.margin, Margin()
        alike = {key for key in ("f1_macro", "entity_f1") if getattr(margin, key) == getattr(usual, key)}
        return found | ({"compare": {"margin": alike}} if alike else {})

    def with_values(self, **sections: Any) -> "Recipe":
        """A validated copy with some values replaced: `recipe.with_values(train={"steps": 5})`."""
        values = self.model_dump()
        for section, changes in sections.items():
            values[section] = {**values[section], **changes} if isinstance(changes, dict) else changes
            if section == "data" and values["data"]["source"] != self.data.source:  # which alone had some keys
                kept = Data.model_fields.keys() | changes.keys()
                values["data"] = {key: value for key, value in values["data"].items() if key in kept}
        return Recipe.model_validate(values)


AXES = ("replica", "data", "fsdp", "tensor", "sequence")  # of the mesh, from the slowest network to the fastest


def mesh_shape(recipe: Recipe, framework: str, found: int, platform: str) -> dict[str, int]:
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
    if sharding := traits_of(recipe.model).sharding:
        check_rules(sharding, {axis: getattr(devices, axis) for axis in SHARED})
    for key, (size, share) in sizes.items():
        if size % share:
            raise BadInput(f"{named} does not divide {key}={size}: {share} devices cannot share it")
    return shape


def digest(values: Any) -> str:
    """SHA-256 (hex) of values as canonical JSON; a plug-in's file is known by its name and content, wherever it is."""
    return hashlib.sha256(json.dumps(_portable(values), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _portable(values):
    if isinstance(values, dict | list):
        return ({key: _portable(value) for key, value in values.items()} if isinstance(values, dict) else
                [_portable(value) for value in values])
    if not isinstance(values, str) or MARK not in values:
        return values
    return portable(values) if is_reference(values) else f"{unpinned(values).name}{MARK}{values.rpartition(MARK)[2]}"


def micro_batch(recipe: Recipe) -> int:
    """Rows of one micro-batch, over all devices."""
    return recipe.train.global_batch // recipe.train.accumulate


def positions(recipe: Recipe) -> int:
    """Labels of one update: tokens of text, or images."""
    return recipe.train.global_batch * (recipe.data.sequence if reads_text(recipe.model) else 1)


def in_sharpest(recipe: Recipe) -> Recipe:
    """The recipe in float64, by which programs are compared without rounding, or in the precision in which they compute
    whatever comes in. Where that is another than its own, Keras runs it as TensorFlow's own kernels: they need no
    compiling, and share no compiler with JAX."""
    sharpest = traits_of(recipe.model).computes or "float64"
    if recipe.train.precision == sharpest:
        return recipe
    return recipe.with_values(train={"precision": sharpest, "products": "full"}, keras={"jit_compile": False})


def master_dtype(recipe: Recipe) -> str:
    """The dtype of weights and optimizer slots: float32 masters under bfloat16 compute."""
    return one_of(MASTERS, recipe.train.precision, "train.precision")
