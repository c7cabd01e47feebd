"""What a machine is and offers: chips, slices of them, their peaks, and what is installed."""
