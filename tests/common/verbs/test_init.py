"""All verbs, walked one by one: what each prints is there as JSON too, each is imported alone, each has an example."""

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import typer

from twinscale.common import cli
from twinscale.common.cli import app
from twinscale.common.files.output import answer
from twinscale.common.verbs import VERBS, shared

ROOT = Path(__file__).parents[3]
NO_TABLE = {  # verb: what it prints that is no table
    "launch local": "commands", "launch tpu": "a command", "launch slurm": "a script", "launch gke": "a manifest",
    "predict": "a line of JSON an input", "recipe schema": "JSON", "schema": "JSON"}
SINKS = {"answer", "safe_console", "Table"}  # what a table goes through, besides a `print` that is not for stderr


def walked(group, words=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from walked(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


COMMANDS = dict(walked(typer.main.get_command(app)))


# ---- what a function calls, as far as its source says

def located(module):
    """The file of a module."""
    path = ROOT / module.removeprefix("twinscale.").replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def source(module):
    """The tree of a module."""
    return ast.parse(located(module).read_text())


@cache
def scope(module):
    """{name: ("function", its tree) or ("from", module, name)} of a module's top."""
    names = {node.name: ("function", node) for node in source(module).body
             if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return names | imports(source(module).body)


def imports(nodes):
    return {alias.asname or alias.name: ("from", node.module, alias.name) for top in nodes for node in ast.walk(top)
            if isinstance(node, ast.ImportFrom) and node.module for alias in node.names}


def room(node):
    """"benchmarks.audit" of `shared.room("benchmarks.audit")`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "room" and (
            isinstance(node.args[0], ast.Constant)):
        return f"twinscale.{node.args[0].value}"
    return None


def whose(node, known):
    """The module of ours that a name stands for, as `shared` in `shared.print_json`; else None."""
    _, *found = known.get(node.id, (None,)) if isinstance(node, ast.Name) else (None,)
    name = ".".join(found) if len(found) == 2 else ""
    return name if name.startswith("twinscale.") and located(name).is_file() else None


def prints(module, name, seen=None):
    """Whether a function, or one that it names, of whatever module of ours, prints on stdout."""
    seen = set() if seen is None else seen
    kind, *found = scope(module).get(name, (None,))
    if kind == "from":
        return found[0].startswith("twinscale.") and prints(*found, seen)
    if kind is None or (module, name) in seen:
        return False
    seen.add((module, name))
    local = imports([found[0]])
    for node in ast.walk(found[0]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print" and not any(
                keyword.arg == "file" for keyword in node.keywords):
            return True
        if isinstance(node, ast.Attribute):
            of = room(node.value) or whose(node.value, scope(module) | local)
            if of and prints(of, node.attr, seen):
                return True
        if isinstance(node, ast.Name):
            if node.id in SINKS:
                return True
            _, *other = local.get(node.id, (None, module, node.id))
            if other[0].startswith("twinscale.") and prints(*other, seen):
                return True
    return False


def function_of(verb):
    module = verb.split()[0].replace("-", "_")
    return f"twinscale.common.verbs.{module}", verb.split()[-1].replace("-", "_")


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_verb_that_prints_a_table_prints_it_as_json_too(verb):
    """Or says here what else it prints; what prints nothing has no use for it."""
    options = {option for parameter in COMMANDS[verb].params for option in parameter.opts}
    table = prints(*function_of(verb)) and verb not in NO_TABLE
    assert ("--json" in options) == table


def test_the_walk_sees_tables_near_and_far_and_those_that_print_none():
    """Without it the test above could hold of everything."""
    assert {verb for verb in COMMANDS if prints(*function_of(verb))} == {
        "compare", "compare-runs", "bisect", "audit", "bench", "preflight", "plan", "doctor", "export", "compress",
        "recipe show", "recipe list", "trust", "match", "generate", "tune", "study", "evaluate", "fit", "data list",
        "data check", "predict-loss", "plan-serving", "report", "check-device", *NO_TABLE}


RECIPE = 'name = "x"\n[model]\nfamily = "mlp"\n[data]\nsource = "digits"\n'
STAGES = RECIPE + '[[compress.stages]]\nkind = "post_training"\n'


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("words", [
    "compare r.toml --out o", "compare s.toml --out o", "compare-runs a b --out o", "bisect o", "audit --out o",
    "audit --clean 2 --out o", "bench r.toml --out o", "compress a --recipe s.toml --backend jax --out o",
    "preflight r.toml --topology v5e:2x2 --out o", "preflight r.toml --search --topology v5e:2x2 --out o",
    "plan --flops 1e21 --topology v5e-16", "tune r.toml --space s.toml --out o", "report a --out o",
    "check-device --out o"])
def test_what_is_asked_for_reaches_what_prints(words, as_json, tmp_path, monkeypatch):
    asked = []
    monkeypatch.chdir(tmp_path)
    Path("r.toml").write_text(RECIPE)
    Path("s.toml").write_text(STAGES)
    monkeypatch.setattr(shared, "room", lambda name: Everything(lambda *_, **given: asked.append(given["as_json"])))
    assert cli.main([*words.split(), *["--json"] * as_json]) == 0 and asked == [as_json]


class Everything:
    """A room whose every function is the same one."""

    def __init__(self, function):
        self.function = function

    def __getattr__(self, name):
        return self.function


def test_an_answer_is_in_words_or_in_json(capsys):
    result = {"worst": float("nan"), "path": Path("a"), "sum": 0.5}
    answer(result, lambda found: print("sum", found["sum"]))
    assert capsys.readouterr().out == "sum 0.5\n"
    answer(result, lambda found: print("sum", found["sum"]), True)
    assert json.loads(capsys.readouterr().out) == {"worst": None, "path": "a", "sum": 0.5}


# ---- how they are loaded

def test_the_list_imports_no_verb_and_a_verb_no_other():
    program = ("import sys; from twinscale.common.cli import main; main(sys.argv[1:]); "
               "print([m[23:] for m in sys.modules if m.startswith('twinscale.common.verbs.')], file=sys.stderr)")

    def loaded(*words):
        return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True).stderr

    assert loaded("--help") == "['shared']\n" and loaded("plan", "--help") == "['shared', 'plan']\n"


def test_the_list_says_of_each_verb_what_the_verb_itself_says():
    commands = typer.main.get_command(app).commands
    assert list(commands) == list(VERBS) and len(commands) == len(VERBS)
    for name, words in VERBS.items():
        command = commands[name]
        assert command.name == name and (hasattr(command, "commands") or command.short_help == words)
        assert all(len(below.short_help or words) < 60 for below in getattr(command, "commands", {}).values())
    with pytest.raises(KeyError):
        commands["trian"]


@pytest.mark.parametrize("verb", COMMANDS)
def test_each_verbs_help_has_an_example(verb):
    assert f"\n  twinscale {verb}" in COMMANDS[verb].help
