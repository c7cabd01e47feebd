"""Text from a decoder, token by token: what is asked for, how tokens are drawn, and whether the sampler is the trainer."""
