"""The table [adapt] of a recipe: what is trained of a model whose own weights stay."""

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from twinscale.common.section import Fraction, Positive, Section

LOW_RANK = ("rank", "alpha", "dropout", "targets")  # the keys that are of low-rank adapters alone


class Adapt(Section):
    """Low-rank adapters (LoRA, Hu et al. 2021): beside each targeted kernel W (inputs, outputs), which stays, two small
    ones are trained, A (inputs, rank) and B (rank, outputs), and the model computes with W + (alpha / rank) A B.

    A begins with normal values of deviation 1 / sqrt(inputs), B with zeros, so that the first step is the model's own.
    Bottleneck adapters (Houlsby et al. 2019) are layers of the model: behind the attention and behind the feed-forward
    layer of each block x becomes x + up(activation(down(x))), `width` values between the two. `up` begins with zeros.

    All tensors but those of the adapters and of `train` stay as they are.
    """

    kind: Literal["none", "lora", "bottleneck"] = "none"
    width: PositiveInt = Field(64, description="of bottleneck adapters: values between down and up")
    rank: PositiveInt = Field(8, description="columns of A, rows of B")
    alpha: Positive = Field(16.0, description="A B counts alpha / rank")
    dropout: Fraction = Field(0.0, description="share of a kernel's inputs that A does not see in a step, the same "
                                               "ones in all its rows and positions; the others count 1 / (1 - dropout)")
    targets: tuple[str, ...] = Field(("*.query.kernel", "*.value.kernel"), strict=False, min_length=1,
                                     description="patterns of canonical names of the kernels that get adapters")
    train: tuple[str, ...] = Field(("head.*",), strict=False,
                                   description="patterns of canonical names of what is trained besides")

    @model_validator(mode="after")
    def one_kind(self) -> Self:
        """The table; raises ValueError where it says of one kind of adapters what only another has."""
        others = {"lora": ("width",), "bottleneck": LOW_RANK}.get(self.kind, ())
        for key in others:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f'adapt.{key}={getattr(self, key)!r} is not of adapt.kind="{self.kind}": leave it out')
        return self

    @property
    def scale(self) -> float:
        """What A B is multiplied by."""
        return self.alpha / self.rank
