"""`twinscale launch TARGET`: what trains a recipe on several hosts. Each target has the options that it takes, which
`common/launch/plan.py` checks."""

from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from twinscale.common.errors import BadInput
from twinscale.common.verbs import shared


class Targets(TyperGroup):
    """The group of targets: what stands in the place of one and is none is said to be none."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """As click has it; raises BadInput where the first word is no target."""
        if args[0] not in self.commands and not args[0].startswith("-"):
            raise BadInput(f"launch {args[0][:80]}: no such target; there are {', '.join(self.commands)}, which come "
                           f"before the recipe: twinscale launch {next(iter(self.commands))} RECIPE")
        return super().resolve_command(ctx, args)


app = shared.group("Train a recipe on several hosts: print the commands, the script or the manifest that do. With "
                   "--go, run it.", cls=Targets)

Backend = Annotated[Literal["keras", "jax"], typer.Option(help="The trainer.")]
Run = Annotated[str, typer.Option(metavar="DIR", help="The run's directory, which all hosts reach.")]
Hosts = Annotated[int, typer.Option(metavar="N", help="How many.")]
Go = Annotated[bool, typer.Option("--go", help="Run what is printed otherwise.")]
Grace = Annotated[int | None, typer.Option(metavar="SECONDS", help="To save and leave.")]
Env = Annotated[str | None, typer.Option(metavar="DIR", help="The virtual environment there.")]


@app.command(short_help="Processes of this machine.")
def local(
    recipe: shared.Recipe,
    overrides: shared.Overrides = None,
    *,
    backend: Backend,
    runtime: shared.Runtime = None,
    run: Run,
    hosts: Hosts,
    go: Go = False,
    grace: Grace = None,
) -> None:
    """Print the commands of processes of this machine that train together over loopback. With --go, run them.

    \b
    Exit code with --go: 0 all ended well, 75 all that did not have saved and go on with the same command, else that of
    the first host that died.
    \b
    Example:
      twinscale launch local recipes/decoder-stdlib.toml devices.data=2 --backend jax --run runs/two --hosts 2 --go
      twinscale launch local recipes/decoder-stdlib.toml devices.data=2 --backend keras --runtime jax \\
        --run runs/keras-jax --hosts 2 --go
    """
    raise typer.Exit(launched("local", **locals()))


@app.command(short_help="A Cloud TPU slice, over ssh.")
def tpu(
    recipe: shared.Recipe,
    overrides: shared.Overrides = None,
    *,
    backend: Backend,
    runtime: shared.Runtime = None,
    run: Run,
    hosts: Hosts,
    name: Annotated[str, typer.Option(help="Of the TPU.")],
    zone: Annotated[str, typer.Option(help="Its zone.")],
    project: Annotated[str, typer.Option(help="Its project.")],
    workdir: Annotated[str, typer.Option(metavar="DIR", help="The checkout there.")],
    go: Go = False,
    env: Env = None,
    shared_disk: Annotated[bool | None, typer.Option("--shared", help="All hosts mount the run's directory.")] = None,
) -> None:
    """Print the command that reaches all hosts of a Cloud TPU slice over ssh, and the one that stops them. With --go,
    run the first.

    \b
    Exit code with --go: that of gcloud.
    \b
    Example:
      twinscale launch tpu recipes/decoder-stdlib.toml devices.data=0 --backend jax --run gs://bucket/run \\
        --hosts 4 --name train-1 --zone us-central2-b --project my-project --workdir twinscale
    """
    given = locals()
    raise typer.Exit(launched("tpu", shared=given.pop("shared_disk"), **given))


@app.command(short_help="A job of a SLURM cluster.")
def slurm(
    recipe: shared.Recipe,
    overrides: shared.Overrides = None,
    *,
    backend: Backend,
    runtime: shared.Runtime = None,
    run: Run,
    hosts: Hosts,
    go: Go = False,
    name: Annotated[str | None, typer.Option(help="Of the job.")] = None,
    partition: Annotated[str | None, typer.Option(help="Or several: a,b.")] = None,
    time: Annotated[str | None, typer.Option(metavar="H:M:S", help="The limit of one start.")] = None,
    account: Annotated[str | None, typer.Option(help="Who pays.")] = None,
    gpus_per_host: Annotated[int | None, typer.Option(metavar="N", help="To ask for.")] = None,
    cpus_per_host: Annotated[int | None, typer.Option(metavar="N", help="To ask for.")] = None,
    requeue: Annotated[bool | None, typer.Option("--requeue/--no-requeue", help="Go on by itself.")] = None,
    grace: Grace = None,
    workdir: Annotated[str | None, typer.Option(metavar="DIR", help="The checkout there.")] = None,
    env: Env = None,
) -> None:
    """Print the script of a SLURM job, a task a node. With --go, hand it to sbatch.

    \b
    Exit code with --go: 0 it was accepted.
    \b
    Example:
      twinscale launch slurm recipes/decoder-stdlib.toml devices.data=0 --backend keras --run runs/four \\
        --hosts 4 --gpus-per-host 4 --time 8:00:00
    """
    raise typer.Exit(launched("slurm", **locals()))


@app.command(short_help="A JobSet of a GKE cluster.")
def gke(
    recipe: shared.Recipe,
    overrides: shared.Overrides = None,
    *,
    backend: Backend,
    runtime: shared.Runtime = None,
    run: Run,
    hosts: Annotated[int, typer.Option(metavar="N", help="How many, over all slices.")],
    name: Annotated[str, typer.Option(help="Of the JobSet.")],
    image: Annotated[str, typer.Option(help="The container's image.")],
    accelerator: Annotated[str, typer.Option(metavar="A", help="Such as tpu-v6e-slice.")],
    topology: Annotated[str, typer.Option(metavar="AxB", help="The shape of a slice.")],
    go: Go = False,
    slices: Annotated[int | None, typer.Option(metavar="N", help="How many.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Where it is made.")] = None,
    service_account: Annotated[str | None, typer.Option(metavar="NAME", help="May write the run.")] = None,
    max_restarts: Annotated[int | None, typer.Option(metavar="N", help="After failures.")] = None,
    grace: Grace = None,
) -> None:
    """Print the manifest of a JobSet, whose jobs are TPU slices. With --go, hand it to kubectl.

    \b
    Exit code with --go: 0 it was accepted.
    \b
    Example:
      twinscale launch gke recipes/decoder-stdlib.toml devices.data=0 --backend jax --run gs://bucket/run \\
        --hosts 4 --name train-1 --image us-docker.pkg.dev/my-project/images/train:1 --accelerator tpu-v6e-slice \\
        --topology 4x4
    """
    raise typer.Exit(launched("gke", **locals()))


def launched(target: str, recipe: str, overrides: list[str] | None, **given: Any) -> int:
    """Prints or runs a launch; returns the exit code. `given`: backend, runtime, run, hosts, go and the target's own
    options, of which None is none."""
    from twinscale.common.backends import options_of
    from twinscale.common.launch.plan import as_options, launch

    backend = shared.backend_of(given.pop("backend"), given.pop("runtime"))
    all_have = {"backend": backend, **{name: given.pop(name) for name in ("run", "hosts", "go")}}
    options = {option: value for option, value in given.items() if value is not None}
    code = launch(recipe, overrides or [], target=target, options=options, **all_have)
    if not all_have["go"]:
        shared.suggest("launch", target, recipe, *(overrides or []), *options_of(backend), "--run", all_have["run"],
                       "--hosts", str(all_have["hosts"]), *as_options(options), "--go")
    return code
