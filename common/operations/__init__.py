"""Every operation of our models: references, what tries them, and how far rounding may carry a result."""
