"""The command line, the one door: each verb loads what it needs, and only then, so that `--help` stays fast."""

import contextlib
import importlib
import importlib.util
import os
import shlex
import sys
from typing import Annotated, Literal

import typer

from twinscale.common import process
from twinscale.common.errors import (
    BAD_INPUT,
    DID_IT,
    INTERRUPTED,
    NO,
    BadInput,
    MissingEnvironment,
    known,
    show_traceback,
    unexpected,
)

ROOMS = {"keras": "tfscale.room", "jax": "jaxscale.room"}
PACKAGES = {"keras": ("tensorflow", "keras"), "jax": ("jax", "flax")}

# Flags that are False and not None need no conversion, for which typer would import pydantic: 0.2 s of each --help.
NO_CONVERSION = {"default_map": dict.fromkeys(("help", "install_completion", "show_completion"), False)}

app = typer.Typer(name="twinscale", rich_markup_mode=None, pretty_exceptions_enable=False,
                  context_settings=NO_CONVERSION,
                  help="One recipe, two independent trainers (Keras on TensorFlow, Flax on JAX), one verdict.")
recipe_app = typer.Typer(rich_markup_mode=None, context_settings=NO_CONVERSION, help="Look at recipes.")
app.add_typer(recipe_app, name="recipe")

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A TOML file, or one of ours by its name.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="As train.steps=200; TOML values.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Remove what an earlier command left there.")]
Precision = Annotated[str | None, typer.Option(metavar="P", help="float32, bfloat16 or float64: train.precision=P.")]


AcceptData = Annotated[bool, typer.Option("--accept-data", help="Go on though the data is no longer what it was.")]


@app.command(short_help="Train a recipe with one backend.")
def train(
    recipe: Recipe,
    overrides: Overrides = None,
    *,
    backend: Annotated[Literal["keras", "jax"], typer.Option(help="The trainer.")],
    run: Annotated[str, typer.Option(metavar="DIR", help="The run's directory; an unfinished run there is resumed.")],
    overwrite: Overwrite = False,
    precision: Precision = None,
    trace: Annotated[Literal["sketch", "full"] | None, typer.Option(help="Leave what compare-runs reads.")] = None,
    trace_every: Annotated[int, typer.Option(metavar="N", min=0, help="Steps between; 0: train.log_every.")] = 0,
    twin_steps: Annotated[int, typer.Option(metavar="N", min=1, help="Steps of the twin that a trace has.")] = 50,
    origin: Annotated[str | None, typer.Option("--from", metavar="DIR", help="Go on from a run, or what convert made "
                                               "of one.")] = None,
    stop: Annotated[int | None, typer.Option(metavar="STEP", min=1, help="End after so many updates for now.")] = None,
    accept_data: AcceptData = False,
    supervise: Annotated[bool, typer.Option("--supervise", help="Start it again when it dies.")] = False,
    restarts: Annotated[int, typer.Option(metavar="N", min=0, help="At most, without a new checkpoint.")] = 5,
):
    """Train a recipe with one backend and leave a run directory.

    \b
    Examples:
      twinscale train recipes/decoder-stdlib.toml --backend jax --run runs/jax
      twinscale train recipes/decoder-stdlib.toml train.steps=200 model.dropout=0.1 --backend keras --run runs/keras
      twinscale train recipes/decoder-stdlib.toml devices.data=4 --backend jax --run runs/four --trace sketch
      twinscale train recipes/decoder-stdlib.toml --stop 100 --backend keras --run runs/first
      twinscale train recipes/decoder-stdlib.toml --from runs/first --backend jax --run runs/second
      twinscale train recipes/decoder-stdlib.toml train.save_every=50 --supervise --backend jax --run runs/jax

    \b
    Exit code: 0 it is done, 75 it was asked to end (SIGTERM) and has saved: the same command goes on; 70 it hung, 71
    another host is gone, 74 it could not save; 1 the loss is not finite, or no checkpoint is whole.
    """
    from twinscale.common.files import place
    from twinscale.common.recipe_file import load
    from twinscale.common.run import check_run

    described = load(recipe, _overrides(overrides, precision))
    if described.compress.stages:  # which `compress` trains
        described = described.with_values(compress={"stages": ()})
    directory = place(run)
    old = check_run(directory, described, backend, overwrite=overwrite)  # before seconds go into loading a framework
    if stop is not None and stop > described.train.steps:
        raise BadInput(f"--stop {stop}: past the end, train.steps={described.train.steps}")
    if supervise:
        raise typer.Exit(_supervise(run, restarts, overwrite))
    with _leaving_at_once(described.devices.hosts != 1):
        room = _room(ROOMS[backend])
        from twinscale.common.loop import Probe, traced_steps

        traced = traced_steps(described, trace_every or described.train.log_every) if trace else ()
        probe = Probe(trace=trace, traced=traced, twin_steps=twin_steps if trace else 0,
                      log_every=1 if trace else None, stop=stop, accept_data=accept_data,
                      resumable=stop is not None and stop < described.train.steps)
        begun = None
        if origin and (overwrite or not old or old.get("saved") is None):
            begun = _begun(origin, described)
        room.train(described, run_dir=directory, overwrite=overwrite, probe=probe, begun=begun)
    if described.devices.hosts == 1:  # else each of many would say so
        _next("compare", recipe, *(overrides or []), *_option(precision), "--out", f"build/{described.name}")


@app.command(short_help="Train it with both and say whether they agree.")
def compare(
    recipe: Recipe,
    overrides: Overrides = None,
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Where the runs, the verdict and the report go.")],
    overwrite: Overwrite = False,
    precision: Precision = None,
    place: Annotated[bool, typer.Option("--place", help="Where they disagree, look for the first cause.")] = False,
    swap: Annotated[bool, typer.Option("--swap", help="Run each program under the other's runtime too.")] = False,
    operations: Annotated[bool, typer.Option("--operations", help="Check every operation by itself too.")] = False,
    outcome: Annotated[str | None, typer.Option(metavar="SEEDS=N", help="Train from N seeds, test results.")] = None,
    meshes: Annotated[bool, typer.Option("--meshes", help="Train each on several devices and hosts too.")] = False,
    plant: Annotated[str | None, typer.Option(metavar="BACKEND:MUTANT", hidden=True)] = None,
):
    """Train a recipe with both backends and say whether they agree, and if not, where they part.

    \b
    Exit code: 0 they agree, 1 they do not, 3 inconclusive.
    \b
    Examples:
      twinscale compare recipes/decoder-stdlib.toml --out build/demo
      twinscale compare recipes/mlp-digits.toml --outcome SEEDS=4 --out build/mlp
      twinscale compare recipes/mlp-digits.toml --meshes --out build/meshes
      twinscale compare recipes/compress-decoder.toml --out build/compress
      twinscale compare recipes/decoder-stdlib.toml train.steps=50 --swap --place --out build/swap
      twinscale compare recipes/decoder-stdlib.toml train.steps=50 --precision bfloat16 --out build/bf16 --overwrite
    """
    from twinscale.common.files import place as directory
    from twinscale.common.recipe_file import load

    described = load(recipe, _overrides(overrides, precision))
    if described.compress.stages:
        _only_stages(place=place, swap=swap, operations=operations, outcome=outcome, meshes=meshes, plant=plant)
        code = _room("benchmarks.compression").compare_compression(described, directory(out), overwrite=overwrite)
        _say(f"the report is {shlex.quote(str(directory(out) / 'report.html'))}")
        raise typer.Exit(code or DID_IT)
    seeds = _room("benchmarks.outcome").parse_seeds(outcome) if outcome is not None else None
    code = _room("benchmarks.compare").compare(described, out=directory(out), overwrite=overwrite, plant=plant,
                                               operations=operations, seeds=seeds, place=place, swap=swap,
                                               meshes=meshes, asked=(recipe, *_overrides(overrides, precision)))
    if code == NO and not place:
        _next("bisect", out)
    elif (report := directory(out) / "report.html").exists():
        _say(f"the report is {shlex.quote(str(report))}")
    raise typer.Exit(code or DID_IT)


@app.command(short_help="Train a recipe on several hosts.")
def launch(
    recipe: Recipe,
    overrides: Overrides = None,
    *,
    backend: Annotated[Literal["keras", "jax"], typer.Option(help="The trainer.")],
    run: Annotated[str, typer.Option(metavar="DIR", help="The run's directory, which all hosts reach.")],
    target: Annotated[Literal["local", "tpu", "slurm", "gke"], typer.Option(help="What the hosts are.")],
    hosts: Annotated[int, typer.Option(metavar="N", help="How many, over all slices.")],
    go: Annotated[bool, typer.Option("--go", help="Run what is printed otherwise.")] = False,
    grace: Annotated[int | None, typer.Option(metavar="SECONDS", help="local, slurm, gke: to save and leave.")] = None,
    name: Annotated[str | None, typer.Option(help="tpu, slurm, gke: of the TPU, job or JobSet.")] = None,
    zone: Annotated[str | None, typer.Option(help="tpu: its zone.")] = None,
    project: Annotated[str | None, typer.Option(help="tpu: its project.")] = None,
    workdir: Annotated[str | None, typer.Option(metavar="DIR", help="tpu, slurm: the checkout there.")] = None,
    env: Annotated[str | None, typer.Option(metavar="DIR", help="tpu, slurm: the virtual environment there.")] = None,
    shared: Annotated[bool | None, typer.Option("--shared", help="tpu: all hosts mount the run's directory.")] = None,
    partition: Annotated[str | None, typer.Option(help="slurm")] = None,
    account: Annotated[str | None, typer.Option(help="slurm")] = None,
    time: Annotated[str | None, typer.Option(metavar="H:M:S", help="slurm: the limit of one start.")] = None,
    gpus_per_host: Annotated[int | None, typer.Option(metavar="N", help="slurm")] = None,
    cpus_per_host: Annotated[int | None, typer.Option(metavar="N", help="slurm")] = None,
    requeue: Annotated[bool | None, typer.Option("--requeue/--no-requeue", help="slurm: go on by itself.")] = None,
    image: Annotated[str | None, typer.Option(help="gke: the container's image.")] = None,
    accelerator: Annotated[str | None, typer.Option(metavar="A", help="gke: such as tpu-v6e-slice.")] = None,
    topology: Annotated[str | None, typer.Option(metavar="AxB", help="gke: the shape of a slice.")] = None,
    slices: Annotated[int | None, typer.Option(metavar="N", help="gke: how many slices.")] = None,
    namespace: Annotated[str | None, typer.Option(help="gke")] = None,
    service_account: Annotated[str | None, typer.Option(metavar="NAME", help="gke: may write the run.")] = None,
    max_restarts: Annotated[int | None, typer.Option(metavar="N", help="gke: after failures.")] = None,
):
    """Print what trains a recipe on several hosts: the commands, the script or the manifest. With --go, run it.

    \b
    Exit code with --go: for local, 0 all ended well, 75 all that did not have saved and go on with the same command,
    else that of the first host that died; for tpu, that of gcloud; for slurm and gke, 0 it was accepted.
    \b
    Examples:
      twinscale launch recipes/decoder-stdlib.toml devices.data=2 --backend jax --run runs/two --target local \\
        --hosts 2 --go
      twinscale launch recipes/decoder-stdlib.toml devices.data=0 --backend jax --run gs://bucket/run --target tpu \\
        --hosts 4 --name train-1 --zone us-central2-b --project my-project --workdir twinscale
      twinscale launch recipes/decoder-stdlib.toml devices.data=0 --backend keras --run runs/four --target slurm \\
        --hosts 4 --gpus-per-host 4 --time 8:00:00
      twinscale launch recipes/decoder-stdlib.toml devices.data=0 --backend jax --run gs://bucket/run --target gke \\
        --hosts 4 --name train-1 --image us-docker.pkg.dev/my-project/images/train:1 --accelerator tpu-v6e-slice \\
        --topology 4x4
    """
    given = {"grace": grace, "name": name, "zone": zone, "project": project, "workdir": workdir, "env": env,
             "shared": shared, "partition": partition, "account": account, "time": time,
             "gpus_per_host": gpus_per_host, "cpus_per_host": cpus_per_host, "requeue": requeue, "image": image,
             "accelerator": accelerator, "topology": topology, "slices": slices, "namespace": namespace,
             "service_account": service_account, "max_restarts": max_restarts}
    given = {option: value for option, value in given.items() if value is not None}
    from twinscale.common.launch import as_options, launch

    code = launch(recipe, overrides or [], backend=backend, run=run, target=target, hosts=hosts, options=given, go=go)
    if not go:
        _next("launch", recipe, *(overrides or []), "--backend", backend, "--run", run, "--target", target, "--hosts",
              str(hosts), *as_options(given), "--go")
    raise typer.Exit(code)


@app.command(short_help="Write a run's state for the other backend.")
def convert(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The directory of a run with a checkpoint.")],
    *,
    to: Annotated[str, typer.Option(metavar="DIR", help="Where the state goes.")],
):
    """Write the state of a run's newest checkpoint in neither backend's format: safetensors by canonical name, weights
    and optimizer slots, with an index. Either backend goes on from it with `train --from`.

    \b
    Example:
      twinscale convert runs/keras --to build/state
    """
    from twinscale.common.canonical import check_target
    from twinscale.common.canonical import convert as written
    from twinscale.common.files import place
    from twinscale.common.recipe_file import load
    from twinscale.common.run import follow_run

    opened, described = follow_run(run), load(place(run) / "recipe.toml", [])
    check_target(place(to), described, opened)  # before seconds go into loading a framework
    step = written(_room(ROOMS[opened.info["backend"]]).ROOM, described, opened, place(to))
    _say(f"the state after {step} updates is in {to}")
    other = next(backend for backend in ROOMS if backend != opened.info["backend"])
    _next("train", str(place(run) / "recipe.toml"), "--from", to, "--backend", other, "--run", "runs/next")


@app.command(short_help="Write a run's model for other programs.")
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run with a checkpoint, or what convert made of one.")],
    *,
    to: Annotated[str, typer.Option(metavar="DIR", help="Where the formats and export.json go.")],
    formats: Annotated[str, typer.Option(metavar="F,F", help="savedmodel, keras, stablehlo, litert-float, "
                                         "litert-dynamic, litert-int8, safetensors; all that apply.")] = "",
    overwrite: Overwrite = False,
    accept_data: AcceptData = False,
):
    """Write a run's model in formats that other programs load. Each is loaded again in a process of its own, and what
    it computes on held-out rows is held to the trainer, within a bound that export.json states.

    \b
    Exit code: 0 all agree, 1 one does not, or cannot be written, 4 one needs a package that is not installed.
    \b
    Examples:
      twinscale export runs/keras --to build/export
      twinscale export runs/jax --to build/jax --formats stablehlo,safetensors
    """
    from twinscale.common.export import check_request, lines, made_by, read_export
    from twinscale.common.export import export as written
    from twinscale.common.files import escaped_lines, place

    path, out, names = place(run), place(to), tuple(name for name in formats.split(",") if name)
    backend = made_by(path)
    check_request(backend, out, names, overwrite)  # before seconds go into loading a framework
    room = _room(ROOMS[backend]).ROOM
    code = written(room, _room(ROOMS[backend].replace("room", "export")), path, out, names, overwrite,
                   accept_data)
    print(escaped_lines("\n".join(lines(read_export(out)))))
    _next("predict", "--help")  # which file, only its owner knows
    raise typer.Exit(code)


@app.command(short_help="Run an export on a file.")
def predict(
    exported: Annotated[str, typer.Argument(metavar="EXPORT", help="An export's directory, or one of its formats.")],
    *,
    file: Annotated[str, typer.Option("--input", metavar="FILE", help=".txt, .jsonl; .png; .npy, .npz, .safetensors")],
    name: Annotated[str | None, typer.Option("--format", metavar="F", help="The first that agrees.")] = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write all logits there, as safetensors.")] = None,
    top: Annotated[int, typer.Option(metavar="K", min=1, help="How many to print of each.")] = 5,
    trust: Annotated[bool, typer.Option("--trust", help="Run it whatever its operations may do.")] = False,
):
    """Run an export on text, images or arrays: a JSON line for each, with the likeliest next tokens, or classes.

    A model is a program: a SavedModel, LiteRT or StableHLO file may have operations that read and write files. One with
    any that is not known as arithmetic is refused before it is loaded, unless --trust is given.

    \b
    Examples:
      twinscale predict build/export --input prompt.txt
      twinscale predict build/export --format litert-int8 --input images.npy --out logits.safetensors
      twinscale predict build/export/model.keras --input digit.png --top 3
    """
    from twinscale.common.predict import predict as run

    run(exported, file, name, out, top, trust)


@app.command(short_help="Prune, quantise, cluster or distil a run's model.")
def compress(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A finished run of either backend.")],
    overrides: Overrides = None,
    *,
    recipe: Annotated[str, typer.Option(metavar="R", help="A recipe with stages in [compress].")],
    backend: Annotated[Literal["keras", "jax"], typer.Option(help="What compresses it.")],
    out: Annotated[str, typer.Option(metavar="DIR", help="Where the stages, compression.json and the report go.")],
    overwrite: Overwrite = False,
    accept_data: AcceptData = False,
):
    """Compress the model of a finished run, stage by stage, as a recipe's [compress] says: prune, quantise-aware
    training, clustering, distillation, or 8 bits without training. Ends with what ships: metric against bytes against
    latency. Cut short, the same command goes on.

    \b
    Examples:
      twinscale train recipes/compress-convnet.toml --backend jax --run runs/convnet
      twinscale compress runs/convnet --recipe recipes/compress-convnet.toml --backend keras --out build/convnet
      twinscale compress runs/convnet compress.stages='[{kind="post_training"}]' \\
        --recipe recipes/compress-convnet.toml --backend jax --out build/int8
    """
    from twinscale.common.files import place
    from twinscale.common.recipe_file import load

    code = _room("benchmarks.compression").compress(load(recipe, overrides or []), place(run), place(out), backend,
                                                    overwrite=overwrite, accept_data=accept_data)
    _say(f"the report is {shlex.quote(str(place(out) / 'report.html'))}")
    raise typer.Exit(code or DID_IT)


@app.command("compare-runs", short_help="Say whether two runs agree.")
def compare_runs(
    a: Annotated[str, typer.Argument(metavar="A", help="The directory of a run trained with --trace.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another: of any machine, version, backend or mesh.")],
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Where the verdict and the report go.")],
    overwrite: Overwrite = False,
):
    """Say whether two finished runs agree as far as their traces allow, and if not, where they part.

    Both are read, not trained again: each run's trace holds a twin, by which differences are judged.

    \b
    Exit code: 0 they agree, 1 they do not, 3 inconclusive.
    \b
    Examples:
      twinscale train recipes/decoder-stdlib.toml --backend jax --run runs/one --trace sketch
      twinscale train recipes/decoder-stdlib.toml devices.data=4 devices.virtual=4 --backend jax --run runs/four \\
        --trace sketch
      twinscale compare-runs runs/one runs/four --out build/one-four
    """
    from twinscale.common.files import place

    code = _room("benchmarks.runs").compare_runs(place(a), place(b), place(out), overwrite=overwrite)
    _say(f"the report is {shlex.quote(str(place(out) / 'report.html'))}")
    raise typer.Exit(code or DID_IT)


@app.command(short_help="Say which operation parts them.")
def bisect(out: Annotated[str, typer.Argument(metavar="DIR", help="The directory of a comparison that disagrees.")]):
    """Look for the first cause of a disagreement: the step, then the operation, forward, backward or in the update.

    Every operation is given the other backend's numbers, so that none is blamed for another's.

    \b
    Exit code: 0 it was found, 3 nothing was.
    \b
    Example:
      twinscale bisect build/demo
    """
    from twinscale.common.files import place

    code = _room("benchmarks.compare").bisect(place(out))
    _say(f"the report is {shlex.quote(str(place(out) / 'report.html'))}")
    raise typer.Exit(code or DID_IT)


@app.command(short_help="Plant errors and see that they are caught.")
def audit(
    overrides: Overrides = None,
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Where the trials and audit.json go.")],
    overwrite: Overwrite = False,
    recipe: Annotated[str | None, typer.Option("--recipe", metavar="RECIPE", help="Plant in a recipe of your own all "
                                                                                  "that shows in it.")] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Plant only what has such a name.")] = None,
    clean: Annotated[int, typer.Option(metavar="N", min=0, help="Plant nothing: make N comparisons of recipes that are "
                                                                "drawn by number, none to be flagged.")] = 0,
    first: Annotated[int, typer.Option("--from", metavar="K", min=0, help="Of --clean: the first number.")] = 0,
):
    """Audit the gate itself: plant semantic errors, each to be caught and placed, and harmless changes, none to be.

    They are planted in small recipes made for it, or with --recipe in your own, with its overrides: what does not apply
    to it is listed. With --clean nothing is planted. What is done stays in DIR and is added up: the same command goes
    on, and other numbers may follow.

    \b
    Exit code: 0 all were and none was, 1 otherwise.
    \b
    Examples:
      twinscale audit --out build/audit
      twinscale audit --only '*norm*' --out build/norms
      twinscale audit --recipe recipes/mlp-digits.toml train.steps=8 --out build/mine
      twinscale audit --clean 300 --out build/clean
    """
    from twinscale.common.files import place

    if only and clean:
        raise BadInput("--only: says what to plant, and --clean plants nothing; leave one of them out")
    if first and not clean:
        raise BadInput("--from: the first number of --clean, which is missing; add --clean N")
    if recipe and clean:
        raise BadInput("--recipe: says where to plant, and --clean plants nothing; leave one of them out")
    if overrides and not recipe:
        raise BadInput(f"{overrides[0]}: changes a recipe, and none is given; add --recipe RECIPE")
    if clean:
        code = _room("benchmarks.clean").clean(place(out), clean, first, overwrite=overwrite)
    else:
        from twinscale.common.recipe_file import load

        asked = _overrides(overrides, None)
        own = {"own": load(recipe, asked), "asked": (recipe, *asked)} if recipe else {}
        code = _room("benchmarks.audit").audit(place(out), overwrite=overwrite, only=only, **own)
    _next("compare", _shipped(), "--out", "build/demo")
    raise typer.Exit(code or DID_IT)


@app.command(short_help="Measure step time and MFU here.")
def bench(
    recipe: Recipe,
    overrides: Overrides = None,
    *,
    backend: Annotated[Literal["jax", "keras", "both"], typer.Option(help="The trainer; both take turns.")] = "jax",
    steps: Annotated[int, typer.Option(metavar="N", min=2, help="Of a kind in a round.")] = 10,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="After one to warm up.")] = 6,
    out: Annotated[str, typer.Option(metavar="DIR", help="Where bench.json goes.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bench.json there.")] = False,
    precision: Precision = None,
):
    """Measure a recipe's step time, throughput and MFU on this machine's devices, and write bench.json.

    Rounds of the trainer's loop and of bare steps over one resident batch take turns, after one to warm up. The MFU is
    of causal FLOPs and the maker's bfloat16 peak, or on a CPU of NumPy's best matrix product.

    \b
    Exit code: 0 it is measured, 3 a figure is refused: an MFU above 100 %, or steps that did not wait for the device.
    \b
    Examples:
      twinscale bench recipes/decoder-125m.toml --out build/bench
      twinscale bench recipes/decoder-125m.toml jax.attention=cudnn train.global_batch=32 --out build/cudnn
      twinscale bench recipes/decoder-6x256.toml --precision bfloat16 jax.attention=cudnn --out build/nvidia
      twinscale bench recipes/decoder-6x256.toml --backend both --steps 4 --out build/both
    """
    from twinscale.common.files import place
    from twinscale.common.output import nothing_left
    from twinscale.common.recipe_file import load

    backends = ("keras", "jax") if backend == "both" else (backend,)
    with nothing_left(place(out)):
        code = _room("benchmarks.bench").bench(load(recipe, _overrides(overrides, precision)), place(out),
                                               backends=backends, steps=steps, rounds=rounds, overwrite=overwrite)
    _next("train", recipe, *(overrides or []), *_option(precision), "--backend", backends[-1], "--run", "runs/bench")
    raise typer.Exit(code or DID_IT)


@app.command(short_help="Ask the TPU's compiler, without a TPU.")
def preflight(
    recipe: Recipe,
    overrides: Overrides = None,
    *,
    topology: Annotated[list[str] | None, typer.Option(metavar="T", help="A slice, such as v5e:4x4, v5e-16, v5p:2x2x2; "
                                                       "several are compiled for one after another.")] = None,
    slices: Annotated[int, typer.Option(metavar="N", min=1, help="Of each, joined by the data-centre network.")] = 1,
    backend: Annotated[Literal["jax", "keras", "both"] | None, typer.Option(help="The trainer; by default both, with "
                                                                            "--check those of the golden.")] = None,
    out: Annotated[str, typer.Option(metavar="DIR", help="Where preflight.json goes.")],
    check: Annotated[str | None, typer.Option(metavar="JSON", help="No worse than an earlier preflight.json?")] = None,
    write_golden: Annotated[str | None, typer.Option(metavar="PATH", help="Write there what --check needs.")] = None,
    search: Annotated[bool, typer.Option("--search", help="Find the largest batch that fits.")] = False,
    remat: Annotated[str | None, typer.Option(metavar="A,B", help="With --search: policies to try; by default full, "
                                              "dots, none.")] = None,
    accumulate: Annotated[str | None, typer.Option(metavar="A,B", help="Likewise: micro-batches an update; by default "
                                                   "the recipe's.")] = None,
    fsdp: Annotated[str | None, typer.Option(metavar="A,B", help="Likewise: by default all that divide.")] = None,
    tensor: Annotated[str | None, typer.Option(metavar="A,B", help="Likewise: by default all that divide.")] = None,
    jobs: Annotated[int | None, typer.Option(metavar="N", min=1, help="Likewise: compilers at once.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print preflight.json in place of the table.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the preflight.json there.")] = False,
    precision: Precision = None,
):
    """Compile a recipe's whole train step with the TPU's own compiler, without a TPU, and say whether it fits, what it
    computes, moves and communicates, and how fast it could be at best. Write preflight.json and report.html; with
    --search, search.json and patch.toml.

    \b
    Exit code: 0 all compile and fit, or with --check are no worse than before; 1 otherwise; 4 libtpu is missing, or
    too old for the chip.
    \b
    Examples:
      twinscale preflight recipes/decoder-stdlib.toml --topology v5e:2x2 --out build/preflight
      twinscale preflight recipes/decoder-125m.toml devices.fsdp=4 --topology v5e-16 --topology v5p:2x2x2 \\
        --backend jax --out build/125m
      twinscale preflight recipes/mlp-digits.toml --topology v5e:2x2 --out build/mlp --write-golden mlp.json
      twinscale preflight recipes/mlp-digits.toml --check mlp.json --out build/again
      twinscale preflight recipes/tpu/decoder-1b.toml --topology v5e:4x4 --search --remat full,dots --out build/search
    """
    from twinscale.common.files import place
    from twinscale.common.output import nothing_left
    from twinscale.common.recipe_file import load

    described = load(recipe, _overrides(overrides, precision))
    backends = {None: (), "both": ("jax", "keras")}.get(backend, (backend,))
    if search:
        _only("--search", **{"check": check, "write-golden": write_golden, "backend both": backend == "both" or None})
        with nothing_left(place(out)):
            raise typer.Exit(_room("benchmarks.preflight.search").search(
                described, place(out), topologies=topology or (), slices=slices, backend=backend or "jax", jobs=jobs,
                remats=remat and remat.split(","), accumulations=_counts("accumulate", accumulate),
                fsdp=_counts("fsdp", fsdp), tensor=_counts("tensor", tensor), as_json=json, overwrite=overwrite))
    _only("a preflight without --search", remat=remat, accumulate=accumulate, fsdp=fsdp, tensor=tensor, jobs=jobs)
    with nothing_left(place(out)):
        code = _room("benchmarks.preflight").preflight(
            described, place(out), topologies=topology or (), slices=slices, backends=backends, check=check,
            write_golden=write_golden, as_json=json, overwrite=overwrite, words=[
                recipe, *_overrides(overrides, precision),
                *(word for name in topology or () for word in ("--topology", name)),
                *_given("slices", slices, 1), *_given("backend", backend), *_given("check", check)])
    parts = [] if code == DID_IT else [f"train.accumulate={2 * described.train.accumulate}"]
    again = ["train", "--backend", (*backends, "jax")[0], "--run", "runs/tpu"] if code == DID_IT else [
        "preflight", *(word for name in topology or () for word in ("--topology", name)), "--out", f"{out}-smaller"]
    _next(again[0], recipe, *(overrides or []), *parts, *_option(precision), *again[1:])
    raise typer.Exit(code or DID_IT)


@app.command(short_help="Chips, days and money of a training.")
def plan(
    recipe: Annotated[str | None, typer.Argument(metavar="[RECIPE]", help="A recipe's TOML file.")] = None,
    overrides: Overrides = None,
    *,
    topology: Annotated[list[str] | None, typer.Option(metavar="T", help="A slice, such as v5e-256; several are put "
                                                       "side by side.")] = None,
    slices: Annotated[int, typer.Option(metavar="N", min=1, help="Of each, joined by the data-centre network.")] = 1,
    flops: Annotated[float | None, typer.Option(metavar="C", help="Operations of the training, as 1e21.")] = None,
    tokens: Annotated[float | None, typer.Option(metavar="D", help="In place of the recipe's steps x batch.")] = None,
    law: Annotated[str | None, typer.Option(metavar="LAW", help="hoffmann2022, besiroglu2024 or a TOML file with e, a, "
                                            "b, alpha, beta: the tokens of a size, the size of a budget.")] = None,
    mfu: Annotated[str | None, typer.Option(metavar="LOW:HIGH", help="The MFU that you expect, as 0.3:0.5.")] = None,
    measured: Annotated[str | None, typer.Option(metavar="JSON", help="A run.json or bench.json of that chip.")] = None,
    ceiling: Annotated[str | None, typer.Option(metavar="DIR", help="What preflight has left.")] = None,
    prices: Annotated[str | None, typer.Option(metavar="TOML", help="What an hour costs.")] = None,
    days: Annotated[float | None, typer.Option(metavar="N", min=0, help="A deadline: how much fits into it?")] = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Where plan.json goes.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print plan.json in place of the table.")] = False,
):
    """Say how long a training takes on a slice and what it costs, as an interval of the MFU: at its end a roofline,
    inside it what you state or have measured; and with a deadline how many tokens it allows.

    \b
    Examples:
      twinscale plan --flops 1e21 --topology v5e-256 --mfu 0.3:0.5 --prices recipes/tpu/prices.toml
      twinscale plan recipes/tpu/decoder-1b.toml --law hoffmann2022 --topology v5e:4x4 --ceiling build/1b --mfu 0.4
      twinscale plan recipes/tpu/decoder-8b.toml --tokens 160e9 --topology v5p-128 --topology v5e-256 --mfu 0.3:0.5
      twinscale plan --law besiroglu2024 --days 30 --topology v5p-512 --mfu 0.4
    """
    from twinscale.common.files import place
    from twinscale.common.output import nothing_left
    from twinscale.common.recipe_file import load

    described = load(recipe, overrides or []) if recipe else None
    with nothing_left(out and place(out)):
        code = _room("benchmarks.plan").plan(
            described, topologies=topology or (), slices=slices, flops=flops, tokens=tokens, law=law, mfu=mfu,
            measured=measured, ceiling=ceiling, prices=prices, days=days, out=out and place(out), as_json=json)
    if recipe and not ceiling:
        _next("preflight", recipe, *(overrides or []), "--topology", topology[0], "--out", "build/preflight")
    raise typer.Exit(code)


@recipe_app.command("show", short_help="Print a whole recipe with origins.")
def recipe_show(
    recipe: Recipe,
    overrides: Overrides = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="As JSON, with the recipe's hash.")] = False,
):
    """Print the whole recipe, and for each value the file it came from, "override" or "default".

    \b
    Examples:
      twinscale recipe show recipes/decoder-stdlib.toml
      twinscale recipe show recipes/decoder-stdlib.toml model.layers=8 --json
    """
    from twinscale.common.recipe_file import dumps, resolve

    described, origins = resolve(recipe, overrides or [])
    if json:
        _print_json({"schema_version": 1, "hash": described.hash, "recipe": described.model_dump(mode="json"),
                     "origins": origins})
    else:
        print(dumps(described, origins), end="")
    backend = _first_installed()
    _next("train", recipe, *(overrides or []), "--backend", backend, "--run", f"runs/{described.name}-{backend}")


@recipe_app.command("schema", short_help="Print the JSON schema of recipes.")
def recipe_schema():
    """Print the JSON schema of recipes: every key, its type, bounds, default and meaning.

    \b
    Example:
      twinscale recipe schema > recipe.schema.json
    """
    from twinscale.common.recipe import Recipe

    _print_json(Recipe.model_json_schema())
    _next("recipe", "show", _shipped())


@app.command(short_help="Print the JSON schema of a result.")
def schema(name: Annotated[str, typer.Argument(metavar="NAME", help="verdict, compression, audit, clean, bench, plan, "
                                               "preflight, search, export or run, as its .json file is called.")]):
    """Print the JSON schema of what a command leaves as JSON: every key, its type and meaning.

    \b
    Example:
      twinscale schema verdict > verdict.schema.json
    """
    _print_json(_room("benchmarks.results").schema(name))
    _next("compare", _shipped(), "--out", "build/demo")


@app.command(short_help="Say what this machine offers.")
def doctor(
    *,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON in place of the tables.")] = False,
    out: Annotated[str | None, typer.Option(metavar="PATH", help="Write the same JSON there.")] = None,
):
    """Say what this machine offers: versions, devices, and what is missing for what.

    \b
    Exit code: 0 a backend can run, 4 none can.
    \b
    Examples:
      twinscale doctor
      twinscale doctor --json
      twinscale doctor --out doctor.json
    """
    from twinscale.common.doctor import doctor as ask
    from twinscale.common.doctor import show
    from twinscale.common.files import place, write_json
    from twinscale.common.output import check_files

    if out:
        check_files(place(out).parent, [place(out).name], ("schema_version", "versions", "backends"), True)
    report = ask()
    if json:
        _print_json(report)
    else:
        show(report)
    if out:
        try:
            write_json(out, report)
        except OSError as error:
            raise BadInput(f"--out {out}: cannot be written: {error.strerror}") from None
    if not any(report["backends"].values()):
        raise MissingEnvironment("no backend can run; pip install 'twinscale[cpu]' or 'twinscale[jax]'")
    if all(report["backends"].values()):
        _next("compare", _shipped(), "--out", "build/demo")
    else:
        backend = next(backend for backend, runs in report["backends"].items() if runs)
        _next("train", _shipped(), "--backend", backend, "--run", f"runs/{backend}")


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
):
    if version:
        from importlib.metadata import PackageNotFoundError
        from importlib.metadata import version as installed

        try:
            print(installed("twinscale"))
        except PackageNotFoundError:
            print("not installed, run from its source")
        raise typer.Exit()
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments=None):
    """Runs the command line (`sys.argv` by default) and returns its exit code; talks on stderr, one line a failure."""
    if arguments is not None:
        return _ran(arguments)
    process.open_standard()  # this process is ours alone
    process.keep_out_here()
    process.quieten_failures(os.environ.get("TWINSCALE_TRACEBACK"))
    from twinscale.common import limited

    return _ran() if limited.limit() is None else limited.guarded(_ran)


def _ran(arguments=None):
    try:
        _check_words(sys.argv[1:] if arguments is None else arguments)
        with process.interruptible():
            code = app(arguments, prog_name="twinscale", standalone_mode=False)
            sys.stdout.flush()
        if code == INTERRUPTED:  # typer has caught the KeyboardInterrupt
            _say("interrupted")
        return code if isinstance(code, int) else DID_IT
    except (Exception, KeyboardInterrupt) as error:
        return _failed(error)


def _failed(error):
    """Says in one line what went wrong, and returns the exit code."""
    process.give_up_output()
    if isinstance(error, BrokenPipeError):  # the reader of our output left
        return NO
    if isinstance(error, KeyboardInterrupt):
        _say("interrupted")
        return INTERRUPTED
    show_traceback(error)
    if said := known(error):
        _say(str(said))
        return said.exit_code
    if isinstance(error, typer.TyperException):
        _say(f"{error.format_message()}; try --help" if hasattr(error, "format_message") else str(error))
        return BAD_INPUT
    _say(unexpected(error))
    return NO


def _room(name):
    process.keep_memory()
    if name == "tfscale.room":
        process.quieten()
        with process.hushed():
            return importlib.import_module(f"twinscale.{name}")
    return importlib.import_module(f"twinscale.{name}")


def _only_stages(**options):
    """Raises BadInput for options that a comparison of compressions does not have."""
    for name, value in options.items():
        if value:
            raise BadInput(f"--{name}: not for a recipe with stages in [compress]; compare it with compress.stages=[]")


def _given(name, value, default=None):
    """An option as words, none where it has its default."""
    return [] if value == default else [f"--{name}", str(value)]


def _only(what, **options):
    """Raises BadInput for options that `what` does not have."""
    for name, value in options.items():
        if value is not None:
            raise BadInput(f"--{name}: not for {what}")


def _check_words(words):
    """Raises BadInput for an empty word, which a variable that is not set leaves: `--from "$RUN"` would start anew."""
    for number, word in enumerate(words):
        option = word[:-1] if word.startswith("--") and word.endswith("=") else None
        if word == "" or option:
            before = option or (words[number - 1] if number else "")
            raise BadInput(f"{before if before.startswith('--') else f'argument {number + 1}'}: empty: name what is "
                           "meant, or leave it out")


def _counts(name, text):
    """[4, 8] of "4,8", None of nothing."""
    parts = text.split(",") if text is not None else []
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise BadInput(f"--{name} {text}: whole numbers above 0 are wanted, such as 4,8")
    return [int(part) for part in parts] or None


def _supervise(run, restarts, overwrite):
    from twinscale.common.supervise import supervise

    arguments = [word for word in sys.argv[1:] if word != "--supervise"]
    if overwrite:  # once
        raise BadInput("--overwrite with --supervise would remove what each start has saved: remove the run first")
    return supervise(arguments, run, restarts)


def _begun(path, recipe):
    """The state to go on from: of what --from names, or of what is made of the run there."""
    from dataclasses import replace

    from twinscale.common.canonical import read, state_of
    from twinscale.common.files import place

    if recipe.devices.hosts != 1 and not (place(path) / "index.json").exists():
        raise BadInput(f"--from {path}: several hosts would convert it at once; `twinscale convert {path} --to DIR` "
                       "first, then --from DIR")
    with state_of(path) as state:
        begun = read(state, recipe)
    kept = begun["kept"] and replace(begun["kept"], path=place(path))
    return begun | {"origin": begun["origin"] | {"path": path}, "kept": kept}


@contextlib.contextmanager
def _leaving_at_once(several):
    """Of several hosts that end in an error, each leaves without waiting for the others, which may be gone."""
    try:
        yield
    except BaseException as error:
        if not several:
            raise
        code = _failed(error) if isinstance(error, Exception | KeyboardInterrupt) else NO
        sys.stderr.flush()
        os._exit(code)


def _overrides(overrides, precision):
    return [*(overrides or []), *([f"train.precision={precision}"] if precision is not None else [])]


def _option(precision):
    return ["--precision", precision] if precision is not None else []


def _print_json(value):
    import json

    print(json.dumps(value, indent=2))


def _next(*words):
    """Suggests a command, unless a backend that it needs is not installed, or a word of it is None."""
    named = words[words.index("--backend") + 1:][:1] if "--backend" in words else ()
    needs = ROOMS if words[0] in ("compare", "bisect", "audit") or "both" in named else named
    if None not in words and all(map(_is_installed, needs)):
        _hint("twinscale " + shlex.join(words))


def _hint(text):
    sys.stdout.flush()  # what cannot be written has no next command
    if not os.environ.get(process.CHILD):  # nobody would read it
        _say(f"next: {text}")


def _is_installed(backend):
    return all(importlib.util.find_spec(package) for package in PACKAGES[backend])


def _shipped():
    """The path of a recipe that came with this project, None where none did."""
    from twinscale.common.recipe_file import RECIPES

    path = RECIPES / "decoder-stdlib.toml"
    if not path.exists():
        return None
    return os.path.relpath(path) if os.getcwd() == str(RECIPES.parent) else str(path)


def _first_installed():
    return next((backend for backend in ("jax", "keras") if _is_installed(backend)), "jax")


def _say(text):
    from twinscale.common.files import escaped_lines

    print(f"twinscale: {escaped_lines(text)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
