"""`twinscale bench`: step time and MFU of this machine."""

from typing import Annotated, Literal

import typer

from twinscale.common.errors import DID_IT
from twinscale.common.verbs import shared


def bench(
    recipe: shared.Recipe,
    overrides: shared.Overrides = None,
    *,
    backend: Annotated[Literal["jax", "keras", "both", "all"], typer.Option(help="The trainer; both, or all with Keras "
                                                                            "on JAX, take turns.")] = "jax",
    runtime: shared.Runtime = None,
    steps: Annotated[int, typer.Option(metavar="N", min=2, help="Of a kind in a round.")] = 10,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="After one to warm up.")] = 6,
    peers: Annotated[str, typer.Option(metavar="NAMES", help="keras-fit, torch, hf-trainer, torch-compile.")] = "",
    out: Annotated[str, typer.Option(metavar="DIR", help="Where bench.json goes.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bench.json there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print bench.json in place of the table.")] = False,
    precision: shared.Precision = None,
) -> None:
    """Measure a recipe's step time, throughput and MFU on this machine's devices, and write bench.json.

    Rounds of the trainer's loop and of bare steps over one resident batch take turns, after one to warm up. The MFU is
    of causal FLOPs and the maker's bfloat16 peak, or on a CPU of NumPy's best matrix product. Peers train the same
    layers as others write them, in the same rounds.

    \b
    Exit code: 0 it is measured, 3 a figure is refused: an MFU above 100 %, or steps that did not wait for the device.
    \b
    Examples:
      twinscale bench recipes/decoder-125m.toml --out build/bench
      twinscale bench recipes/decoder-125m.toml jax.attention=cudnn train.global_batch=32 --out build/cudnn
      twinscale bench recipes/decoder-6x256.toml --precision bfloat16 jax.attention=cudnn --out build/nvidia
      twinscale bench recipes/decoder-6x256.toml --backend both --steps 4 --out build/both
      twinscale bench recipes/decoder-6x256.toml --backend keras --runtime jax --out build/keras-jax
      twinscale bench recipes/decoder-6x256.toml --backend all --steps 4 --out build/all
      twinscale bench recipes/decoder-6x256.toml --backend both --peers keras-fit,torch --out build/peers
    """
    from twinscale.common.backends import BACKENDS, BOTH, options_of
    from twinscale.common.files.access import place
    from twinscale.common.files.output import nothing_left
    from twinscale.common.recipe.file import given

    backends = shared.backends_of(backend, runtime, {"both": BOTH, "all": tuple(BACKENDS)})
    described = given(recipe, shared.with_precision(overrides, precision))
    described = shared.of_two(described, "bench", "`twinscale compare` times both, side by side")
    beside = [name for name in peers.split(",") if name]
    with nothing_left(place(out)):
        code = shared.room("benchmarks.timing.bench").bench(
            described, place(out), backends=backends, steps=steps, rounds=rounds, peers=beside,
            overwrite=overwrite, as_json=json)
    shared.suggest("train", recipe, *(overrides or []), *shared.precision_words(precision),
                   *options_of(backends[-1]), "--run", "runs/bench")
    raise typer.Exit(code or DID_IT)
