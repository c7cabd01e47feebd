"""`twinscale preflight`: what the TPU's compiler says of a recipe."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from twinscale.common.errors import DID_IT
from twinscale.common.verbs import shared

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe as Described

Topology = Annotated[list[str] | None, typer.Option(metavar="T", help="A slice, such as v5e:4x4, v5e-16, v5p:2x2x2; "
                                                    "several are compiled for one after another.")]
Trainers = Annotated[Literal["jax", "keras", "both"] | None, typer.Option(help="The trainer; by default both, with "
                                                                          "--check those of the golden.")]
Policies = Annotated[str | None, typer.Option(metavar="A,B", help="With --search: policies to try; by default full, "
                                              "dots, none.")]
Accumulations = Annotated[str | None, typer.Option(metavar="A,B", help="Likewise: micro-batches an update; by default "
                                                   "the recipe's.")]


def preflight(
    recipe: shared.Recipe,
    overrides: shared.Overrides = None,
    *,
    topology: Topology = None,
    slices: Annotated[int, typer.Option(metavar="N", min=1, help="Of each, joined by the data-centre network.")] = 1,
    backend: Trainers = None,
    peers: Annotated[str, typer.Option(metavar="NAMES", help="Steps of others beside ours: maxtext-compile.")] = "",
    out: Annotated[str, typer.Option(metavar="DIR", help="Where preflight.json goes.")],
    check: Annotated[str | None, typer.Option(metavar="JSON", help="No worse than an earlier preflight.json?")] = None,
    write_golden: Annotated[str | None, typer.Option(metavar="PATH", help="Write there what --check needs.")] = None,
    search: Annotated[bool, typer.Option("--search", help="Find the largest batch that fits.")] = False,
    remat: Policies = None,
    accumulate: Accumulations = None,
    fsdp: Annotated[str | None, typer.Option(metavar="A,B", help="Likewise: by default all that divide.")] = None,
    tensor: Annotated[str | None, typer.Option(metavar="A,B", help="Likewise: by default all that divide.")] = None,
    jobs: Annotated[int | None, typer.Option(metavar="N", min=1, help="Likewise: compilers at once.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print preflight.json in place of the table.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the preflight.json there.")] = False,
    precision: shared.Precision = None,
) -> None:
    """Compile a recipe's whole train step with the TPU's own compiler, without a TPU, and say whether it fits, what it
    computes, moves and communicates, and how fast it could be at best. Write preflight.json and report.html; with
    --search, search.json and patch.toml.

    \b
    Exit code: 0 all compile and fit, or with --check are no worse than before; 1 otherwise; 4 libtpu is missing or old.
    \b
    Examples:
      twinscale preflight recipes/decoder-stdlib.toml --topology v5e:2x2 --out build/preflight
      twinscale preflight recipes/decoder-125m.toml devices.fsdp=4 --topology v5e-16 --topology v5p:2x2x2 \\
        --backend jax --out build/125m
      twinscale preflight recipes/mlp-digits.toml --topology v5e:2x2 --out build/mlp --write-golden mlp.json
      twinscale preflight recipes/mlp-digits.toml --check mlp.json --out build/again
      twinscale preflight recipes/tpu/decoder-1b.toml --topology v5e:4x4 --search --remat full,dots --out build/search
    """
    from twinscale.common.files.access import place
    from twinscale.common.files.output import nothing_left
    from twinscale.common.recipe.file import given

    asked, backends = shared.with_precision(overrides, precision), trainers_of(backend)
    named = [word for name in topology or () for word in ("--topology", name)]
    described = shared.of_two(given(recipe, asked), "preflight", "it compiles a Keras and a JAX program")
    if search:
        shared.only("--search", **{"check": check, "write-golden": write_golden,
                                   "backend both": backend == "both" or None, "peers": peers or None})
        with nothing_left(place(out)):
            raise typer.Exit(shared.room("benchmarks.preflight.search").search(
                described, place(out), topologies=topology or (), slices=slices, backend=backend or "jax", jobs=jobs,
                **to_try(remat, accumulate, fsdp, tensor), as_json=json, overwrite=overwrite))
    shared.only("a preflight without --search", remat=remat, accumulate=accumulate, fsdp=fsdp, tensor=tensor, jobs=jobs)
    with nothing_left(place(out)):
        words = [recipe, *asked, *named, *shared.given("slices", slices, 1), *shared.given("backend", backend),
                 *shared.given("peers", peers, ""), *shared.given("check", check)]
        code = shared.room("benchmarks.preflight").preflight(
            described, place(out), topologies=topology or (), slices=slices, backends=backends, check=check,
            peers=peers.split(","), write_golden=write_golden, as_json=json, overwrite=overwrite, words=words)
    verb, changed, options = what_next(code, described, backends, named, out)
    shared.suggest(verb, recipe, *(overrides or []), *changed, *shared.precision_words(precision), *options)
    raise typer.Exit(code or DID_IT)


def trainers_of(backend: str | None) -> tuple[str, ...]:
    """The backends that --backend names; none where it was not given."""
    return ("jax", "keras") if backend == "both" else (backend,) if backend else ()


def to_try(
    remat: str | None, accumulate: str | None, fsdp: str | None, tensor: str | None,
) -> dict[str, Any]:
    """What a search is to try, of the options' lists."""
    return {"remats": remat.split(",") if remat else None, "accumulations": shared.counts("accumulate", accumulate),
            "fsdp": shared.counts("fsdp", fsdp), "tensor": shared.counts("tensor", tensor)}


def what_next(
    code: int, recipe: "Described", backends: Sequence[str], named: Sequence[str], out: str,
) -> tuple[str, list[str], list[str]]:
    """(verb, overrides, options) of the command to suggest: the training, or a preflight of smaller micro-batches."""
    if code == DID_IT:
        return "train", [], ["--backend", (*backends, "jax")[0], "--run", "runs/tpu"]
    return "preflight", [f"train.accumulate={2 * recipe.train.accumulate}"], [*named, "--out", f"{out}-smaller"]
