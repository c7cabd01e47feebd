"""The recipe: what it can say, and how it is read from a file."""
