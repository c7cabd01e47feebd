"""Step times of both backends side by side in one run: machines drift, so that only ratios of neighbours count."""

import numpy as np

from benchmarks.workers import each

STEPS = 4  # of a kind in a round
ROUNDS, SECONDS = (6, 24), 15.0  # fewest and most rounds, and about how long those of a backend may take


def side_by_side(recipe, workers, performance):
    """Each backend's performance, with step times that were taken while the other waited.

    Rounds alternate between backends, and between the trainer's loop and bare steps over one resident batch, which of
    them goes first by turns; the loop's overhead is the median over the rounds of their ratio. Throughput and MFU
    follow the loop's median step.
    """
    each(workers, lambda worker: worker.ask("measure_start", recipe))
    rounds = {backend: {"bare": [], "loop": []} for backend in workers}
    slowest = max(side["step_ms_median"] for side in performance.values()) / 1e3
    for turn in range(int(np.clip(SECONDS / (2 * STEPS * slowest), *ROUNDS))):
        for backend, kinds in rounds.items():
            for kind in list(kinds)[:: -1 if turn % 2 else 1]:
                kinds[kind].append(workers[backend].ask("measure_steps", recipe, kind=kind, count=STEPS))
    return {backend: performance[backend] | summary(performance[backend], **rounds[backend],
                                                    sketches=worker.ask("measure_sketch", recipe, count=20),
                                                    data=worker.ask("measure_data", recipe, count=200))
            for backend, worker in workers.items()}


def summary(before, bare, loop, sketches, data):
    """What the rounds say: lists of seconds a step, a list for each round, seconds of sketches and of one batch."""
    loops, bares = np.concatenate(loop), np.concatenate(bare)
    low, median, high = (1e3 * float(x) for x in np.percentile(loops, [25, 50, 75]))
    ratios = [np.median(b) / np.median(a) for a, b in zip(bare, loop, strict=True)]
    speed = before["step_ms_median"] / median
    return {"step_ms": [1e3 * float(x) for x in loops], "step_ms_median": median, "step_ms_interval": [low, high],
            "throughput": before["throughput"] * speed, "mfu": before["mfu"] * speed,
            "bare_step_ms_median": 1e3 * float(np.median(bares)),
            "loop_overhead_percent": 100 * (float(np.median(ratios)) - 1), "data_ratio": float(np.median(bares)) / data,
            "sketch_percent": 100 * float(np.median(sketches) / np.median(bares))}
