"""Metrics as (statistics, finish): sums that add up over replicas and batches, and what a person reads from them."""

from twinscale.common.metrics.base import (
    METRICS,
    Metric,
    added,
    bounds_of,
    finished,
    finished_one,
    higher_is_better,
    judge_apart,
    own_sums,
    statistics_of,
    total,
    tried,
    ways_of,
)
from twinscale.common.metrics.classification import MEANS, finish, statistics
from twinscale.common.metrics.flips import NEAR

__all__ = ["MEANS", "METRICS", "Metric", "NEAR", "added", "bounds_of", "finish", "finished", "finished_one",
           "higher_is_better", "judge_apart", "own_sums", "statistics", "statistics_of", "total", "tried", "ways_of"]
