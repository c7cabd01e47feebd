"""A run's model in formats that other programs load: written, checked, measured and asked for answers."""
