"""Trackers of experiments that a training is logged to besides its own files: `train.trackers`."""

from twinscale.common.trackers.base import TRACKERS, check_trackers, following, log_verdict

__all__ = ["TRACKERS", "check_trackers", "following", "log_verdict"]
