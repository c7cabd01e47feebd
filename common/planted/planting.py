"""What can be planted, as data: a patch point, where it shows, what a comparison is to say of it and what it needs."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from twinscale.common.data import open_dataset
from twinscale.common.families import family_of, reads_text, traits_of
from twinscale.common.families.places import draws, places
from twinscale.common.objectives import described as objective_of
from twinscale.common.optimizers import Options, described
from twinscale.common.schedules import described as schedule_of

Planted = Callable[..., Iterator[None]]  # what is planted as long as it is open, of a place or of none: generators


def traits(options: Options) -> list[str]:
    """What there is of an optimizer that a change may need, by a recipe's section."""
    kind = described(options)
    return [kind.title, *kind.traits(options)]


FAMILIES = "decoder", "convnet", "mlp", "encoder", "resnet", "vit"  # in whose own builders' lines something is planted

AUGMENTED = {"word dropout": "word-dropout", "mixtures": "mixup", "operations at random": "rand-augment",
             "crops made larger": "resized-crop"}

# What a recipe has that a change may need, so that it shows: {word: whether a recipe has it}.
HAS = {
    "text": lambda r: reads_text(r.model), "pictures": lambda r: family_of(r.model).reads == "images",
    # What is planted in the lines of one family's own builders.
    **{name: lambda r, name=name: name in traits_of(r.model).planted
       for name in FAMILIES},
    "bottlenecks": lambda r: getattr(r.model, "block", "") == "bottleneck",
    "max pooling": lambda r: any(place.operation == "max pooling" for place in places(r.model).values()),
    "a pooler": lambda r: "pooler" in places(r.model), "types": lambda r: "token_type" in places(r.model),
    "a masked head": lambda r: getattr(r.model, "head", "") == "masked",
    "hidden pieces": lambda r: r.data.masked > 0, "pairs of halves": lambda r: r.data.next_sentence,
    **{word: lambda r, choice=choice: choice in r.data.augment for word, choice in AUGMENTED.items()},
    "classes that weigh": lambda r: r.train.class_weights != "none", "adapters": lambda r: r.adapt.kind != "none",
    "frozen tensors": lambda r: bool(r.optimizer.freeze), "rates by depth": lambda r: r.optimizer.layer_decay != 1,
    "pooled tokens": lambda r: getattr(r.model, "head", "") == "embedding",
    "classes": lambda r: not objective_of(r).judged,
    "a norm": lambda r: any(place.operation == "norm" for place in places(r.model).values()),
    "layer norm": lambda r: traits_of(r.model).norm == "layer", "RMS norm": lambda r: traits_of(r.model).norm == "rms",
    "GELU": lambda r: traits_of(r.model).activation == "gelu",
    "ReLU": lambda r: traits_of(r.model).activation == "relu",
    "SwiGLU": lambda r: traits_of(r.model).activation == "swiglu",
    "rotary positions": lambda r: getattr(r.model, "positions", "") == "rotary",
    "learned positions": lambda r: getattr(r.model, "positions", "") == "learned",
    "a tied head": lambda r: getattr(r.model, "tied", False),
    "biases": lambda r: getattr(r.model, "bias", True),
    "key heads that share": lambda r: (a := traits_of(r.model).attention) is not None and a.key_heads < a.heads,
    "key heads of their own": lambda r: (a := traits_of(r.model).attention) is not None and a.key_heads == a.heads,
    "several blocks": lambda r: traits_of(r.model).blocks > 1, "a scan": lambda r: r.jax.scan,
    "dropout": lambda r: draws(r.model), "documents kept apart": lambda r: not r.data.cross_documents,
    "augmented pictures": lambda r: "shift" in r.data.augment,
    "label smoothing": lambda r: r.train.label_smoothing > 0, "z-loss": lambda r: r.train.z_loss > 0,
    "micro-batches": lambda r: r.train.accumulate > 1, "clipping": lambda r: r.optimizer.clip_norm > 0,
    "weight decay": lambda r: r.optimizer.weight_decay > 0, "an average": lambda r: r.optimizer.ema > 0,
    **{word: lambda r, word=word: word in traits(r.optimizer)
       for word in ("AdamW", "Lion", "LAMB", "SGD", "momentum", "Nesterov")},
    "a schedule": lambda r: schedule_of(r.schedule).moves or r.schedule.warmup > 0,
    "warm-up": lambda r: r.schedule.warmup > 1, "a cosine": lambda r: schedule_of(r.schedule).title == "cosine",
    "float32": lambda r: r.train.precision == "float32", "bfloat16": lambda r: r.train.precision == "bfloat16",
    "less than float64": lambda r: r.train.precision != "float64",
    "several devices": lambda r: r.devices.data > 1,
    "more than three updates": lambda r: min(r.train.steps, r.compare.float64_steps) > 3,  # then it is stopped
    "an epoch that ends": lambda r: r.train.steps * r.train.global_batch > len(open_dataset(r).train),
}
# What the class of operation that a change is in needs by itself, and the phase of training that it belongs to.
NEEDS = {"attention mask": "decoder", "attention scores": "decoder", "attention mix": "decoder", "softmax": "decoder",
         "rotary positions": "rotary positions", "residual": "decoder", "convolution": "convnet", "pooling": "convnet",
         "random bits": "dropout", "accumulation": "micro-batches", "clip": "clipping", "decay": "weight decay",
         "average": "an average", "schedule": "a schedule",
         "checkpoint": "more than three updates"}
PHASES = {"data": "data", "initial value": "start", "loss": "loss", "accumulation": "accumulation", "clip": "clip",
          "moment": "optimizer", "update": "optimizer", "decay": "optimizer", "average": "EMA", "schedule": "schedule",
          "evaluation": "evaluation", "checkpoint": "checkpoint"}  # others are of the forward pass


@dataclass(frozen=True)
class Change:
    """One thing to plant: a context manager, and for a mutant what a comparison is to say of it."""

    plant: Callable[..., AbstractContextManager[None]]
    recipe: str  # of `benchmarks.audit.RECIPES`, the one that it shows in; PAIR of what is planted at a place of a pair
    operation: str = ""  # the class of operation to be named; "" for a change that is harmless
    where: str = "*"  # pattern of the place to be named
    more: str = ""  # words of HAS, by commas, besides what the operation needs
    when: str = ""  # the phase of training, where it is not the operation's

    @property
    def meaning(self) -> str:
        """What it changes, in words."""
        return " ".join((self.plant.__doc__ or "").split())

    @property
    def needs(self) -> tuple[str, ...]:
        """What a recipe is to have, so that it shows: words of HAS."""
        own = NEEDS.get(self.operation) if self.when != "devices" else "several devices"
        more = [*filter(None, map(str.strip, self.more.split(",")))]
        if own in FAMILIES and set(more).intersection(FAMILIES):  # it is in the lines of another family
            own = None
        return tuple(dict.fromkeys([*filter(None, [own]), *more]))

    @property
    def phase(self) -> str:
        """The phase of training that it changes; "" for a change that is harmless."""
        return self.when or (PHASES.get(self.operation, "forward") if self.operation else "")


def registry() -> tuple[dict[str, Change], Callable[..., Callable[[Planted], Planted]]]:
    """(changes by name, a decorator that adds a generator function to them)."""
    changes = {}

    def change(recipe, operation="", where="*", needs="", phase=""):
        def add(function):
            changes[function.__name__] = Change(contextmanager(function), recipe, operation, where, needs, phase)
            return function

        return add

    return changes, change
