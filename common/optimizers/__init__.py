"""The optimizers that a recipe may name; docs/adding.md says how to add one."""

from twinscale.common.optimizers.base import (
    OPTIMIZERS,
    Optimizer,
    Options,
    OwnOptions,
    Slot,
    bias_correction,
    described,
    mixed,
)
from twinscale.common.optimizers.pair import OWN, PairOptions, in_both

__all__ = ["OPTIMIZERS", "OWN", "Optimizer", "Options", "OwnOptions", "PairOptions", "Slot", "bias_correction",
           "described", "in_both", "mixed"]
