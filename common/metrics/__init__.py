"""Metrics as (statistics, finish): sums that add up over replicas and batches, and what a person reads from them."""

from common.metrics.classification import finish, statistics

__all__ = ["finish", "statistics"]
