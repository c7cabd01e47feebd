"""Files out of a Debian package, which is fetched by `apt-get download` (no root needed) or is at hand: read, never
installed, and nothing else of it is written anywhere.

Source: deb(5): an archive of `ar` with debian-binary, control.tar and data.tar, which may be compressed.
"""

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Collection
from pathlib import Path

from twinscale.common import process
from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.files.access import read_bytes, shown
from twinscale.common.files.output import tell

MAGIC, HEADER = b"!<arch>\n", 60  # of an `ar` archive, and bytes before each of its members
MOST_BYTES = 1 << 30  # of a package, and of a file in one
PATIENCE = 1800.0  # seconds for a download


def files_of(path: Path, wanted: Collection[str]) -> dict[str, bytes]:
    """{name: content} of the files `wanted` in a package, such as "usr/share/x/y": plain files alone, links and what
    has another name are passed over.

    Raises BadInput where it is no package, is broken, or lacks one of them.
    """
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(tar_of(path)), mode="r|*") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if name in wanted and member.isreg():
                    if member.size > MOST_BYTES:
                        raise BadInput(f"{shown(path)}: {shown(name)} has {member.size:,} bytes: no such file is meant")
                    found[name] = tar.extractfile(member).read()  # type: ignore[union-attr]  # it is a plain file
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BadInput(f"{shown(path)}: is broken ({shown(error)}): fetch it again") from None
    if missing := sorted(set(wanted) - found.keys()):
        raise BadInput(f"{shown(path)}: has no file {shown(missing[0])}: give the package that `twinscale data list` "
                       "names")
    return found


def tar_of(path: Path) -> bytes:
    """The data.tar of a package, compressed as it is; of Zstandard, which not every Python reads, as `dpkg-deb` unpacks
    it. Raises BadInput where there is none, MissingEnvironment where dpkg-deb is wanted and not there."""
    content = read_bytes(path, MOST_BYTES)
    at = len(MAGIC)
    while content.startswith(MAGIC) and at + HEADER <= len(content):
        name = content[at:at + 16].decode("ascii", "replace").strip().removesuffix("/")
        length = content[at + 48:at + 58].strip()
        if not length.isdigit():
            break
        at += HEADER
        if name.startswith("data.tar"):
            if len(content) < at + int(length):
                raise BadInput(f"{shown(path)}: is cut short: fetch it again")
            return unpacked(path) if name.endswith(".zst") else content[at:at + int(length)]
        at += int(length) + int(length) % 2
    raise BadInput(f"{shown(path)}: is no Debian package: give a .deb file")


def unpacked(path: Path) -> bytes:
    """The plain data.tar of a package, by dpkg-deb."""
    if not (tool := shutil.which("dpkg-deb")):
        raise MissingEnvironment(f"{shown(path)}: is packed by Zstandard, and there is no dpkg-deb here: unpack it "
                                 "where there is one, or give Debian's own package")
    done = process.run([tool, "--fsys-tarfile", os.path.abspath(path)], stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        raise BadInput(f"{shown(path)}: is broken ({shown(last_line(done.stderr))}): fetch it again")
    return done.stdout


def downloaded(package: str, wanted: Collection[str]) -> dict[str, bytes]:
    """`files_of` a package that apt-get downloads into a folder of its own, which is gone afterwards.

    Raises MissingEnvironment, with what helps, where there is no apt-get here or it cannot download.
    """
    by_hand = f"or take the package {package} from Debian's archive by hand, and give the file by --from"
    if not (tool := shutil.which("apt-get")):
        raise MissingEnvironment(f"there is no apt-get here: run this on a Debian or Ubuntu, {by_hand}")
    with tempfile.TemporaryDirectory(prefix="twinscale-") as folder:
        tell("data", f"apt-get downloads {package}")
        # Of root apt would have a user of its own download, who may not write here: its warning is none of ours.
        try:
            done = process.run([tool, "download", "-q", package], timeout=PATIENCE, cwd=folder,
                               env={**os.environ, "LC_ALL": "C"}, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        except subprocess.TimeoutExpired:
            raise MissingEnvironment(f"apt-get download {package}: not done after {PATIENCE:.0f} s: try again, "
                                     f"{by_hand}") from None
        found = sorted(Path(folder).glob("*.deb"))
        if done.returncode or not found:
            raise MissingEnvironment(f"apt-get download {package}: {shown(last_line(done.stderr))}: refresh its lists "
                                     f"(apt-get update, as root), {by_hand}")
        return files_of(found[0], wanted)


def last_line(said: bytes) -> str:
    """The last line of what a program has said."""
    return (said.decode(errors="replace").strip().splitlines() or ["without a word"])[-1]
