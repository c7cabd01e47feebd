"""`python -m tests.pairs_real`: whether well-known models are one function in Keras and in Flax, against what is known
of them; a line each. With `--size full`: how long the tensors of BERT-base take to be matched."""

import argparse
import os
import resource
import sys
import time
from unittest.mock import patch

os.environ |= {"KERAS_BACKEND": "tensorflow", "JAX_PLATFORMS": "cpu", "USE_TORCH": "0", "USE_TF": "0",
               "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TF_CPP_MIN_LOG_LEVEL": "3"}
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
WIDTHS = (26, 12, 12, 6, 7)


def main():
    words = argparse.ArgumentParser(prog="python -m tests.pairs_real", description=__doc__)
    words.add_argument("--size", choices=("small", "full"), default="small", help="full: the match of BERT-base alone")
    words.add_argument("--only", metavar="NAME", help="pairs whose names have it")
    chosen = words.parse_args()
    sys.exit(full() if chosen.size == "full" else small(chosen.only or ""))


def small(only):
    """The exit code of all pairs: 1 where one is not as expected."""
    from tests.pairs_real.programs import PAIRS

    print(line("pair", "expected", "answer", "trials", "seconds", "place and cause, or how near"), flush=True)
    wrong = 0
    for name, pair in PAIRS.items():
        if only.lower() in name.lower():
            wrong += not one(name, pair)
    print("all as expected" if not wrong else f"{wrong} not as expected")
    return int(bool(wrong))


def one(name, pair):
    """Whether a pair is as expected; prints its line."""
    import keras

    import twinscale
    from twinscale import pairs
    from twinscale.common.errors import BadInput

    tried = []

    def find(*given, **named):
        found = looked(*given, **named)
        tried.append(found[2])
        return found

    keras.utils.set_random_seed(0)
    began, looked = time.monotonic(), pairs.find
    expected = f"{'do not ' if pair.cause else ''}agree"
    try:
        with patch.object(pairs, "find", find):
            verdict = twinscale.check(*pair.build(), pair.inputs(), names=pair.names, outputs=pair.outputs)
    except BadInput as error:
        print(line(name, expected, "refused", sum(tried), f"{time.monotonic() - began:.1f}", str(error)), flush=True)
        return False
    answer = f"{'' if verdict else 'do not '}agree"
    said = f"{verdict.place}: {verdict.cause}" if not verdict else nearest(verdict)
    as_expected = answer == expected and pair.cause in verdict.cause and pair.place in verdict.place
    print(line(name, expected, answer, sum(tried), f"{time.monotonic() - began:.1f}", said), flush=True)
    return as_expected


def nearest(verdict):
    """How far the outputs are apart, and the furthest gradient, of a pair that agrees."""
    outputs = max(row.difference for row in verdict.rows if row.what.startswith("output"))
    gradients = max((row for row in verdict.rows if not row.what.startswith("output")), key=lambda row: row.difference)
    return (f"outputs {outputs:.1e} apart, {len(verdict.rows) - 1} gradients {gradients.difference:.1e} "
            f"of {gradients.bound:.1e}")


def line(name, *cells):
    """A line of the table."""
    return "  ".join(str(cell).ljust(width) for cell, width in zip((name, *cells), (*WIDTHS, 0), strict=True)).rstrip()


def full():
    """Matches BERT-base, says how long it took, and returns the exit code: 1 above a minute or 8 GiB."""
    from tests.pairs_real.programs import NAMES, base, texts
    from twinscale.common.pairs.judge import outputs_difference
    from twinscale.common.pairs.search import find
    from twinscale.jaxscale import programs as jax_programs
    from twinscale.tfscale import programs as keras_programs

    models, began = base(), time.monotonic()
    inputs = tuple({NAMES[name][side]: x for name, x in texts(segments=True).items()} for side in (0, 1))
    a = keras_programs.open_program(models[0], inputs[0], "sequence_output")
    b = jax_programs.open_program(models[1], inputs[1], "last_hidden_state")
    match, apart, tried = find(a.tensors, b.tensors, outputs_difference(a, b, inputs))
    seconds = time.monotonic() - began
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    weights = sum(x.size for x in a.start.values())
    print(f"BERT-base: {len(match.lines)} tensors, {weights / 1e6:.0f} million weights, matched at trial {tried} in "
          f"{seconds:.1f} s on {len(os.sched_getaffinity(0))} cores; outputs {apart:.1e} apart; "
          f"{gigabytes:.1f} GiB of memory at most")
    return int(not (apart <= 1e-4 and seconds < 60 and gigabytes < 8))


if __name__ == "__main__":
    main()
