"""Which code of others is run: what the user of this machine has named himself, and nothing else.

A recipe may name code, FILE.py:OBJECT or MODULE:OBJECT, and recipes lie in runs, exports and comparisons that anybody
may have made. What the user has named (in a recipe that he gives to a command, in an override, to `twinscale trust`) is
remembered by a key: "sha256=HASH" of a FILE's content, so that another content is another matter, "module=NAME" of a
module. Keys are in the environment, which the processes that we start have too, and in a file of the user's own, so
that his later commands read his runs without asking. `common.registry` asks before it loads; nobody else has to.
"""

import fcntl
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.files.access import at_home, checked, plain, shown, write_bytes
from twinscale.common.files.kinds import STRICT, version
from twinscale.common.process import CHILD

HANDED = "TWINSCALE_TRUSTED"  # in the environment: keys, a space between them
SCHEMA_VERSION = 1
LARGEST = 1 << 22  # bytes of the file
PATIENCE = 1.0  # seconds that another process may take to write it
IGNORED = set()  # what was said of the file, once a process
Key = Annotated[str, Field(pattern=r"^(sha256=[0-9a-f]{64}|module=[^\s=:]+)$")]


class Untrusted(BadInput):
    """Code that a recipe names and the user has not."""


class Kept(TypedDict):
    """The user's file."""

    __pydantic_config__ = STRICT
    schema_version: version(SCHEMA_VERSION)
    trusted: dict[Key, str]  # {key: where it was when it was named}


def is_trusted(key: str) -> bool:
    """Whether the user has named what a key stands for; processes that are started from now on know it then, too."""
    if key in os.environ.get(HANDED, "").split():
        return True
    if key not in kept():
        return False
    _hand([key])
    return True


def remember(found: Mapping[str, str]) -> None:
    """Trusts {key: where it is}, in this process, in those that it starts, and where the user's file can be written in
    later commands."""
    if new := {key: where for key, where in found.items() if not is_trusted(key)}:
        _hand(new)
        try:
            change(lambda old: old | new)
        except (OSError, MissingEnvironment):  # a home that cannot be written, or none
            pass
        except BadInput as error:
            _ignore(error)


def kept() -> dict[str, str]:
    """{key: where it was} of the user's file; {} where there is none, or one that is not to be believed, which is said
    once."""
    try:
        return _read(place())
    except MissingEnvironment:  # no home
        return {}
    except BadInput as error:
        _ignore(error)
        return {}


def change(made: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Replaces what the user's file has by what `made` makes of it, in one step.

    Raises BadInput where the file is not to be believed, MissingEnvironment without a home, OSError where it cannot be
    written.
    """
    file = place()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(file.parent):
        old = _read(file)
        new = plain(made(old))
        if new != old:
            text = json.dumps({"schema_version": SCHEMA_VERSION, "trusted": new}, indent=2)
            write_bytes(file, f"{text}\n".encode(), 0o600)


def place() -> Path:
    """The user's file. Raises MissingEnvironment where nobody has a home."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = os.path.join(base if os.path.isabs(base) else "~/.config", "twinscale")
    return at_home(folder, "XDG_CONFIG_HOME") / "trusted.json"


def _hand(keys):
    os.environ[HANDED] = " ".join(dict.fromkeys([*os.environ.get(HANDED, "").split(), *keys]))


def _ignore(error):
    if str(error) not in IGNORED and not os.environ.get(CHILD):  # whoever has started us has said it
        print(f"twinscale: {error}; it is ignored until then", file=sys.stderr)
    IGNORED.add(str(error))


def _read(file):
    """What the file has, {} where there is none. Raises BadInput unless it is the user's own, writable by nobody else,
    and whole: whoever could write it could let code run."""
    try:
        opened = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise BadInput(f"{shown(file)}: cannot be read: {error.strerror}: make it readable, or remove it") from None
    try:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode):
            raise BadInput(f"{shown(file)}: no file, but one is wanted: remove it")
        if found.st_uid != os.geteuid():
            raise BadInput(f"{shown(file)}: belongs to another user: remove it")
        if found.st_mode & 0o022:
            raise BadInput(f"{shown(file)}: others may write it: look at what it holds, then chmod 600, or remove it")
        with open(opened, "rb", closefd=False) as stream:
            content = stream.read(LARGEST + 1)
    finally:
        os.close(opened)
    if len(content) > LARGEST:
        raise BadInput(f"{shown(file)}: larger than {LARGEST:,} bytes: remove it")
    return checked(file, content, Kept, "remove it")["trusted"]


@contextmanager
def _alone(folder):
    """While open, other processes of ours that would change the file wait: what one adds is not lost by another."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + PATIENCE
        with suppress(OSError):  # a file system without locks
            while time.monotonic() < until:
                with suppress(BlockingIOError):
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(0.01)
        yield
    finally:
        os.close(opened)
