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

__all__ = ["OPTIMIZERS", "Optimizer", "Options", "OwnOptions", "Slot", "bias_correction", "described", "mixed"]
