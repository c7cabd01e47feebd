"""`twinscale preflight`: what the TPU's compiler says of a recipe."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from twinscale.common.backends import BACKENDS, BOTH, options_of
from twinscale.common.errors import DID_IT
from twinscale.common.verbs import shared

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe as Described

Topology = Annotated[list[str] | None, typer.Option(metavar="T", help="A slice, such as v5e:4x4, v5e-16, v5p:2x2x2; "
                                                    "several are compiled for one after another.")]
Trainers = Annotated[Literal["jax", "keras", "both", "all"] | None, typer.Option(
    help="The trainer; by default both, with --check those of the golden; all: with Keras on JAX.")]
Policies = Annotated[str | None, typer.Option(metavar="A,B", help="With --search: policies to try; by default full, "
                                              "dots, none.")]
Accumulations = Annotated[str | None, typer.Option(metavar="A,B", help="Likewise: micro-batches an update; by default "
                                                   "the recipe's.")]

Options = Annotated[bool, typer.Option("--options", help="Compile with each of XLA's options and without.")]
Only = Annotated[list[str] | None, typer.Option(metavar="NAME", help="With --options: this one; several may be "
                                                "named.")]


def preflight(
    recipe: shared.Recipe,
    overrides: shared.Overrides = None,
    *,
    topology: Topology = None,
    slices: Annotated[int, typer.Option(metavar="N", min=1, help="Of each, joined by the data-centre network.")] = 1,
    backend: Trainers = None,
    runtime: shared.Runtime = None,
    peers: Annotated[str, typer.Option(metavar="NAMES", help="Steps of others beside ours: maxtext-compile.")] = "",
    out: Annotated[str, typer.Option(metavar="DIR", help="Where preflight.json goes.")],
    check: Annotated[str | None, typer.Option(metavar="JSON", help="No worse than an earlier preflight.json?")] = None,
    write_golden: Annotated[str | None, typer.Option(metavar="PATH", help="Write there what --check needs.")] = None,
    search: Annotated[bool, typer.Option("--search", help="Find the largest batch that fits.")] = False,
    options: Options = False,
    only: Only = None,
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
    --search, search.json and patch.toml; with --options, options.json and options.md.

    \b
    Exit code: 0 all compile and fit, or with --check are no worse than before; 1 otherwise; 4 libtpu is missing or old.
    \b
    Examples:
      twinscale preflight recipes/decoder-stdlib.toml --topology v5e:2x2 --out build/preflight
      twinscale preflight recipes/decoder-125m.toml devices.fsdp=4 --topology v5e-16 --topology v5p:2x2x2 \\
        --backend jax --out build/125m
      twinscale preflight recipes/mlp-digits.toml --topology v5e:2x2 --out build/mlp --write-golden mlp.json
      twinscale preflight recipes/decoder-stdlib.toml --topology v5e:2x2 --backend all --out build/three
      twinscale preflight recipes/mlp-digits.toml --check mlp.json --out build/again
      twinscale preflight recipes/tpu/decoder-1b.toml --topology v5e:4x4 --search --remat full,dots --out build/search
      twinscale preflight recipes/tpu/decoder-1b.toml --topology v5p:2x2x4 --options --out build/options
    """
    from twinscale.common.recipe.file import given

    asked = shared.with_precision(overrides, precision)
    described = shared.of_two(given(recipe, asked), "preflight", "it compiles a Keras and a JAX program")
    there = [*(word for name in topology or () for word in ("--topology", name)), *shared.given("slices", slices, 1)]
    backends = shared.backends_of(backend, runtime, {"both": BOTH[::-1], "all": tuple(BACKENDS)[::-1]})
    told = {"topologies": topology or (), "slices": slices, "as_json": json, "overwrite": overwrite}
    golden, beside = {"check": check, "write_golden": write_golden}, peers.split(",") if peers else []
    sought = {"remat": remat, "accumulate": accumulate, "fsdp": fsdp, "tensor": tensor, "jobs": jobs}
    words, trainers = [recipe, *asked, *there], shared.each_given(backend=backend, runtime=runtime)
    check_forms({"options": options, "search": search}, golden | {"peers": peers or None}, sought, only)
    if options or search:
        raise typer.Exit(with_options(described, out, backends, only or [], words, told) if options else
                         searched(described, out, backends, sought, told))
    words += [*trainers, *shared.each_given(peers=peers or None, check=check)]
    code = compiled(described, out, backends, words, golden | told | {"peers": beside})
    verb, changed, further = what_next(code, described, backends, [*there, *trainers], out)
    shared.suggest(verb, recipe, *(overrides or []), *changed, *shared.precision_words(precision), *further)
    raise typer.Exit(code or DID_IT)


def check_forms(
    forms: dict[str, bool], plain: dict[str, str | None], sought: dict[str, Any], only: Sequence[str] | None,
) -> None:
    """Raises BadInput for options that the form of the verb, --options or --search or neither, does not have."""
    kept = {name.replace("_", "-"): value for name, value in plain.items()}
    if forms["options"]:
        shared.only("--options", search=forms["search"] or None, **kept, **sought)
        return
    shared.only("a preflight without --options", only=only)
    if forms["search"]:
        shared.only("--search", **kept)
    else:
        shared.only("a preflight without --search", **sought)


def compiled(
    recipe: "Described", out: str, backends: Sequence[str], words: Sequence[str], told: dict[str, Any],
) -> int:
    """The exit code of a preflight of the recipe as it is."""
    from twinscale.common.files.access import place
    from twinscale.common.files.output import nothing_left

    with nothing_left(place(out)):
        return shared.room("benchmarks.preflight").preflight(recipe, place(out), backends=backends, words=words, **told)


def with_options(
    recipe: "Described", out: str, backends: Sequence[str], only: Sequence[str], words: Sequence[str],
    told: dict[str, Any],
) -> int:
    """The exit code of a preflight with each of XLA's options and without; what is `told` goes to it as it is."""
    from twinscale.common.files.access import place
    from twinscale.common.files.output import nothing_left

    shared.only("--options, which compiles JAX alone", **{
        " ".join(options_of(name)).removeprefix("--"): name for name in backends if name != "jax"})
    with nothing_left(place(out)):
        named = [word for name in only for word in ("--only", name)]
        return shared.room("benchmarks.preflight.options").options(recipe, place(out), only=only,
                                                                   words=[*words, *named], **told)


def searched(
    recipe: "Described", out: str, backends: Sequence[str], sought: dict[str, Any], told: dict[str, Any],
) -> int:
    """The exit code of a search for the largest batch."""
    from twinscale.common.files.access import place
    from twinscale.common.files.output import nothing_left

    shared.only("--search", **{f"backend {'both' if len(backends) == 2 else 'all'}": len(backends) > 1 or None})
    lists, jobs = {name: text for name, text in sought.items() if name != "jobs"}, sought["jobs"]
    with nothing_left(place(out)):
        return shared.room("benchmarks.preflight.search").search(
            recipe, place(out), backend=(*backends, "jax")[0], jobs=jobs, **to_try(**lists), **told)


def to_try(
    remat: str | None, accumulate: str | None, fsdp: str | None, tensor: str | None,
) -> dict[str, Any]:
    """What a search is to try, of the options' lists."""
    return {"remats": remat.split(",") if remat else None, "accumulations": shared.counts("accumulate", accumulate),
            "fsdp": shared.counts("fsdp", fsdp), "tensor": shared.counts("tensor", tensor)}


def what_next(
    code: int, recipe: "Described", backends: Sequence[str], asked: Sequence[str], out: str,
) -> tuple[str, list[str], list[str]]:
    """(verb, overrides, options) of the command to suggest: the training, or a preflight of smaller micro-batches for
    the slices and trainers that were asked for."""
    if code == DID_IT:
        return "train", [], [*options_of((*backends, "jax")[0]), "--run", "runs/tpu"]
    return "preflight", [f"train.accumulate={2 * recipe.train.accumulate}"], [*asked, "--out", f"{out}-smaller"]
