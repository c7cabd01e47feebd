"""Where tests lie: each module of common and benchmarks has one file of them, at its own path."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("common", "benchmarks")


def has_code(file):
    """Whether a module does or says anything of its own: a docstring, imports and __all__ are nothing."""
    return any(not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr)
               and not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")
               for node in ast.parse(file.read_text()).body)


def test_of(module):
    """PATH/test_X.py of PATH/X.py; of PATH/__init__.py, PATH/test_init.py."""
    return ROOT / "tests" / Path(module).with_name(f"test_{Path(module).stem.strip('_')}.py")


def modules():
    """The paths of all modules that have code, from the root."""
    return [str(file.relative_to(ROOT)) for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))
            if has_code(file)]


test_of.__test__ = False


@pytest.mark.parametrize("module", modules())
def test_each_module_has_a_file_of_tests_at_its_path(module):
    file = test_of(module)
    assert file.is_file(), f"{file.relative_to(ROOT)}: wanted for {module}"
    tests = [node for node in ast.parse(file.read_text()).body
             if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    assert any(isinstance(node, ast.Assert) or "raises" in ast.dump(node) for test in tests
               for node in ast.walk(test)), f"{file.relative_to(ROOT)}: asserts nothing"


def test_no_file_of_tests_is_of_a_module_that_is_gone():
    known = {test_of(module) for module in modules()}
    assert not [file for room in ROOMS for file in (ROOT / "tests" / room).rglob("test_*.py") if file not in known]
