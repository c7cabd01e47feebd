"""Step times of both backends side by side in one run: machines drift, so only ratios of neighbours are kept."""

import statistics

ROUNDS, STEPS = 5, 4


def side_by_side(recipe, workers, performance):
    """Adds to each backend's performance: the loop's overhead over bare steps, and how much faster the data is made.

    Rounds alternate between backends and between the trainer's loop and bare steps over a resident batch.
    """
    seconds = {(backend, kind): [] for backend in workers for kind in ("bare", "loop")}
    for worker in workers.values():
        worker.ask("measure_start", recipe)
    for _ in range(ROUNDS):
        for (backend, kind), values in seconds.items():
            values.append(workers[backend].ask("measure_steps", recipe, kind=kind, count=STEPS))
    found = {}
    for backend, worker in workers.items():
        bare, loop = seconds[backend, "bare"], seconds[backend, "loop"]
        overhead = statistics.median(b / a - 1 for a, b in zip(bare, loop, strict=True))
        data = worker.ask("measure_data", recipe, count=200)
        found[backend] = performance[backend] | {
            "bare_step_ms_median": 1e3 * statistics.median(bare), "loop_step_ms_median": 1e3 * statistics.median(loop),
            "loop_overhead_percent": 100 * overhead, "data_ratio": statistics.median(bare) / data}
    return found
