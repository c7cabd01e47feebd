"""Several hosts that train together: how they find each other, and what they say to each other."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from twinscale.common.errors import MissingEnvironment

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe
    from twinscale.jaxscale.devices import Devices


def join_hosts(recipe: "Recipe") -> None:
    """Joins the other hosts: those that JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say, else those
    of the cluster that JAX itself recognises (Cloud TPU, SLURM, GKE, Open MPI)."""
    known = {name: os.environ.get(f"JAX_{name.upper()}") for name in ("num_processes", "process_id")}
    if any(value is not None and not value.isdigit() for value in known.values()):
        raise MissingEnvironment(f"JAX_NUM_PROCESSES={known['num_processes']!r} and JAX_PROCESS_ID="
                                 f"{known['process_id']!r}: both are whole numbers")
    wanted = recipe.devices.hosts
    if wanted and known["num_processes"] and int(known["num_processes"]) != wanted:
        raise MissingEnvironment(f"devices.hosts={wanted}, but JAX_NUM_PROCESSES={known['num_processes']}: make them "
                                 "agree, or set devices.hosts=0")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    try:
        numbers: dict[str, Any] = {name: int(value) for name, value in known.items() if value is not None}
        jax.distributed.initialize(**numbers,
                                   # Later than our own watchdog, which says more.
                                   heartbeat_timeout_seconds=max(100, round(2 * recipe.devices.watchdog)))
    except (RuntimeError, ValueError) as error:
        raise MissingEnvironment(f"devices.hosts={wanted}, but the hosts did not meet ({str(error).splitlines()[0]}): "
                                 "start each with JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, as "
                                 "`twinscale launch` does") from None
    if wanted and jax.process_count() != wanted:
        raise MissingEnvironment(f"devices.hosts={wanted}, but the cluster has {jax.process_count()}: make them agree, "
                                 "or set devices.hosts=0")


def agree(devices: "Devices", values: Sequence[int] | np.ndarray) -> np.ndarray:
    """The values (n,) of every host, int64 (hosts, n) NumPy; each host waits here for the others."""
    if devices.hosts == 1:
        return np.array(values, np.int64)[None]
    halves = np.array(values, np.int64).view(np.int32)  # as JAX has int64 only where it is switched on
    return np.asarray(multihost_utils.process_allgather(halves)).reshape(devices.hosts, -1).view(np.int64)


def is_lost(error: BaseException) -> bool:
    """Whether an exception says that another host is gone."""
    return isinstance(error, jax.errors.JaxRuntimeError | ValueError) and any(
        word in str(error) for word in ("Gloo", "UNAVAILABLE", "DEADLINE_EXCEEDED", "coordination service"))
