"""Schedules: one float64 table, a value for each optimizer update, fed to both backends."""

import numpy as np

from twinscale.common.errors import one_of

# The share of the way from `final` up to the peak, by the progress of the decay within 0 and 1.
SHAPES = {"constant": np.ones_like, "cosine": lambda progress: (1 + np.cos(np.pi * progress)) / 2,
          "linear": lambda progress: 1 - progress, "wsd": lambda progress: 1 - progress}


def learning_rates(recipe):
    """The learning rate of every update: float64, shape (train.steps,).

    Update t (from 0) of a warm-up of w has (t + 1) / w of the peak. The decay starts at the peak right after the
    warm-up and reaches `schedule.final` at the last update; `wsd` (Hu et al. 2024, "MiniCPM") stays at the peak
    and decays linearly over the last `schedule.decay` updates.
    """
    s, steps = recipe.schedule, recipe.train.steps
    t = np.arange(steps, dtype=np.float64)
    start = steps - s.decay if s.kind == "wsd" else s.warmup
    progress = np.clip((t - start + (s.kind == "wsd")) / max(1, steps - 1 - start + (s.kind == "wsd")), 0, 1)
    shape = one_of(SHAPES, s.kind, "schedule.kind")(progress)
    factor = shape if s.kind == "constant" else s.final + (1 - s.final) * shape
    warm = np.minimum(1, (t + 1) / s.warmup) if s.warmup else 1.0
    return recipe.optimizer.learning_rate * factor * warm
