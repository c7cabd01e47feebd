"""Scaling laws: their forms, the solver that fits them, and how far a fit may be trusted."""
