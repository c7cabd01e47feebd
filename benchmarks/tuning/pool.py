"""Threads that have trainings done, each with processes of its own, here or in a cluster of Ray; a search and a study
both run on them."""

import fcntl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from pathlib import Path

from twinscale.benchmarks.tuning import on_ray
from twinscale.benchmarks.tuning.trials import Crew
from twinscale.common.errors import BadInput
from twinscale.common.files.access import is_link
from twinscale.common.files.run_files import LOCK


def side_by_side(jobs: int, one: Callable[[Callable[[str], Crew]], bool], out: Path, ray: str | None = None,
                 option: str = "--ray ") -> None:
    """Has `jobs` threads call `one` again and again, each until it says that nothing is left. What it raises ends all:
    the others come to the end of what they are at.

    Args:
      one: is given what finds the thread's own Crew of a backend, kept from call to call.
      out: the directory that trainings are in, which is held.
      ray: the address of a cluster, in which the processes are; `option` is how it was asked for.
    """
    ending = threading.Event()

    def work(**far):
        crews: dict[str, Crew] = {}

        def of(backend):
            return crews.setdefault(backend, Crew(backend, **far))

        try:
            while not ending.is_set() and one(of):
                pass
        except BaseException:
            ending.set()
            raise
        finally:
            for crew in crews.values():
                crew.close()

    with ExitStack() as stack:
        far = {"make": stack.enter_context(on_ray.cluster(ray, option, out)), "stop": on_ray.stop} if ray else {}
        pool = stack.enter_context(ThreadPoolExecutor(jobs, "trials"))
        for finished in as_completed([pool.submit(work, **far) for _ in range(jobs)]):
            finished.result()


@contextmanager
def held(out: Path, verb: str = "tune") -> Iterator[None]:
    """While open, no other process of the verb works into the directory; raises BadInput where one does."""
    if is_link(out / LOCK):
        raise BadInput(f"{out / LOCK}: a link; take it away by hand")
    with open(out / LOCK, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"--out {out}: another `twinscale {verb}` is at work there; wait, or choose another "
                           "directory") from None
        yield
