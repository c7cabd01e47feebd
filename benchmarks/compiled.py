"""Programs that XLA has compiled, kept from one comparison to the next: most of a small comparison is compiling.

A framework finds its programs by what they compute and stores them by itself, in a folder that is the process' own.
Between processes they lie in the cache under the hash of their content, as they are code: one whose content is no
longer what its name says is thrown away, and compiled again.
"""

import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from twinscale.common.data.cache import cache_dir, sha256
from twinscale.common.errors import MissingEnvironment
from twinscale.common.machine.doctor import installed

PACKAGES = ("tensorflow", "keras", "jax", "jaxlib")
FLAGS = ("XLA_FLAGS", "TF_XLA_FLAGS")
MOST = 128 << 20  # bytes kept for each backend; the oldest go first
OWN = ".own-"  # what a process' own folder begins with
DAY = 86_400  # seconds, after which nobody is at a process' own folder any more


class Programs:
    """The programs of one process, which has the environment `given`: `environment` is what has its framework store
    them in a folder, `share` takes into that what others have compiled, and gives what this process has. Where the
    cache cannot be written, or its file system has no links, nothing is kept."""

    def __init__(self, backend: str, given: Mapping[str, str]) -> None:
        self.environment, self.own, self.known = {}, None, set()
        with suppress(OSError, MissingEnvironment):
            self.store = cache_dir() / "compiled" / f"{backend.replace(' ', '-')}-{machine(given)}"
            self.store.mkdir(parents=True, exist_ok=True)
            tidy(self.store)
            self.own = Path(tempfile.mkdtemp(prefix=OWN, dir=self.store))
            self.environment = stored_in(self.own, given)
            self.share()

    def share(self) -> None:
        """Takes and gives; call it while the process is at nothing, as JAX writes where it reads."""
        if not self.own:
            return
        with suppress(OSError):
            for path in files(self.store):
                digest, _, name = path.name.partition(".")
                if name not in self.known and not (self.own / name).exists() and taken(path, digest, self.own / name):
                    self.known.add(name)
            for path in files(self.own):
                if path.name not in self.known:
                    self.known.add(path.name)
                    with suppress(FileExistsError):  # another has compiled the same meanwhile
                        os.link(path, self.store / f"{sha256(path)}.{path.name}")

    def close(self) -> None:
        """Takes the process' own folder away."""
        if self.own:
            shutil.rmtree(self.own, ignore_errors=True)


def files(folder: Path) -> list[Path]:
    """The files of a folder, but for hidden ones."""
    return [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file()]


def taken(path: Path, digest: str, to: Path) -> bool:
    """Whether a stored program, now under its own name, has the content that it was stored with; else it is thrown
    away."""
    if sha256(path) != digest:
        path.unlink()
        return False
    os.link(path, to)
    return True


def tidy(store: Path) -> None:
    """Takes away what is oldest of too much, and what killed processes have left."""
    left = MOST
    for path in sorted(files(store), key=lambda path: path.stat().st_mtime, reverse=True):
        left -= path.stat().st_size
        if left < 0:
            path.unlink()
    for own in store.glob(f"{OWN}*"):
        if own.stat().st_mtime < time.time() - DAY:
            shutil.rmtree(own, ignore_errors=True)


def machine(given: Mapping[str, str]) -> str:
    """16 hexadecimal digits of all that a compiled program is good for besides what it computes: this processor's
    features, the packages, the flags of XLA in an environment."""
    try:
        features = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        features = platform.processor()
    about = [platform.machine(), sorted(features.split()), installed(PACKAGES), [given.get(name, "") for name in FLAGS]]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def stored_in(folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    """What to add to the environment `given` so that either framework stores its programs in a folder, and finds them
    there. What the user has set of it stands."""
    flags, found = given.get("TF_XLA_FLAGS", ""), {}
    if "persistent_cache" not in flags and " " not in str(folder):  # a space would end the flag
        found["TF_XLA_FLAGS"] = (f"{flags} --tf_xla_persistent_cache_directory={folder} "
                                 "--tf_xla_persistent_cache_device_types=CPU").strip()
    # The caches of XLA's own, for GPUs, would make the folder's path a part of what a program is found by.
    return found | {name: given.get(name, value) for name, value in {
        "JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0"}.items()}
