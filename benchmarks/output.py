"""What every verdict needs besides its figures."""

from common.output import clear, nothing_left, tell

__all__ = ["CHECKS", "clear", "nothing_left", "tell"]

CHECKS = 100  # of a rung that a verdict keeps, the worst first
