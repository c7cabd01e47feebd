"""The data both trainers read: sources -> documents -> tokens -> packed examples -> ordered batches of NumPy arrays."""

from twinscale.common.data.batches import (
    example_shape_of,
    filled,
    held_out_batches,
    input_specs,
    training_batches,
)
from twinscale.common.data.dataset import Dataset, open_dataset

__all__ = ["Dataset", "example_shape_of", "filled", "held_out_batches", "input_specs", "open_dataset",
           "training_batches"]
