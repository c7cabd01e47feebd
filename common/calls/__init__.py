"""What a comparison asks of a trainer's process, and the process that answers."""
