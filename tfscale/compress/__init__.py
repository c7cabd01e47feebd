"""Compression with TF-MOT: the stages of `common/compress/rules.py`, each a training of a model whose layers TF-MOT
wraps."""
