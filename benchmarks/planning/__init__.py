"""Chips, days and money for a training, and the laws by which its tokens are chosen."""
