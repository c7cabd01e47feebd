"""The rungs of the parity ladder, and what looks for the place where two backends part."""
