"""What can be planted in a trainer, to show what a comparison catches and what it lets pass."""
