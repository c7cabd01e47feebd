"""One place knows what lies in a run, a state and a comparison, and it agrees with what is ours to remove."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from twinscale.benchmarks.comparison_files import HOLDS, ComparisonFiles, MeshFiles
from twinscale.common import process
from twinscale.common.files.run_files import BY_RUNTIME, OF_HOSTS, RUN, STATE, RunFiles, StateFiles

ROOMS = ("common", "benchmarks", "tfscale", "jaxscale", "kerasjax", "swap")
SPELLED = {"common/files/run_files.py", "benchmarks/comparison_files.py"}
ROOT = Path("/out")
SAMPLES = {"backend": "keras", "run": "jax-twin", "precision": "float32", "point": "first", "meaning": "0123456789ab",
           "number": 3, "what": "given", "seed": 7, "cell": ("keras", "on jax"), "label": "1-prune", "maker": "keras",
           "owner": "jax", "update": 4, "name": "litert-float", "batch": 1, "mesh": "data 2, 2 hosts", "host": 0,
           "step": 2, "columns": ("keras-jax", "jax")}
# Whose directory is another kind's: what an export, the data's cache and the command line's own words name.
COMMANDS = {"recipe.toml", "report.html", "index.json"}
OTHERS = {("common/data/tokenizers.py", "tokenizer.json"), ("common/data/labelled.py", "tokenizer.json"),
          ("common/data/unlabelled.py", "tokenizer.json"),
          ("common/export/write.py", "tokenizer.json"), ("common/files/hub.py", "tokenizer.json"),
          ("common/export/predict.py", "tokenizer.json"), ("common/export/hugging_face.py", "tokenizer.json"),
          ("benchmarks/planning/plan.py", "recipe.toml"), ("tfscale/checkpoint.py", "step-7"),
          ("benchmarks/preflight/__init__.py", "report.html"), ("benchmarks/preflight/__init__.py", "report.md")}
# Names that mean other things elsewhere too, and a checkpoint's own files, which each backend's store writes.
SHARED = {r".*\.safetensors", "data", "swap", "files", "state", "export", r"(keras|jax)-.*", *OF_HOSTS,
          "|".join(BY_RUNTIME.values())}


def paths(files):
    """{name: path} of every file and directory that a class names, methods with samples of their arguments."""
    found = {}
    for name, member in inspect.getmembers(type(files)):
        if name.startswith("_") or name in ("steps", "listed", "all_numbers"):
            continue
        if isinstance(member, property):
            found[name] = getattr(files, name)
        elif inspect.isfunction(member):
            takes = list(inspect.signature(member).parameters)[1:]
            found[name] = getattr(files, name)(*(SAMPLES[word] for word in takes if word != "twin"))
    return {name: path for name, path in found.items() if isinstance(path, Path)}


def is_held(path, layout):
    """Whether a layout has a path: each part by its name, and a directory's below it."""
    for part in path.relative_to(ROOT).parts:
        if layout is None:
            return False
        found = [inside for pattern, inside in layout.items() if re.fullmatch(pattern, part)]
        if not found:
            return False
        layout = found[0]
    return True


@pytest.mark.parametrize(("files", "layout", "least"), [
    (RunFiles(ROOT), RUN, 15), (StateFiles(ROOT), STATE, 4), (ComparisonFiles(ROOT), HOLDS, 24),
    (MeshFiles(ROOT), HOLDS["meshes"], 4)], ids=lambda value: type(value).__name__)
def test_all_that_is_named_is_ours_to_remove(files, layout, least):
    """What a layout lacks would stay after --overwrite, and be read as if it were of the new one."""
    found = paths(files)
    assert len(found) >= least
    assert not {name: str(path) for name, path in found.items() if not is_held(path, layout)}


def test_a_run_is_found_in_a_comparison_and_a_twin_in_a_run():
    run = ComparisonFiles(ROOT).run("keras", "float32")
    assert is_held(RunFiles(RunFiles(run).twin).final, HOLDS) and is_held(RunFiles(run).state.tensors, HOLDS)
    assert not is_held(run / "mine.txt", HOLDS) and not is_held(ROOT / "runs" / "mine" / "run.json", HOLDS)


def text_of(node):
    """A literal's text, 7 in the place of what is filled in; None of what is no literal."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "7" for part in node.values)
    return None


def names(layout, seen=()):
    """The patterns of what has a name of its own: of files, and of directories in a layout."""
    for pattern, inside in layout.items():
        yield pattern
        if inside is not None and not any(inside is one for one in seen):
            yield from names(inside, (*seen, inside))


def spelled(tree, patterns):
    """Literals by which a module joins a path to one of these names, or that are the name of a file among them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            text = text_of(node.right)
        else:
            text = text_of(node) if isinstance(node, ast.Constant | ast.JoinedStr) else None
            text = text if text and re.fullmatch(r"[\w./-]+\.(json|jsonl|safetensors|toml|html|md)", text) else None
        parts = text.split("/") if text else ()
        yield from (part for part in parts if any(re.fullmatch(pattern, part) for pattern in patterns))


def is_command(where):
    return where == "common/cli.py" or where.startswith("common/verbs/")


def test_nothing_else_spells_the_names():
    """By the joins of paths and the literals of files in every module; what words for people say is left out."""
    patterns = {pattern for layout in (RUN, STATE, HOLDS) for pattern in names(layout)} - SHARED
    found, count = set(), 0
    for file in (file for room in ROOMS for file in (process.ROOT / room).rglob("*.py")):
        where, tree = file.relative_to(process.ROOT).as_posix(), ast.parse(file.read_text())
        of_file = set(spelled(tree, patterns))
        if where in SPELLED:
            count += len(of_file)
        else:
            found |= {(where, text) for text in of_file if not (is_command(where) and text in COMMANDS)}
    assert count > 15
    assert found <= OTHERS, found - OTHERS


@pytest.mark.parametrize("line", ['path / "run.json"', 'out / "tensors"', 'f(out / f"first-step-{a}-{b}.safetensors")',
                                  'run.write_json("trace/contract.json", x)', 'out / "runs" / name'])
def test_one_that_does_is_seen(line):
    assert list(spelled(ast.parse(line), set(names(RUN)) | set(names(HOLDS))))
