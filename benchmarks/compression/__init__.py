"""What a compression costs, whether both backends agree on it, and its report."""
