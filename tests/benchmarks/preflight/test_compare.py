"""What two backends' steps differ by, and a step's from its golden."""

from twinscale.benchmarks.preflight import compare

GIB = 2**30
MEMORY = {"arguments": 6 * GIB, "temporaries": 3 * GIB, "output": 5 * GIB, "alias": 5 * GIB, "code": GIB, "host": 0}


def test_what_only_one_of_them_does_is_a_difference_of_all():
    sides = [{"memory": MEMORY, "flops_by_place": {}, "kernel_flops_per_device": 0, "flops_per_device": 5,
              "matrix_flops_per_device": 5, "hbm_bytes_per_device": 9, "bytes_moved_per_device": 1, "fusions": 1,
              "fusions_by_kind": {}, "compiles": True, "topology": "v5e:2x2", "slices": 1, "backend": backend,
              "collectives": [{"kind": kind, "network": "ici", "count": 2, "bytes": 8}]}
             for backend, kind in (("jax", "all-reduce"), ("keras", "all-gather"), ("keras-jax", "all-reduce"))]
    found = {each["backend"]: each["differences"] for each in compare.parity(sides)}
    assert len(found["keras"]) == 4 and all(line["difference"] == 1 for line in found["keras"])
    assert found["keras-jax"] == []
