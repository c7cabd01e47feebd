"""Names that one can add to: each kind of thing that a recipe names (optimizers, families, ...) has a `Registry`.

A recipe names a thing in one of four ways, and all of them come to a Python object:

  NAME            of the registry's own, "adamw": "twinscale.common.optimizers.adamw:ADAMW"
  NAME            of an installed package's entry point in the group twinscale.KIND, such as twinscale.optimizers
  FILE.py:OBJECT  of a file, from the folder of the recipe's file; its content's hash is part of the recipe's
  MODULE:OBJECT   of a module that Python finds

An own name is never looked for anywhere else, so nothing installed can change what it means. Code is loaded when it is
asked for, in the process that asks, and a FILE or a MODULE only where the user has named it (`common.trust`). A FILE
stands for itself: what lies beside it is not found, for its hash would not say when that changes; several files make a
package, to be named as MODULE.
"""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinscale.common.errors import BadInput, MissingEnvironment, TwinscaleError, did_you_mean, first_line
from twinscale.common.files.access import exists, quoted, read_bytes, shown
from twinscale.common.trust import Untrusted, is_trusted

LARGEST = 1 << 20  # bytes of a FILE
REFERENCE = re.compile(r"(?P<file>[^\0:#]+\.py):(?P<object>\w+)(#sha256=(?P<pin>[0-9a-f]{64}))?"
                       r"|(?P<module>[^\W\d]\w*(\.\w+)*):(?P<name>\w+)")
FILES = {}  # (file, its SHA-256) to its module: a file that has changed is another module


@dataclass(frozen=True)
class Registry:
    """A kind of thing that can be added to."""

    kind: str  # its entry points are in the group "twinscale.KIND"
    key: str  # what in a recipe names one
    builtin: dict = field(hash=False)  # {name: "MODULE:OBJECT"}
    wanted: str = ""  # "MODULE:CLASS" that each has to be an instance of; "": anything


def load(registry: Registry, name: str, folder: Path | str = ".") -> Any:
    """The object that a name or a reference stands for; a FILE that is not absolute lies in `folder`.

    Raises BadInput for a name that nobody has and for code that is not there or breaks, Untrusted for a reference that
    the user has not named, MissingEnvironment for a module that is not installed: one line with the place and the
    cause.
    """
    here = f"{registry.key} = {quoted(name)}: "
    try:
        found, place = _found(registry, name, folder)
    except TwinscaleError as error:
        raise type(error)(here + str(error)) from None
    module, _, kind = registry.wanted.partition(":")  # as written: Python 3.13 says pathlib._local
    if kind and not isinstance(found, _of_module(module, kind)):
        raise BadInput(f"{here}{place}: is {_what(found)}, but {kind} of {module} is wanted")
    return found


def names(registry: Registry) -> list[str]:
    """All names that a registry has, its own first, then those of installed packages."""
    return list(dict.fromkeys([*registry.builtin, *sorted(point.name for point in _points(registry.kind))]))


def is_reference(name: str) -> bool:
    """Whether a text is FILE.py:OBJECT or MODULE:OBJECT."""
    return bool(REFERENCE.fullmatch(name))


def file_of(name: str, folder: Path | str = ".") -> Path | None:
    """The absolute path of the FILE that a reference names; None where it names none."""
    file = _parts(name)["file"]
    return (Path(folder) / file).absolute() if file else None


def anchored(name: str, folder: Path | str) -> str:
    """A reference whose FILE is absolute, so that it means the same in another folder; any other text as it is."""
    file = file_of(name, folder)
    return f"{file}:{name.rpartition(':')[2]}" if file else name


def portable(name: str) -> str:
    """A reference whose FILE is without its folder, so that it is the same on another machine; any other text as it
    is."""
    file = file_of(name)
    return f"{file.name}:{name.rpartition(':')[2]}" if file else name


def short(name: str) -> str:
    """A reference as a person needs it in a table or a sentence: without folder and hash."""
    return portable(name).partition("#")[0]


def pinned(name: str, folder: Path | str = ".") -> str:
    """A reference whose FILE is absolute and has the SHA-256 of its content, which no other is loaded for; any other
    text as it is. Raises BadInput where the FILE cannot be read."""
    file = file_of(name, folder)
    return f"{anchored(name, folder)}#sha256={sha256_of(file)}" if file and not _parts(name)["pin"] else (
        anchored(name, folder))


def sha256_of(file: Path) -> str:
    """The SHA-256 (hex) of a FILE's content; raises BadInput where it cannot be read."""
    return hashlib.sha256(read_bytes(file, LARGEST)).hexdigest()


def keys_of(name: str, folder: Path | str = ".") -> dict[str, str]:
    """By what `common.trust` knows the code of a reference, as {key: where it is}; {} for any other text, and for a
    FILE that cannot be read."""
    if file := file_of(name, folder):
        try:
            return {f"sha256={sha256_of(file)}": str(file)}
        except BadInput:
            return {}
    module = _parts(name)["module"]
    return {f"module={module}": module} if module else {}


def resolved(given: Any) -> Any:
    """What a description has in the place of a function: the function, or "MODULE:OBJECT" of one that is loaded only
    where it is needed. Raises as `load` does."""
    return _of_module(*given.split(":")) if isinstance(given, str) else given


# ---- where objects come from

def _parts(name):
    """The groups of REFERENCE in a text; all None where it is no reference."""
    match = REFERENCE.fullmatch(name)
    return match.groupdict() if match else dict.fromkeys(REFERENCE.groupindex)


def _found(registry, name, folder):
    """(object, the place that it is from)."""
    if name in registry.builtin:
        return resolved(registry.builtin[name]), registry.builtin[name]
    if file := file_of(name, folder):
        return _of_file(file, _parts(name)["object"], _parts(name)["pin"]), shown(file)
    if is_reference(name):
        _check_trusted(f"module={name.partition(':')[0]}", name, "a module", "imported")
        return _of_module(*name.split(":")), name
    points = [point for point in _points(registry.kind) if point.name == name]
    if len(points) > 1:
        raise BadInput(f"{' and '.join(sorted(_origin(point) for point in points))} have it both: take one away, or "
                       f"write {points[0].value} or {points[1].value}")
    if not points:
        known = names(registry)
        raise BadInput(f"nothing is called so; known are {', '.join(known)}; or write FILE.py:OBJECT or MODULE:OBJECT"
                       + did_you_mean(name, known))
    place = f"{_origin(points[0])} ({points[0].value})"
    try:
        return _of_module(points[0].module, points[0].attr), place
    except TwinscaleError as error:
        raise type(error)(f"{_origin(points[0])}: {error}") from None


def _points(kind):
    return importlib.metadata.entry_points(group=f"twinscale.{kind}")


def _origin(point):
    return f"package {point.dist.name}" if point.dist else f"entry point {point.name}"


def _of_file(file, name, pin):
    if (file, pin) not in FILES:
        if not exists(file):
            beside = [f"{other.name}:{name}" for other in file.parent.glob("*.py")] if file.parent.is_dir() else []
            raise BadInput(f"{shown(file)}: no such file{did_you_mean(f'{file.name}:{name}', beside)}")
        content = read_bytes(file, LARGEST)
        digest = hashlib.sha256(content).hexdigest()
        if pin and digest != pin:
            raise BadInput(f"{shown(file)}: has another content than what was meant: its SHA-256 begins with "
                           f"{digest[:12]}, not {pin[:12]}: take that content, or leave out #sha256=...")
        pin = digest
        if (file, pin) not in FILES:
            _check_trusted(f"sha256={digest}", file, "code", "run")
            FILES[file, pin] = _executed(file, content, f"twinscale_plugin_{digest[:16]}_{len(FILES)}")
    return _attribute(FILES[file, pin], name, shown(file))


def _check_trusted(key, name, what, done):
    """Raises Untrusted where the user has not named what a key stands for."""
    if not is_trusted(key):
        raise Untrusted(f"{shown(name)}: {what} that you have not named on this machine, and so it is not {done}: look "
                        f"at it, then `twinscale trust {shown(shlex.quote(str(name)))}`")


def _executed(file, content, called):
    """The module that a FILE's content makes."""
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(called, None, origin=str(file)))
    module.__file__ = str(file)
    sys.modules[called] = module  # where dataclasses and pydantic look for what annotations name
    try:
        exec(compile(content, str(file), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[called]
        raise _broken(error, file) from error
    return module


def _of_module(module, name):
    try:
        loaded = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise MissingEnvironment(f"{module}: Python finds no module {error.name}: install it, or set PYTHONPATH to "
                                     "the folder that it is in") from None
        spec = _spec(module)
        raise _broken(error, spec.origin if spec and spec.origin else module) from error
    return _attribute(loaded, name, module)


def _spec(module):
    try:
        return importlib.util.find_spec(module)
    except Exception:  # a package above it breaks
        return None


def _attribute(module, name, place):
    if not hasattr(module, name):
        own = [other for other in vars(module) if not other.startswith("_")]
        raise BadInput(f"{place}: has no {name}{did_you_mean(name, own)}")
    return getattr(module, name)


def _broken(error, file):
    """The error for code that could not be loaded: its file, the line, and what Python said."""
    if isinstance(error, TwinscaleError):
        return type(error)(f"{shown(file)}: {error}")
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(file) else None
    trace = error.__traceback__
    while trace and not isinstance(error, SyntaxError):
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == str(file) else line
        trace = trace.tb_next
    place = shown(file) + (f":{line}" if line else "")
    if isinstance(error, ModuleNotFoundError):
        beside = Path(file).parent / f"{str(error.name).partition('.')[0]}.py"
        more = f": a FILE finds nothing beside it, but PYTHONPATH={shown(beside.parent)} does" if exists(beside) else ""
        return MissingEnvironment(f"{place}: needs {error.name}, which is not installed here{more}")
    said = error.msg if isinstance(error, SyntaxError) else first_line(error, 300)
    return BadInput(f"{place}: breaks when it is loaded: {type(error).__name__}: {shown(said)}")


def _article(name):
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _what(found):
    return f"the class {found.__name__}" if isinstance(found, type) else _article(type(found).__name__)
