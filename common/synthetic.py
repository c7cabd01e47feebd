"""Gradients made up for the optimizer's rung: the same numbers for both backends, over many orders of magnitude."""

import hashlib

import numpy as np

from common.parameters import is_trained


def synthetic_gradients(tree, update):
    """{canonical name: float64 array} for one update: normal, scaled by 10^u with u uniform in [-6, 0] per element."""
    gradients = {}
    for name, parameter in tree.items():
        if is_trained(name):
            word = hashlib.blake2b(f"{update}/{name}".encode(), digest_size=16).digest()
            stream = np.random.Generator(np.random.Philox(key=int.from_bytes(word, "little")))
            scale = 10.0 ** stream.uniform(-6, 0, parameter.shape)
            gradients[name] = stream.standard_normal(parameter.shape) * scale
    return gradients
