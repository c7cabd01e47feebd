"""What the commands beside `compare` leave as JSON, as they make it and as it is read back; the verdict has a module of
its own. SCHEMAS has them all by name."""

from typing import Any, Literal

from pydantic import Field, TypeAdapter

from twinscale.benchmarks.columns_result import Columns
from twinscale.benchmarks.device_check.result import Checked
from twinscale.benchmarks.laws.result import FittedLaw, Prediction
from twinscale.benchmarks.options_result import Options
from twinscale.benchmarks.planning.result import Plan, Serving
from twinscale.benchmarks.run_report import RunReport
from twinscale.benchmarks.studies.result import Studied
from twinscale.benchmarks.tuning.result import Tuning
from twinscale.benchmarks.verdict import Curve, Described, Made, Rung, Verdict, failures
from twinscale.common.errors import DID_IT, INCONCLUSIVE, NO, Disagreement, one_of
from twinscale.common.export.formats import ExportInfo
from twinscale.common.files.kinds import Backend, Count, Metrics, version
from twinscale.common.files.results import Figure, Real, Result, maybe
from twinscale.common.training.run import RunInfo

SCHEMA_VERSION = 1
Versions = dict[str, str | None]


# ---- compression.json

class Model(Result):
    """A model of a compression: the dense one, or what a stage has left."""

    backend: Backend
    stage: str
    metrics: Metrics
    parameters: Count
    kept: Real = Field(description="The share of the kernels' values that are not 0.")
    verified: list[Any]
    files: list[dict[str, Any]] = Field(description="What it ships as, each with its size, metrics and latency.")
    mask_agreement: Figure
    quanta_differing: Count | None
    quanta: dict[str, Any] | None
    paired: dict[str, Any] | None = Field(description="The test that held-out losses are equivalent.")
    bytes: Count = maybe()
    latency_ms: Real = maybe()
    metric: Figure
    metric_name: str


class Compression(Result):
    """compression.json: what each stage left, and of a comparison whether the backends agree on it."""

    rows: list[Model]
    rungs: list[Rung]
    agrees: bool | None = Field(description="Null of one backend alone.")
    commands: list[str]
    schema_version: version(SCHEMA_VERSION)
    recipe: Described
    stages: list[str]
    data: dict[str, Any]
    limits: list[str]
    versions: dict[str, Versions]
    devices: dict[str, list[str]]
    sentence: str
    made: Made

    @property
    def exit_code(self) -> int:
        """Of the command that made it."""
        if self.agrees in (True, None):
            return DID_IT
        return INCONCLUSIVE if all(rung.agrees or rung.open for rung in self.rungs) else NO

    def raise_if_not(self) -> "Compression":
        """Returns itself where the backends agree; else, and where it stays open, it raises Disagreement."""
        if self.exit_code != DID_IT:
            raise Disagreement("\n".join([self.sentence, *failures(self.rungs)]), self)
        return self


# ---- audit.json, clean.json

class Trial(Result):
    """What planting one change did to a verdict."""

    name: str
    backend: Backend
    recipe: str
    operation: str | None = Field(description="What is to be found; null of a harmless change.")
    where: str | None
    meaning: str
    needs: list[str] = maybe(description="What a recipe has to have for it to show.")
    phase: str = maybe(description="Of a training: what it changes.")
    shared: bool = maybe(description="Both backends have it.")
    precision: str
    caught: bool
    placed: bool
    failed: dict[str, Figure] = Field(description="{rung: how many times its bound was observed}.")
    signal: Figure
    found: dict[str, Any] | None
    error: str | None
    seconds: Real


class Audit(Result):
    """audit.json: planted errors, each to be caught and placed, and harmless changes, none to be."""

    mutants: Count
    caught: Count
    placed: Count
    neutral: Count
    flagged: Count
    failed: Count
    smallest_signal: Figure
    median_signal: Figure
    by: dict[str, dict[str, dict[str, Count]]]
    rungs: dict[str, dict[str, Any]]
    rows: list[Trial]
    schema_version: version(SCHEMA_VERSION)
    seconds: Real
    made: Made
    inapplicable: list[dict[str, Any]] = maybe()
    recipe: str | None = maybe()
    commands: list[str]


class Compared(Result):
    """A clean comparison."""

    number: Count
    optimizer: str
    precision: str
    family: str
    agrees: bool
    said: str
    horizon: Count | None
    ratios: dict[str, dict[str, Any]] = Field(description="{rung: its check nearest to its bound}.")
    twice: bool
    seconds: dict[str, Real]
    version: str
    commit: str | None


class Clean(Result):
    """clean.json: comparisons with nothing planted, none to be flagged."""

    comparisons: Count
    flagged: Count
    open: Count
    twice: Count
    counted: dict[str, dict[str, Count]]
    worst: dict[str, dict[str, Any]]
    seconds: Real
    commits: list[str]
    rows: list[Compared]
    schema_version: version(SCHEMA_VERSION)
    made: Made
    commands: list[str]


# ---- differences.json

class Apart(Result):
    """Two losses of one step."""

    step: Count
    a: Real
    b: Real
    difference: Figure = Field(description="b - a, without its sign.")
    relative: Figure = Field(description="The same, as a share of the larger of both.")


class Read(Result):
    """How one side was read."""

    path: str
    form: str
    step: str = Field(description="What its steps are called there.")
    loss: str
    steps: Count = Field(description="How many it has.")
    first: Count
    last: Count


class TensorApart(Result):
    """A tensor of the second side, and what the match makes of the first side's in its place."""

    tensor: str
    of: list[str] = Field(description="The tensors of the first side that it is made of.")
    shape: list[Count]
    relative: Figure = Field(description="Largest difference over the largest element; null: not finite.")
    absolute: Figure
    equal: bool = Field(description="Bit for bit, as float64.")


class Weights(Result):
    """Two checkpoints, tensor by tensor."""

    a: str
    b: str
    match: str | None
    tensors: list[TensorApart] = Field(description="The furthest apart first.")
    unmatched: dict[str, list[str]] = Field(description="Of either side, what no line of the match speaks of.")


class Differences(Result):
    """differences.json: two trainings, one of them at least not of Twinscale, and how far they are apart. There is no
    twin of such a one, so there is no bound, and it is not said whether they agree."""

    schema_version: version(SCHEMA_VERSION)
    sides: dict[str, str]
    sentence: str
    bounded: Literal[False]
    read: dict[str, Read]
    shared: Count = Field(description="Steps that both have.")
    equal: Count = Field(description="Shared steps whose losses are equal to the last bit.")
    first: Apart | None = Field(description="The first shared step at which they differ; null where there is none.")
    largest: Apart
    final: Apart = Field(description="The last shared step.")
    curve: Curve = Field(description="The shared steps, thinned out evenly where there are very many.")
    thinned: bool
    weights: Weights | None
    limits: list[str]
    made: Made
    commands: list[str]

    @property
    def exit_code(self) -> int:
        """Of the command that made it: it is left open whether they agree."""
        return INCONCLUSIVE


# ---- bench.json

class Timed(Result):
    """Milliseconds a step."""

    median: Figure
    interval: list[Figure] = Field(min_length=2, max_length=2)
    rounds: list[Figure]


class Side(Result):
    """A backend's figures; null is what is refused, for a reason that `refused` has."""

    backend: Backend
    device: str
    devices: list[str]
    precision: str
    attention: str | None
    bare_ms: Timed
    loop_ms: Timed
    loop_over_bare: dict[str, Any]
    throughput: Figure
    unit: str
    mfu: dict[str, Figure]
    mfu_convention: str
    peak_flops: Figure
    peak_from: str
    refused: list[str]
    peak_bytes: Count | None
    limit_bytes: Count | None
    compile_seconds: Real


class Beside(Result):
    """A peer's figures, measured in the backends' rounds."""

    versions: dict[str, str]
    device: str = maybe(description="What it trained on, where the peer says so.")
    step_ms: Timed
    throughput: Real
    times: dict[str, dict[str, Any]] = Field(description="Of each backend, how many times the peer's throughput that "
                                                         "of its trainer's loop is, {ratio, interval}.")


class Bench(Result):
    """bench.json: how fast a recipe trains here."""

    schema_version: version(SCHEMA_VERSION)
    recipe: dict[str, Any]
    hash: str
    steps: Count
    rounds: Count
    sides: dict[Backend, Side]
    ratio: dict[str, Any] | None = Field(description="Of two backends; null of one, or of several.")
    ratios: list[dict[str, Any]] = maybe(description="Of each pair of several.")
    peers: dict[str, Beside] = maybe()
    machine: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """Of the command that made it: a figure that is refused leaves it open."""
        return INCONCLUSIVE if any(side.refused for side in self.sides.values()) else DID_IT


# ---- preflight.json, search.json

class Compiled(Result):
    """A backend's step on a topology. What follows `headroom_bytes` is of one that compiles."""

    backend: Backend
    topology: str
    slices: Count
    chips: Count
    devices: Count
    kind: str | None
    mesh: Any
    compiles: bool
    fits: bool | None
    error: str | None
    hbm_bytes_per_device: Count | None
    hbm_capacity_bytes: Count
    memory: dict[str, Count] | None
    xla_flags: Any
    lower_seconds: Figure
    compile_seconds: Figure
    attention: str | None
    headroom_bytes: int | None
    flops_per_device: Real = maybe()
    flops_by_place: dict[str, Real] = maybe()
    kernel_flops_per_device: Real = maybe()
    kernels: dict[str, Any] = maybe()
    uncounted_kernels: list[str] = maybe()
    matrix_flops_per_device: Real = maybe()
    compiler_flops: Figure = maybe()
    bytes_moved_per_device: Real = maybe()
    collectives: list[dict[str, Any]] = maybe()
    bytes_per_link: Real = maybe()
    links: Count = maybe()
    fusions: Count = maybe()
    fusions_by_kind: dict[str, Count] = maybe()
    unknown_loops: Any = maybe()
    unread_collectives: Any = maybe()
    bound: str = maybe()
    seconds_at_least: dict[str, Figure] = maybe()
    mfu_ceiling: Figure = maybe()
    mfu_convention: str = maybe()
    throughput_ceiling: Figure = maybe()
    unit: str = maybe()


class OfPeer(Compiled):
    """A peer's step on a topology, of a program of JAX, counted as ours is."""

    peer: str
    versions: dict[str, str]
    ours_over_theirs: dict[str, Real] = Field(description="How many times the peer's figure ours is.")
    other_versions: dict[str, list[str | None]] = Field(description="[ours, the peer's] of what decides an answer and "
                                                                    "is not the same.")


class Preflight(Result):
    """preflight.json: what the TPU's compiler says of a recipe's step."""

    schema_version: version(SCHEMA_VERSION)
    recipe: dict[str, Any]
    hash: str
    results: list[Compiled]
    peers: list[OfPeer] = maybe()
    parity: list[dict[str, Any]] = Field(description="The backends side by side, where both compile.")
    assumptions: dict[str, str]
    versions: Versions
    made: Made
    commands: list[str]
    chips: dict[str, dict[str, Any]]
    check: dict[str, Any] | None = Field(description="What is worse than in the golden that it was held to.")


class Search(Result):
    """search.json: layouts ranked by the largest batch that fits."""

    schema_version: version(SCHEMA_VERSION)
    recipe: dict[str, Any]
    hash: str
    backend: Backend
    topology: str
    slices: Count
    libtpu: str | None
    versions: Versions
    candidates: list[dict[str, Any]]
    patch: str | None = Field(description="What the best changes in the recipe, as TOML.")


SCHEMAS = {"verdict": Verdict, "differences": Differences, "compression": Compression, "columns": Columns,
           "audit": Audit, "clean": Clean, "bench": Bench, "plan": Plan, "fit": FittedLaw, "preflight": Preflight,
           "search": Search, "options": Options, "export": ExportInfo, "run": RunInfo, "tune": Tuning, "study": Studied,
           "report": RunReport, "prediction": Prediction, "serving": Serving, "check": Checked}


def schema(name: str) -> dict[str, Any]:
    """The JSON schema of a result by its name, one of SCHEMAS. Raises BadInput for any other."""
    return TypeAdapter(one_of(SCHEMAS, name, "schema")).json_schema()
