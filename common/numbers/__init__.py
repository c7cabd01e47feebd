"""Numbers as both backends have them: random bits, formats and their constants, sketches of tensors."""
