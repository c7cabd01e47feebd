"""What every verdict needs besides its figures."""

from common.output import clear, tell

__all__ = ["CHECKS", "clear", "tell"]

CHECKS = 100  # of a rung that a verdict keeps, the worst first
