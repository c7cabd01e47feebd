"""The data both trainers read: sources -> documents -> tokens -> packed examples -> ordered batches of NumPy arrays."""

from common.data.batches import held_out_batches, training_batches
from common.data.dataset import Dataset, open_dataset

__all__ = ["Dataset", "held_out_batches", "open_dataset", "training_batches"]
