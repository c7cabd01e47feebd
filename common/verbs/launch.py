"""`twinscale launch`: what trains a recipe on several hosts."""

from typing import Annotated, Literal

import typer

from twinscale.common.verbs import shared


def launch(
    recipe: shared.Recipe,
    overrides: shared.Overrides = None,
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
        shared.suggest("launch", recipe, *(overrides or []), "--backend", backend, "--run", run, "--target", target,
                       "--hosts", str(hosts), *as_options(given), "--go")
    raise typer.Exit(code)
