"""`twinscale check-device`: all checks of a machine with a GPU, in one folder."""

import shlex
from typing import Annotated

import typer

from twinscale.common.errors import DID_IT
from twinscale.common.verbs import shared


def check_device(
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Where check.json, the runs, verdicts and bench.json go.")],
    rehearse: Annotated[bool, typer.Option("--rehearse", help="The same on the CPU, in small.")] = False,
    bench: Annotated[str | None, typer.Option(metavar="RECIPE", help="The recipe whose speed is measured, in place of "
                                              "decoder-125m.")] = None,
    overwrite: shared.Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print check.json in place of the table.")] = False,
) -> None:
    """Check that this machine's GPU trains as it should: what doctor says, each backend on the device against the CPU,
    both in bfloat16, cuDNN's attention against einsum, XLA's determinism, and the speed beside PyTorch.

    Each step has its own result; what the machine lacks is skipped with the reason. The same command goes on after a
    kill, and takes again what did not hold. The runs in DIR are read by compare-runs, its bench.json is bench's.

    \b
    Exit code: 0 all that was taken holds, 1 something does not, 3 something stays open, 4 no backend sees a GPU, or
    the machine lacks what a step needed, such as memory.
    \b
    Examples:
      twinscale check-device --out build/device
      twinscale check-device --bench recipes/decoder-6x256.toml --out build/device
      twinscale check-device --rehearse --out build/rehearsed
    """
    from twinscale.common.files.access import place

    code = shared.room("benchmarks.device_check.check").check_device(
        place(out), rehearse=rehearse, benched=bench, overwrite=overwrite, as_json=json)
    shared.say(f"all of it is in {shlex.quote(str(place(out)))}")
    if code == DID_IT:
        shared.suggest("compare", shared.shipped(), "--precision", "bfloat16", "--out", "build/bf16")
    raise typer.Exit(code or DID_IT)
