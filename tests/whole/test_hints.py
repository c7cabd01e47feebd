"""What a public function takes and gives stands in its signature, and what it does in its docstring."""

import ast
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]
SHIPPED = ("common", "benchmarks", "tfscale", "jaxscale", "kerasjax", "swap", "twinscale")
LEFT: dict[str, int] = {}  # of a package of benchmarks/: functions that lack one or the other; this table only shrinks
OFFERED = {  # by a room: what stands in either backend's own file, with hints alike
    "room.py": ("numerics", "train"), "devices.py": ("open_devices",), "devices_hosts.py": ("agree", "is_lost"),
    "train.py": ("new_state", "make_step", "make_evaluate", "state_tensors", "with_tensors"),
    "trace.py": ("make_step_tensors", "make_step_taps", "make_sketch", "shared_tensors", "clip_gradients",
                 "apply_gradients"),
    "checkpoint.py": ("Store.write", "Store.wait", "Store.read", "Store.files", "Store.delete", "Store.close"),
    "compress/prune.py": ("make_masks",), "compress/quantize.py": ("extremes", "fake_quantise"),
    "compress/train.py": ("new_state", "make_step", "make_evaluate", "make_step_tensors", "with_tensors")}
UNHINTED: dict[str, int] = {}  # of a room: functions whose signatures lack a hint; this table only shrinks
# Files that are not counted there: how a step, its taps and a user's program call each other is still on the move, and
# what all of them take and give gets its hints when it stands. Who hints a file takes it out.
MOVING = {"tfscale": ("__main__.py", "models/pair.py", "taps.py", "trace.py", "train.py"),
          "jaxscale": ("__main__.py", "models/pair.py", "taps.py", "trace.py", "train.py"), "kerasjax": (),
          "swap": ()}
# What `make docs` puts stand-ins for, of which no union can be made: `tf.Tensor | None` stands in quotes.
MOCKED = {"flax", "jax", "keras", "optax", "orbax", "tensorflow", "tensorflow_model_optimization", "tf_keras"}


def public(text):
    """{name: node} of a file's public functions and methods; those within functions are nobody else's."""
    found = {}

    def look(body, owner):
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                look(node.body, f"{owner}{node.name}.")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
                    node.name == "__init__" or not node.name.startswith("_")):
                found[owner + node.name] = node

    look(ast.parse(text).body, "")
    return found


def lacking(name, node):
    """What a function has no hint of: its parameters by name, "return", and "docstring" where it has none."""
    given = node.args
    named = [*given.posonlyargs, *given.args]
    if "." in name and not any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list):
        named = named[1:]  # self
    named += [*given.kwonlyargs, *(arg for arg in (given.vararg, given.kwarg) if arg)]
    return [*(arg.arg for arg in named if arg.annotation is None), *["return"] * (node.returns is None),
            *["docstring"] * (ast.get_docstring(node) is None and node.name != "__init__")]


def silent(text):
    """Names of a file's public functions and classes that have no docstring, the file's own and no method."""
    return [node.name for node in ast.parse(text).body
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and not node.name.startswith("_") and ast.get_docstring(node) is None]


def left_of(folder):
    """{package: public functions that lack something} of a folder; a file beside the packages is one."""
    paths = sorted(folder.rglob("*.py"))
    assert paths
    return Counter(path.relative_to(folder).parts[0] for path in paths
                   for name, node in public(path.read_text()).items() if lacking(name, node))


def test_public_functions_of_benchmarks_say_what_they_take_and_give():
    assert sum(len(public(path.read_text())) for path in (HERE / "benchmarks").rglob("*.py")) > 500
    assert left_of(HERE / "benchmarks") == LEFT


@pytest.mark.parametrize("room", SHIPPED)
def test_every_public_function_and_class_has_a_docstring(room):
    paths = sorted((HERE / room).rglob("*.py"))
    assert paths
    assert {path.relative_to(HERE).as_posix(): names for path in paths if (names := silent(path.read_text()))} == {}


def test_a_function_or_class_without_a_docstring_is_found():
    text = ("def f():\n    'Is.'\n    def inner(): ...\nasync def g(): ...\n@cached\ndef h():\n    return f'Is {f}.'\n"
            "def _i(): ...\nclass A:\n    def method(self): ...\nclass B:\n    'Is.'\nclass _C: ...\n")
    assert silent(text) == ["g", "h", "A"]


def test_what_a_room_offers_says_what_it_takes_and_gives():
    wanted = {f"{room}/{file}: {name}": name for room in ("tfscale", "jaxscale")
              for file, names in OFFERED.items() for name in names}
    found = {f"{room}/{file}: {name}": node for room in ("tfscale", "jaxscale") for file in OFFERED
             for name, node in public((HERE / room / file).read_text()).items()}
    assert wanted.keys() <= found.keys()
    assert {place: lacking(name, found[place]) for place, name in wanted.items() if lacking(name, found[place])} == {}


def unhinted(text):
    """Names of a file's public functions and methods whose parameters or result have no hint."""
    return [name for name, node in public(text).items() if set(lacking(name, node)) - {"docstring"}]


def test_signatures_of_common_have_hints():
    texts = {path.relative_to(HERE).as_posix(): path.read_text() for path in (HERE / "common").rglob("*.py")}
    assert sum(len(public(text)) for text in texts.values()) > 900
    assert {name: found for name, text in texts.items() if (found := unhinted(text))} == {}


def test_signatures_of_the_rooms_have_hints_or_are_counted_here():
    found, looked = Counter(), Counter()
    for room, moving in MOVING.items():
        assert all((HERE / room / file).exists() for file in moving)
        for path in sorted((HERE / room).rglob("*.py")):
            if path.relative_to(HERE / room).as_posix() not in moving:
                looked[room] += len(public(path.read_text()))
                found[room] += len(unhinted(path.read_text()))
    assert looked["tfscale"] > 200 and looked["jaxscale"] > 200 and looked["swap"] > 2 and looked["kerasjax"] > 15
    assert {room: count for room, count in found.items() if count} == UNHINTED  # who hints one lowers its number


def test_a_signature_without_a_hint_is_counted():
    text = ("def a(x: int) -> int: ...\ndef b(x) -> int: ...\ndef c(x: int): ...\ndef _d(x): ...\n"
            "class E:\n    def __init__(self, x): ...\n    def f(self, *x: int) -> int: ...\n"
            "    def g(self, **x) -> int: ...\n")
    assert unhinted(text) == ["b", "c", "E.__init__", "E.g"]


def unquoted(text):
    """Functions of a file with a hint out of quotes that is a union of a framework's type, at any depth."""
    tree, theirs = ast.parse(text), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            theirs |= {(one.asname or one.name).split(".")[0] for one in node.names
                       if (getattr(node, "module", None) or one.name).split(".")[0] in MOCKED}

    def is_theirs(node):
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id in theirs

    return [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and any(
        isinstance(part, ast.BinOp) and (is_theirs(part.left) or is_theirs(part.right))
        for hint in (node.returns, *(arg.annotation for arg in ast.walk(node.args) if isinstance(arg, ast.arg)))
        if hint for part in ast.walk(hint))]


@pytest.mark.parametrize("room", MOVING)
def test_the_rooms_hints_can_be_read_where_no_framework_is(room):
    paths = sorted((HERE / room).rglob("*.py"))
    assert paths
    assert {path.name: names for path in paths if (names := unquoted(path.read_text()))} == {}


def test_a_union_of_a_frameworks_type_is_found_out_of_quotes():
    text = ("import jax\nfrom jax.sharding import Mesh\ndef a(x: jax.Array | None): ...\n"
            "def b(x: 'jax.Array | None'): ...\ndef c() -> tuple[Mesh | None, int]: ...\n"
            "def d(x: int | None) -> jax.Array: ...\n")
    assert unquoted(text) == ["a", "c"]


def test_a_function_lacks_what_is_not_in_its_signature():
    text = ("def f(a: int, b, *c, d: str = '', **e) -> int:\n    'Adds.'\n    def inner(x):\n        pass\n"
            "class A:\n    def __init__(self, a: int) -> None:\n        pass\n    @staticmethod\n    def g(a): 'Is.'\n"
            "    def _h(self, a):\n        pass\ndef g() -> None:\n    pass\n")
    assert {name: lacking(name, node) for name, node in public(text).items()} == {
        "f": ["b", "c", "e"], "A.__init__": [], "A.g": ["a", "return"], "g": ["docstring"]}
