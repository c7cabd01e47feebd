"""Metrics as (statistics, finish): sums that add up over replicas and batches, and what a person reads from them."""

from twinscale.common.metrics.base import METRICS, Metric, added, finished, own_sums, statistics_of, tried
from twinscale.common.metrics.classification import MEANS, NEAR, finish, statistics

__all__ = ["MEANS", "METRICS", "Metric", "NEAR", "added", "finish", "finished", "own_sums", "statistics",
           "statistics_of", "tried"]
