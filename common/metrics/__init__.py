"""Metrics as (statistics, finish): sums that add up over replicas and batches, and what a person reads from them."""

from twinscale.common.metrics.classification import NEAR, finish, statistics

__all__ = ["NEAR", "finish", "statistics"]
