"""What every verdict needs besides its figures."""

from common.output import Kind, begun, check_files, clear, tell

__all__ = ["CHECKS", "REPORT", "Kind", "begun", "check_files", "clear", "tell"]

REPORT = r"report\.(html|md)"
CHECKS = 100  # of a rung that a verdict keeps, the worst first
