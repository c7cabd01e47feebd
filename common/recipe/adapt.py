"""The table [adapt] of a recipe: what is trained of a model whose own weights stay."""

from typing import Literal

from pydantic import Field, PositiveInt

from twinscale.common.section import Positive, Section


class Adapt(Section):
    """Low-rank adapters (LoRA, Hu et al. 2021): beside each targeted kernel W (inputs, outputs), which stays, two small
    ones are trained, A (inputs, rank) and B (rank, outputs), and the model computes with W + (alpha / rank) A B.

    A begins with normal values of deviation 1 / sqrt(inputs), B with zeros, so that the first step is the model's own.
    All tensors but A, B and those of `train` stay as they are.
    """

    kind: Literal["none", "lora"] = "none"
    rank: PositiveInt = Field(8, description="columns of A, rows of B")
    alpha: Positive = Field(16.0, description="A B counts alpha / rank")
    targets: tuple[str, ...] = Field(("*.query.kernel", "*.value.kernel"), strict=False, min_length=1,
                                     description="patterns of canonical names of the kernels that get adapters")
    train: tuple[str, ...] = Field(("head.*",), strict=False,
                                   description="patterns of canonical names of what is trained besides")

    @property
    def scale(self) -> float:
        """What A B is multiplied by."""
        return self.alpha / self.rank
