"""The rules of the house: a file has one subject and a function one thought, so that either fits a reader's head."""

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]
SHIPPED = ("common", "benchmarks", "tfscale", "jaxscale", "kerasjax", "swap", "twinscale")
LOOKED_AT = (*SHIPPED, "tests", "docs")
FILES = sorted({path.resolve() for room in LOOKED_AT for path in (HERE / room).rglob("*.py")})
LINES, OF_A_FUNCTION = 400, 60


def functions(text):
    """[(name, lines)] of a file's functions, those within others and their docstrings among them, decorators not."""
    return [(node.name, node.end_lineno - node.lineno + 1) for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("room", LOOKED_AT)
def test_no_file_and_no_function_is_too_long(room):
    texts = {path.relative_to(HERE).as_posix(): path.read_text() for path in FILES if path.is_relative_to(HERE / room)}
    assert texts
    assert {name: len(text.splitlines()) for name, text in texts.items() if len(text.splitlines()) > LINES} == {}
    assert [(name, function, lines) for name, text in texts.items() for function, lines in functions(text)
            if lines > OF_A_FUNCTION] == []


@pytest.mark.parametrize("room", SHIPPED)
def test_every_file_says_what_it_is_about(room):
    texts = {path.relative_to(HERE).as_posix(): path.read_text() for path in FILES if path.is_relative_to(HERE / room)}
    assert [name for name, text in texts.items() if text and not ast.get_docstring(ast.parse(text))] == []


def test_a_functions_lines_are_all_counted():
    inner = "    def inner():\n        return x\n"
    text = f"@cached\ndef outer(\n    x,\n):\n    '''\n    words\n    '''\n{inner}    return inner\n"
    assert functions(text) == [("outer", 9), ("inner", 2)]
