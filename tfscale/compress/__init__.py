"""Compression with TF-MOT: the stages of `common/compress.py`, each a training of a model whose layers TF-MOT wraps."""
