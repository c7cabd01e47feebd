"""Text from a decoder: what is asked for, how tokens are drawn, and whether the sampler is the trainer."""
