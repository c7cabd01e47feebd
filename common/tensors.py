"""Named tensors in a safetensors file: whole or absent, equal bytes for equal tensors."""

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from common.errors import BadInput
from common.run import place, write_bytes


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


def named_arrays(groups):
    """{"GROUP/NAME": NumPy array} of {group: {name: tensor}}."""
    return {f"{group}/{name}": np.asarray(x) for group, tensors in groups.items() for name, x in tensors.items()}
