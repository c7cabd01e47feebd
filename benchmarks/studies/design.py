"""The file of a study: a recipe, backends, seeds, and a design that says which of it are trained.

    recipe = "decoder-stdlib"             # a file beside this one, or one of ours by its name
    backend = "both"
    seeds = [0, 1]
    [design]
    kind = "grid"                         # or "isoflop", "ladder"
    sizes = [{ model.layers = 1, model.width = 32 }, { model.layers = 2, model.width = 64 }]
    tokens = [30e3, 100e3]                # or tokens_per_parameter = [5, 20]
    vary = { optimizer.learning_rate = [1e-3, 3e-3] }
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from twinscale.benchmarks.studies.sizes import Size, advice, best_sizes, size_of
from twinscale.common.backends import BACKENDS, BOTH
from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.families.pair import check_backend
from twinscale.common.files.access import exists, read_toml, shown
from twinscale.common.recipe.file import as_override, flat, given
from twinscale.common.recipe.runtime import check_runtime
from twinscale.common.recipe.schema import Recipe
from twinscale.common.section import Positive, Section

MOST = 10_000  # runs
KEYS = {"grid": ({"sizes", "tokens", "tokens_per_parameter", "vary"}, {"sizes"}),
        "isoflop": ({"sizes", "budgets", "around", "nearest", "vary"}, {"sizes", "budgets"}),
        "ladder": ({"sizes", "tokens", "tokens_per_parameter", "vary"}, {"vary"})}  # (those it takes, those it needs)


class Design(Section):
    """Which sizes are trained on how many tokens."""

    kind: Literal["grid", "isoflop", "ladder"]
    sizes: list[dict[str, Any]] = Field([], description="overrides of the recipe that make a size, each")
    tokens: list[Positive] = Field([], description="tokens of a run; of what is no text, examples")
    tokens_per_parameter: list[Positive] = []
    budgets: list[Positive] = Field([], description="isoflop: operations of a run, exact ones")
    around: str = Field("", description="isoflop: a law.toml or a table of results whose law says the best size")
    nearest: Annotated[int, Field(ge=4)] = Field(5, description="isoflop: sizes a budget, of those nearest to the best")
    vary: dict[str, Any] = Field({}, description="{key of the recipe: values}")


class Study(Section):
    """What the file says."""

    recipe: str
    backend: Literal[(*BACKENDS, "both")] = "both"
    seeds: list[Annotated[int, Field(ge=0, lt=1 << 63)]] = Field([0], min_length=1)
    overrides: dict[str, Any] = Field({}, description="{key of the recipe: value} of all runs")
    design: Design

    @property
    def backends(self) -> tuple[str, ...]:
        """Those that train."""
        return BOTH[::-1] if self.backend == "both" else (self.backend,)


class Planned(NamedTuple):
    """A run that is to be: its recipe, which a backend trains, and what of it is known before."""

    backend: str
    recipe: Recipe
    size: Size

    @property
    def tokens(self) -> int:
        """D: what is trained on, of text tokens, of anything else examples."""
        return self.recipe.train.steps * self.recipe.train.global_batch * self.size.row

    @property
    def flops(self) -> float:
        """C: exact operations of the whole training."""
        return self.recipe.train.steps * self.recipe.train.global_batch * self.size.row_flops

    @property
    def name(self) -> str:
        """What the run is called in the table."""
        return f"{self.backend}-{self.recipe.hash[:16]}"


def read_study(file: Path) -> Study:
    """The study of a file. Raises BadInput with file, key, value and what to do."""
    study = read_toml(file, Study, "docs/scaling-laws.md shows one")
    design = study.design
    takes, needs = KEYS[design.kind]
    said = {key for key, value in design if value != Design.model_fields[key].get_default() and key != "kind"}
    if odd := said - takes:
        raise BadInput(f"{shown(file)}: design.{min(odd)}: not of kind = \"{design.kind}\", which takes "
                       f"{', '.join(sorted(takes))}; leave it out")
    if lacking := needs - said:
        raise BadInput(f"{shown(file)}: design.{min(lacking)}: missing or empty, and kind = \"{design.kind}\" needs it")
    if bool(design.tokens) == bool(design.tokens_per_parameter) and design.kind == "grid":
        raise BadInput(f"{shown(file)}: design.tokens: set one of tokens and tokens_per_parameter")
    if len(set(study.seeds)) < len(study.seeds):
        raise BadInput(f"{shown(file)}: seeds = {study.seeds}: one is there twice; take it out")
    for key, values in flat(design.vary).items() if design.vary else ():
        if not isinstance(values, list) or not values:
            raise BadInput(f"{shown(file)}: design.vary.{'.'.join(key)} = {shown(values, 60)}: expected a list of "
                           "values of the key")
    return study


def planned(study: Study, file: Path, overrides: Sequence[str] = ()) -> list[Planned]:
    """All runs of a study, the smallest first, those of a pair beside one another.

    Raises BadInput with every recipe that is refused, before anything is trained.
    """
    source = beside(study.recipe, file)
    common = [*_texts(study.overrides), *overrides]
    base = given(source, common)
    found: dict[tuple[str, str], Planned] = {}
    problems = []
    cells = list(itertools.product(_sized(study, file, source, common), _varied(study.design.vary), study.seeds))
    if len(cells) * len(study.backends) > MOST:
        raise BadInput(f"{shown(file)}: {len(cells) * len(study.backends):,} runs, and {MOST:,} at most are trained")
    for (size, wanted), varied, seed in cells:
        texts = [*common, *size, *varied, f"seed={seed}"]
        try:
            recipe = _recipe(source, texts, base, wanted)
            for backend in study.backends:
                check_backend(recipe.model, backend)
                check_runtime(recipe, backend)
                found.setdefault((recipe.hash, backend), Planned(backend, recipe, size_of(recipe)))
        except (BadInput, MissingEnvironment) as error:
            problems.append(f"{' '.join([*size, *varied])}: {error}")
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise BadInput("\n".join(f"{shown(file)}: design: {one}" for one in problems[:3]) + more)
    places = {key[0]: number for number, key in reversed(list(enumerate(found)))}
    return sorted(found.values(), key=lambda run: (run.flops, places[run.recipe.hash]))


def beside(name: str, file: Path) -> str:
    """A recipe that a study's file names: one that lies beside it, else as the command line has it."""
    near = file.parent / name
    return str(near) if exists(near) and near.is_file() else name


def _recipe(source, texts, base, wanted):
    """The recipe of a run: `wanted` (size) -> updates; its schedule in the base's proportion of them."""
    first = given(source, [*texts, f"train.steps={max(base.train.steps, 1)}"])
    if first.compress.stages or first.devices.hosts != 1:
        raise BadInput("compress.stages, devices.hosts: a run of a study is one training on one host; leave them out")
    steps = wanted(first, size_of(first)) if wanted else base.train.steps
    if steps < 1:
        raise BadInput(f"{steps} updates of train.global_batch={first.train.global_batch}: its tokens are less than "
                       "half of an update's; take more tokens, or a smaller train.global_batch")
    return given(source, [*texts, f"train.steps={steps}", *_schedule(first, steps)])


def _schedule(first: Recipe, steps: int) -> Iterator[str]:
    """The overrides that keep a schedule's spans in proportion to the updates: one that there was stays, of an update
    at least where there is room."""
    room = steps
    for key in ("warmup", "decay"):
        span = getattr(first.schedule, key, 0)
        if span:
            scaled = min(room, max(1, round(span * steps / first.train.steps)))
            room -= scaled
            yield f"schedule.{key}={scaled}"


def _sized(study, file, source, common):
    """[(overrides of a size, what says its updates)]."""
    design = study.design
    sizes = [_texts(size) for size in design.sizes] or [[]]
    if design.kind == "isoflop":
        return _isoflop(design, file, source, common, sizes)
    if design.tokens_per_parameter:
        return [(size, _by_ratio(ratio)) for size in sizes for ratio in design.tokens_per_parameter]
    return [(size, _by_tokens(tokens)) for size in sizes for tokens in design.tokens] if design.tokens else [
        (size, None) for size in sizes]


def _isoflop(design, file, source, common, sizes):
    """The sizes of each budget: those nearest to the best one by a law, in the ratio; all where there is none."""
    law = advice(str(beside(design.around, file))) if design.around else None
    if law is None:
        return [(size, _by_flops(flops)) for flops in design.budgets for size in sizes]
    counted = [float(size_of(given(source, [*common, *size])).total) for size in sizes]
    return [(sizes[place], _by_flops(flops)) for flops in design.budgets
            for place in best_sizes(law, counted, flops, design.nearest)]


def _by_tokens(tokens):
    return lambda recipe, size: round(tokens / (recipe.train.global_batch * size.row))


def _by_ratio(ratio):
    return lambda recipe, size: round(ratio * size.total / (recipe.train.global_batch * size.row))


def _by_flops(flops):
    return lambda recipe, size: round(flops / (recipe.train.global_batch * size.row_flops))


def _varied(vary: Mapping[str, Any]) -> Iterable[list[str]]:
    """The overrides of every combination of values."""
    axes = [[as_override(".".join(key), value) for value in values] for key, values in flat(vary).items()
            ] if vary else []
    return map(list, itertools.product(*axes))


def _texts(table: Mapping[str, Any]) -> list[str]:
    """The overrides that a table of keys is; a dotted key may be quoted."""
    return [as_override(".".join(key), value) for key, value in flat(dict(table)).items()] if table else []
