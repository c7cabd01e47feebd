"""A verdict of no run, as the report is given it."""

import numpy as np

LEAK = {"operation": "norm", "implementation": "keras.ops.mean (jnp.mean)", "places": 5, "where": "block_0.norm_1",
        "worst": 3.4e-8}


def curve(noise, horizon=None, steps=200, seed=0):
    """A fake loss curve whose two sides differ by a noise that grows and is sometimes exactly zero."""
    random = np.random.default_rng(seed)
    at = np.arange(steps)
    loss = 2.1 + 3.4 * np.exp(-at / 55) + 0.06 * random.standard_normal(steps)
    envelope = noise * (0.4 + at / 60) * (1 + 0.2 * random.random(steps))
    difference = envelope * random.lognormal(-0.3, 0.7, steps) * (random.random(steps) > 0.12)
    difference[0] = 0.0
    return {"steps": at.tolist(), "keras": loss.tolist(), "jax": (loss + difference).tolist(),
            "difference": difference.tolist(), "envelope": envelope.tolist(), "bound": (8 * envelope).tolist(),
            "horizon": horizon}


def side(milliseconds, compile_seconds, seed):
    random = np.random.default_rng(seed)
    times = milliseconds * (1 + 0.04 * random.gamma(1.5, 1, 200))
    times[17] *= 3
    median = float(np.median(times))
    return {"compile_seconds": compile_seconds, "round_steps": 4, "step_ms": times.tolist(), "step_ms_median": median,
            "step_ms_interval": [median * 0.994, median * 1.007], "throughput": 2048e3 / median, "unit": "tokens/s",
            "mfu": 0.31 + seed / 50, "mfu_convention": "6N, peak measured by a matrix product",
            "bare_step_ms": (0.985 * times).tolist(), "bare_step_ms_median": median * 0.985,
            "loop_overhead_percent": 1.5, "loop_overhead_percent_interval": [1.2, 1.8], "data_ratio": 410.0,
            "seconds": {"compile": compile_seconds, "train": median / 5, "evaluate": 2.4, "data_wait": 0.05}}


def rung(name, title, proves, worst, bound, origin, where, checks=()):
    agrees = worst <= bound
    return {"name": name, "title": title, "proves": proves, "agrees": agrees, "worst": worst, "bound": bound,
            "bound_from": origin, "where": where, "smallest_tolerance": worst,
            "margin": bound / worst if worst else None,
            "checks": [{"what": w, "agrees": x <= b, "worst": x, "bound": b, "where": p} for w, x, b, p in checks]}


def swap_cell(program, runtime, gradient, *leaks):
    return {"program": program, "runtime": runtime, "loss": gradient / 10, "gradient": gradient,
            "tensor": f"{program}.kernel", "noise": 7.1e-7, "noise_tensor": "block_1.norm_2.bias", "leaks": list(leaks)}


def fake_verdict():
    eps = 2.0**-52
    return {
        "schema_version": 1, "agrees": True, "precision": "float32", "steps": 200, "horizon": 150, "plant": None,
        "sentence": "Keras and JAX are the same training: six rungs hold, up to the float32 horizon at step 150.",
        "recipe": {"name": "decoder-tiny", "hash": "9f2c41d07be83a55",
                   "toml": '[model]\nfamily = "decoder"\nlayers = 4\ndropout = 0.1\n\n[train]\nsteps = 200\n'},
        "rungs": [
            rung("P0", "contract", "that batches, first weights, random bits, schedules and recipe are the same", 0.0,
                 0.0, "bitwise", "none differs", [("batch hashes, 200 steps", 0.0, 0.0, "-"),
                                                  ("first weights, 52 tensors", 0.0, 0.0, "-"),
                                                  ("dropout bits", 0.0, 0.0, "-"), ("learning rates", 0.0, 0.0, "-")]),
            rung("P2", "gradient", "the step-0 loss, the logits and every gradient", 3.1e-15, 16 * eps,
                 "16 eps of float64", "block_3.attention.query.kernel",
                 [("loss", 0.0, 16 * eps, "loss"), ("logits", 1.9e-15, 16 * eps, "logits"),
                  ("gradients", 3.1e-15, 16 * eps, "block_3.attention.query.kernel")]),
            rung("P3", "optimizer", "that identical gradients move both optimizers alike", 6.6e-16, 8 * eps,
                 "8 eps a step", "block_0.mlp.up.kernel"),
            rung("P4", "semantics", "the float64 trajectory over 200 steps, dropout on", 4.4e-15, 2.1e-14,
                 "8 x the float64 twin", "loss, step 183"),
            rung("P5", "numerics", "the float32 trajectory up to the horizon", 1.1e-6, 4.2e-6,
                 "4 x the permuted-twin envelope", "block_1.norm.scale, step 140"),
            rung("P6", "sharding", "1 against 8 devices, each backend", 2.2e-6, 4.2e-6,
                 "4 x the permuted-twin envelope", "embedding.table, step 96")],
        "skipped": [{"name": "P7", "why": "needs 5 seeds a side; this run had 1"}],
        "curves": {"float32": curve(3e-7, horizon=150, seed=1), "float64": curve(6e-16)},
        "held_out": {"keras": {"loss": 2.1934561, "perplexity": 8.9661, "bits_per_byte": 3.16448, "accuracy": 0.4123},
                     "jax": {"loss": 2.1934569, "perplexity": 8.966107, "bits_per_byte": 3.164481, "accuracy": 0.4123}},
        "performance": {"keras": side(412.0, 14.2, 1), "jax": side(448.0, 9.7, 2)},
        "tensors": [{"step": 140 - i, "tensor": f"block_{i % 4}.attention.output.kernel",
                     "kind": ("weights", "gradient")[i % 2], "difference": 1.1e-6 / (i + 1), "bound": 4.2e-6,
                     "ratio": 0.26 / (i + 1)} for i in range(12)],
        "own_float64": {"keras": {"worst": 7.7e-7, "tensor": "keras.kernel"},
                        "jax": {"worst": 8.8e-7, "tensor": "jax.kernel"}},
        "null_directions": [f"block_{i}.attention.key.bias" for i in range(4)],
        "swap": {"cells": [swap_cell("keras", "tensorflow", 3.1e-15), swap_cell("keras", "jax", 2.2e-8, LEAK),
                           swap_cell("flax", "tensorflow", 2.4e-15), swap_cell("flax", "jax", 0.0)],
                 "bound": 1.4e-13, "bound_from": "16 sqrt(2,048) eps of float64", "blame": "the runtime",
                 "sentence": "What `jnp.mean` computes for Keras is no float64."},
        "data": {"source": "stdlib", "documents": 1742, "tokens": 10983211, "sha256": "1d" * 32},
        "versions": {"keras": {"keras": "3.15.1", "tensorflow": "2.21.0", "numpy": "2.4.6"},
                     "jax": {"jax": "0.10.2", "flax": "0.12.8", "optax": "0.2.8", "numpy": "2.4.6"}},
        "devices": {"keras": ["cpu x 8 (simulated)"], "jax": ["cpu x 8 (simulated)"]},
        "differences": [["runtime", "tensorflow 2.21.0, XLA", "jax 0.10.2, XLA"],
                        ["optimizer", "keras.optimizers.Adam, eps scaled per step", "optax.adamw, eps 1e-8"],
                        ["parallelism", "tf.distribute.MirroredStrategy", "jit over a mesh of 8"]],
        "assumptions": ["Both runs had the machine to themselves.", "Both saw the same CPU model."],
        "limits": ["No TPU or GPU was used.", "One seed."],
        "commands": ["twinscale verify recipes/decoder-tiny.toml --out runs/verify",
                     "twinscale report runs/verify"],
    }


def fake_task():
    """A verdict's "task" of three classes, of an image and a text."""
    png = ("iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAAAAABX3VL4AAAADklEQVR4nGNgYGBgYAAAAAUAAYehTtQAAAAASUVORK5CYII=")
    parts = {"precision": 0.5, "recall": 0.75, "f1": 0.6}
    both = {"loss": {"keras": 3.5, "jax": 3.25}, "share": {"keras": 0.875, "jax": 0.75},
            "predicted": {"keras": "cat", "jax": "eel"}}
    lines = {side: {"steps": [10, 20], "values": [2.0, 1.0]} for side in ("keras", "jax")}
    bins = {"confidence": [0.5, 0.9], "accuracy": [0.5, 1.0], "count": [2.0, 4.0]}
    return {"kind": "classes", "names": ["cat", "dog", "eel"],
            "classes": [{"name": name, "count": 2.0, "keras": dict(parts), "jax": dict(parts)}
                        for name in ("cat", "dog", "eel")],
            "matrix": {"keras": [[2, 0, 0], [1, 1, 0], [0, 1, 1]], "jax": [[2, 0, 0], [0, 2, 0], [0, 1, 1]]},
            "reliability": {"keras": bins, "jax": bins}, "curves": {"loss": lines, "f1_macro": lines},
            "worst": [{"row": 4, "label": "dog", "text": "a text", **both},
                      {"row": 9, "label": "eel", "image": png, "size": [2, 2], **both}]}
