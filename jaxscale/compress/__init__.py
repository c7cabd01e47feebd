"""Stages of a compression: pruning, quantisation, clustering and distillation as pure functions of tensors by name."""
