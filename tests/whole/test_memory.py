"""What a process does with the memory of arrays that it has freed."""

import os
import subprocess
import sys

import pytest

from twinscale.common import process

SIZE, TIMES = 48 << 20, 8  # bytes of an array, above all that the C library keeps by itself; how often one is made
MAKES = f"""
import resource
import numpy as np
from twinscale.common import process
if KEPT:
    process.keep_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones({SIZE}, np.uint8)
began = faults()
for _ in range({TIMES}):
    np.ones({SIZE}, np.uint8)
print(faults() - began)
"""


def pages(kept, **environment):
    """Pages that the kernel clears for arrays that are made one after another, in multiples of one array's."""
    done = subprocess.run([sys.executable, "-c", f"KEPT = {kept}\n{MAKES}"], text=True, capture_output=True, check=True,
                          env={**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0", "PYTHONPATH": str(process.ROOT),
                               **environment})
    return int(done.stdout) * os.sysconf("SC_PAGE_SIZE") / SIZE


@pytest.mark.skipif(len(os.sched_getaffinity(0)) > process.FEW_CORES, reason="many cores: memory is given back")
def test_arrays_of_a_step_take_the_pages_of_the_last_step():
    assert pages(False) > TIMES - 1  # what the C library does by itself: each array is cleared anew
    assert pages(True) < 0.1


@pytest.mark.skipif(len(os.sched_getaffinity(0)) > process.FEW_CORES, reason="many cores: memory is given back")
def test_what_the_environment_says_stands():
    assert pages(True, MALLOC_MMAP_MAX_="65536", MALLOC_TRIM_THRESHOLD_="131072") > TIMES - 1
