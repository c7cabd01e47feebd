"""Named tensors in a safetensors file: whole or absent, equal bytes for equal tensors."""

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from common.errors import BadInput
from common.files import place, write_bytes


def save_tensors(path, tensors):
    """Writes {name: NumPy array}, sorted by name."""
    contiguous = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    write_bytes(path, safetensors.save(contiguous))


def load_tensors(path):
    """{name: NumPy array} of a safetensors file; raises BadInput where it is missing or torn."""
    try:
        return safetensors.load(place(path).read_bytes())
    except (OSError, TypeError, ValueError, SafetensorError) as error:
        raise BadInput(f"{path}: not a whole safetensors file: {error}") from None


def check_tensors(tensors, wanted):
    """Raises BadInput unless `tensors` have the names and shapes of `wanted`, {name: anything with a shape}."""
    missing, surplus = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or surplus:
        first = f"{missing[0]} is missing" if missing else f"{surplus[0]} belongs to no tensor here"
        raise BadInput(f"tensors: {first} ({len(missing)} missing, {len(surplus)} surplus): they are of another model, "
                       "optimizer or optimizer.ema")
    for name, x in sorted(tensors.items()):
        if tuple(x.shape) != tuple(wanted[name].shape):
            raise BadInput(f"tensor {name}: has shape {tuple(x.shape)}, but {tuple(wanted[name].shape)} is wanted")


def named_arrays(groups):
    """{"GROUP/NAME": NumPy array} of {group: {name: tensor}}."""
    return {f"{group}/{name}": np.asarray(x) for group, tensors in groups.items() for name, x in tensors.items()}
