"""Files out of a Debian package, and how one is downloaded: no test reaches anything outside."""

import io
import os
import shutil
import tarfile

import pytest

from twinscale.common.data import packages
from twinscale.common.data.packages import downloaded, files_of
from twinscale.common.errors import BadInput, MissingEnvironment


def link(name, to, kind=tarfile.SYMTYPE):
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, to
    return found


@pytest.mark.parametrize("how", ["xz", "gz", "bz2"])
def test_the_files_that_are_asked_for_are_read_and_nothing_is_written(tmp_path, package, how):
    entries = [("./usr/x", b"one"), ("/usr/y", b"abs"), ("./../up", b"no"), ("usr/z", b"")]
    path = package(tmp_path / "a.deb", entries, how)
    before = sorted(tmp_path.rglob("*"))
    assert files_of(path, ["usr/x", "usr/z"]) == {"usr/x": b"one", "usr/z": b""}
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_in_the_place_of_a_file_is_none(tmp_path, package, kind):
    path = package(tmp_path / "a.deb", [("usr/secret", b"s"), (link("usr/x", "/etc/passwd", kind), b"")])
    with pytest.raises(BadInput, match="a.deb: has no file usr/x: give the package that"):
        files_of(path, ["usr/x"])


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda x: b"PK" + x, "is no Debian package"), (lambda x: x[:-50], "is cut short"),
    (lambda x: x[:40], "is no Debian"), (lambda x: x[:-400] + b"\0" * 400, "is broken"),
    (lambda x: x.replace(b"data.tar", b"date.tar"), "is no Debian"),
    (lambda x: b"", "is no Debian package")])
def test_what_is_no_whole_package_is_one_line(tmp_path, package, spoil, said):
    content = package(tmp_path / "a.deb", [("usr/x", os.urandom(3000))]).read_bytes()
    (tmp_path / "a.deb").write_bytes(spoil(content))
    with pytest.raises(BadInput, match=f"^[^\n]*a.deb: {said}[^\n]*$"):
        files_of(tmp_path / "a.deb", ["usr/x"])


def test_a_file_of_an_absurd_size_is_not_read(tmp_path, package, monkeypatch):
    monkeypatch.setattr(packages, "MOST_BYTES", 900)
    path = package(tmp_path / "a.deb", [("usr/x", b"\0" * 901)])
    with pytest.raises(BadInput, match="usr/x has 901 bytes"):
        files_of(path, ["usr/x"])


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no dpkg-deb here")
def test_what_python_does_not_unpack_dpkg_deb_does(tmp_path, package, monkeypatch):
    path = package(tmp_path / "a.deb", [("./usr/x", b"one")])
    with tarfile.open(fileobj=io.BytesIO(packages.unpacked(path))) as tar:
        assert tar.getnames() == ["./usr/x"]
    path.write_bytes(path.read_bytes().replace(b"data.tar.xz ", b"data.tar.zst"))
    with pytest.raises(BadInput, match="a.deb: is broken"):  # it is xz
        files_of(path, ["usr/x"])
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    with pytest.raises(MissingEnvironment, match="no dpkg-deb here"):
        files_of(path, ["usr/x"])


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """apt(script): an apt-get on the path, of a shell script."""
    def make(script):
        tool = tmp_path / "bin" / "apt-get"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    return make


def test_apt_downloads_into_a_folder_that_is_gone_afterwards(tmp_path, package, apt):
    package(tmp_path / "a.deb", [("usr/x", b"one")])
    apt(f'pwd > {tmp_path}/where; [ "$1 $3" = "download things" ] && cp {tmp_path}/a.deb things_1_all.deb')
    assert downloaded("things", ["usr/x"]) == {"usr/x": b"one"}
    where = (tmp_path / "where").read_text().strip()
    assert where and not os.path.exists(where)


@pytest.mark.parametrize(("script", "said"), [
    ("echo 'E: Unable to locate package things' >&2; exit 100", "Unable to locate package things: refresh its lists"),
    ("true", "without a word")])
def test_what_apt_cannot_download_is_said_with_what_helps(apt, script, said):
    apt(script)
    with pytest.raises(MissingEnvironment, match=f"apt-get download things: .*{said}.*by --from"):
        downloaded("things", ["usr/x"])


def test_where_there_is_no_apt_a_file_is_asked_for(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    with pytest.raises(MissingEnvironment, match="no apt-get here: .*give the file by --from"):
        downloaded("things", ["usr/x"])
