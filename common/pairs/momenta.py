"""How much of a running statistic, such as batch norm's, a step of training keeps: no output shows it before a model
has been trained."""

import numpy as np

from twinscale.common.pairs.match import Match, carried
from twinscale.common.pairs.program import Arrays, Inputs, Program

SAME = 1e-4  # far above float32's rounding, far below what anybody means


def momenta_apart(a: Program, b: Program, inputs: tuple[Inputs, Inputs], match: Match, values: Arrays
                  ) -> list[tuple[str, float, float]]:
    """[(a's statistic, what a keeps of it in a step, what b keeps)] of those that both programs move in training."""
    of_a = momenta(a, inputs[0], values)
    of_b = momenta(b, inputs[1], carried(match, values)) if of_a else {}
    return [(line.a[0], of_a[line.a[0]], of_b[line.b]) for line in match.lines
            if line.a[0] in of_a and line.b in of_b]


def momenta(program: Program, inputs: Inputs, values: Arrays) -> dict[str, float]:
    """{path: how much of it a step keeps}: by how much the new statistic moves with the old one on one batch. Without
    those that do not move, or of which nothing can be said, such as behind random bits."""
    known = [tensor.path for tensor in program.tensors if not tensor.trained and tensor.role in ("mean", "var")]
    if not known:
        return {}
    try:
        moved = values | {path: np.asarray(values[path] + 1.0, values[path].dtype) for path in known}
        found = [program.call(given, inputs, True)[1] for given in (values, moved)]
    except Exception:  # of the user's own code: there may be no way in which it is trained
        return {}
    apart = {path: np.asarray(found[1][path], np.float64) - np.asarray(found[0][path]) for path in known
             if all(path in one for one in found)}
    return {path: float(np.median(x)) for path, x in apart.items()
            if x.size and np.ptp(x) < SAME and not np.allclose(x, 1.0, rtol=0, atol=1e-6)}
