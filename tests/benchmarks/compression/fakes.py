"""A compression that never ran, as its report is given it."""

from twinscale.benchmarks.rungs.ladder import check, rung
from twinscale.benchmarks.rungs.outcome import equivalence

DRIFT = [1.0, 1.3, 0.97, 1.02, 0.99]  # of the machine from round to round, which all files meet
DENSE, PRUNED, INT8 = "dense", "1-prune", "2-quantize"


def file(kind, size, zipped, accuracy, milliseconds, int8=0):
    timed = [{"batch": batch, "threads": threads, "median_ms": milliseconds * factor,
              "p95_ms": milliseconds * factor * 1.07,
              "rounds_ms": [milliseconds * factor * drift for drift in DRIFT]}
             for batch, threads, factor in ((1, 1, 1.0), (1, 4, 0.55), (32, 4, 14.2))]
    return {"format": kind, "bytes": size, "zipped_bytes": zipped, "rows": 1000, "latency": timed, "reason": None,
            "metrics": {"loss": 2.1 - 2 * accuracy, "accuracy": accuracy},
            "operators": {"total": 23, "int8": int8, "float": 23 - int8, "names": {"CONV_2D": 9, "ADD": 4}}}


def row(backend, stage, accuracy, kept, files, verified=(), **columns):
    return {"backend": backend, "stage": stage, "metrics": {"loss": 2.1 - 2 * accuracy, "accuracy": accuracy},
            "metric": accuracy, "metric_name": "accuracy", "parameters": 272_474, "kept": kept,
            "bytes": min(f["bytes"] for f in files), "latency_ms": files[0]["latency"][0]["median_ms"],
            "files": files, "verified": [*verified], "mask_agreement": None, "quanta_differing": None, "quanta": None,
            "paired": None} | columns


def kernels(zeros=0.8):
    return [{"name": f"stage_{i // 4}.block_{i % 4}.convolution_1.kernel", "zeros_before": zeros, "zeros_after": zeros,
             "values_before": 3_000 + i, "values_after": 203, "kept": True} for i in range(12)]


def stage_rungs(stage):
    exact = check("272,474 names and shapes", 0, 0, "nothing differs", "the number that differ")
    found = [rung(f"{stage} contract", "contract", "the same is pruned, quantised, clustered and trained", [exact])]
    if stage == PRUNED:
        found.append(rung(f"{stage} masks", "masks", "equal weights are masked alike at every update", [
            check(f"12 masks of {owner}'s run, made by {other} from its weights", 0, 0,
                  f"stage_0.convolution.kernel at update {update}, 271,000 entries", "bitwise: the entries that differ")
            for owner, other in (("keras", "jax"), ("jax", "keras")) for update in (20, 100, 200)]))
    else:
        found.append(rung(f"{stage} quanta", "quanta", "equal values are quantised alike, within one quantum", [
            check("weights", i % 2, 1.00003, f"block_{i}.kernel, {i % 2} of 9,216 differ", "one quantum")
            for i in range(5)]))
    found.append(rung(f"{stage} P5", "numerics", "no more rounding than float32 costs each backend itself", [
        check("float32 loss", 3.1e-6, 9e-6, "step 61 of 118 (the horizon)", "4 x the float32 twin's envelope")])
        | {"horizon": 118})
    found.append(rung(f"{stage} metric", "metric", "held-out losses within the recipe's margin", [
        check("held-out loss", 0.0013, 0.02, "equivalent: Keras - JAX = +0.0004", "the recipe's margin of loss")])
        | {"open": False})
    return found


def fake_compression():
    paired = [equivalence([4e-4, -9e-4, 1.1e-3, 2e-4, -3e-4, 9e-4, shift], 0.02) for shift in (0.0, 2e-3)]
    masks = {"mask_agreement": 0.99961, "paired": paired[0]}
    quanta = {"quanta": {"differing": 3, "total": 271_000, "worst": 1.0}, "quanta_differing": 3, "paired": paired[1]}
    rows = []
    for backend, off in (("keras", 0.0), ("jax", 0.002)):
        floats, speed = "litert-float", 1 + 30 * off
        rows += [
            row(backend, DENSE, 0.972 + off, 1.0, [file(floats, 1_101_232, 1_018_400, 0.972 + off, 0.412 * speed)]),
            row(backend, PRUNED, 0.968 + off, 0.2047, [file(floats, 1_101_232, 291_800, 0.968 + off, 0.409 * speed)],
                **masks),
            row(backend, INT8, 0.964 - off, 0.2044, [
                file(floats, 1_101_232, 292_100, 0.964 - off, 0.414 * speed),
                file("litert-int8", 312_900, 101_700, 0.963 - off, 0.118 * speed, int8=21)], kernels(), **quanta)]
    rows.sort(key=lambda r: [DENSE, PRUNED, INT8].index(r["stage"]))
    return {"schema_version": 1, "agrees": True, "stages": [PRUNED, INT8], "rows": rows,
            "sentence": "Keras and JAX compress alike in 2 stages: 6 sets of masks are bitwise equal from equal "
                        "weights; 3 of 271,000 quantised values differ, none by more than one quantum.",
            "recipe": {"name": "compress-convnet", "hash": "2f1c88d07be83a55",
                       "toml": '[model]\nfamily = "convnet"\n\n[[compress.stages]]\nkind = "prune"\nsparsity = 0.8\n'},
            "data": {"source": "mnist5k", "sha256": "1d" * 32}, "rungs": [*stage_rungs(PRUNED), *stage_rungs(INT8)],
            "limits": ["Latency is this machine's alone.", "No phone or microcontroller was used."]}


def one_backend():
    found = fake_compression()
    return found | {"agrees": None, "rungs": [], "commands": ["twinscale compress run --backend jax"],
                    "sentence": "2 stages of compression, in one backend.", "rows": [
        r | {"mask_agreement": None, "quanta": None, "quanta_differing": None, "paired": None}
        for r in found["rows"] if r["backend"] == "jax"]}


def timed(found, stage, factor, kind="litert-float", backends=("keras", "jax"), noise=0.0):
    """The compression with a stage's latencies multiplied, and by more or less `noise` in every other round."""
    for r in found["rows"]:
        for f in r["files"]:
            if r["stage"] == stage and f["format"] == kind and r["backend"] in backends:
                f["latency"] = [m | {k: m[k] * factor for k in ("median_ms", "p95_ms")}
                                | {"rounds_ms": [x * factor * (1 + noise * (-1) ** i)
                                                 for i, x in enumerate(m["rounds_ms"])]} for m in f["latency"]]
    return found
