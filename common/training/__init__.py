"""A training from its first step to its last: its outline, its run directory, its checkpoints and signs of life."""
