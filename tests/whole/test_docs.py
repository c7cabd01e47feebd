"""README and the pages of docs/: what they link to is there, what they tell to type is known, their bounds are ours."""

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

from twinscale.benchmarks.results import SCHEMAS, schema
from twinscale.common.cli import app
from twinscale.common.numbers.formats import walk
from twinscale.common.operations.catalogue import UNARY
from twinscale.common.operations.rounding import backward_bound, forward_bound
from twinscale.common.recipe.schema import Recipe

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
HEAD = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md"}
SCHEMA = Recipe.model_json_schema()
FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```", re.M | re.S)
RELATIVE = {"the largest value": "largest", "each value": "value", "each share and its logarithm": "share",
            "each value and its input": "input"}


def fenced(page):
    """[(language, text)] of a page's blocks of code."""
    return [(language, text) for _, language, text in FENCE.findall(page.read_text())]


def prose(page):
    return FENCE.sub("", page.read_text())


def slug(heading):
    """A heading's anchor, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


# ---- links

def test_there_are_pages_and_readme_is_short():
    assert len(PAGES) > 20 and all((ROOT / name).is_file() for name in HEAD)
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_what_is_there(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), f"{page.name}: {link}"
        headings = [slug(heading) for heading in re.findall(r"^#+ (.*)$", prose(target), re.M)]
        assert not anchor or anchor in headings, f"{page.name}: {link}"


def test_each_page_is_in_the_contents():
    """Else nobody who reads the pages that are built finds it."""
    listed = {line for _, text in fenced(ROOT / "docs" / "index.md") for line in text.split("\n")}
    pages = {str(page.relative_to(ROOT / "docs"))[:-3] for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert pages - {"index"} == listed & pages - {"index"}


# ---- commands

def commands():
    """{words of a verb: command} of all that are not hidden."""
    def walked(group, words=()):
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walked(command, (*words, name))
            elif not command.hidden:
                yield (*words, name), command

    return dict(walked(typer.main.get_command(app)))


COMMANDS = commands()


def shown(page):
    """The command lines that begin with `twinscale` in a page: of its blocks, continued ones put together, of its
    tables and sentences."""
    for language, text in fenced(page):
        for line in re.sub(r"\\\n\s*", " ", text).splitlines() if language in ("sh", "text") else ():
            if match := re.match(r"\s*(?:[\w-]+/bin/)?(twinscale [^#]*)", line):
                yield match[1]
    for code in re.findall(r"`([^`]+)`", prose(page)):
        if code.startswith("twinscale "):
            yield " ".join(code.split())


def split(line):
    """(words of the verb, command, further words) of a command line."""
    words = shlex.split(line.split(" > ")[0].split(" ...")[0].replace("[", "").replace("]", ""))[1:]
    for length in (2, 1):
        if tuple(words[:length]) in COMMANDS:
            return tuple(words[:length]), COMMANDS[tuple(words[:length])], words[length:]
    return (), None, words


def unknown(line):
    """What of a command line the command line would not know: the verb, an option, a key of the recipe; or None."""
    verb, command, words = split(line)
    if command is None:
        return None if words[:1] in (["VERB"], ["--help"], ["--version"]) else f"no verb {words[:1]}"
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        name, value, _ = word.partition("=")
        if word.startswith("--") and name not in options | {"--help"}:
            return f"{' '.join(verb)} has no {name}"
        if not word.startswith("-") and re.fullmatch(r"[a-z]\w*(\.\w+)+=.*", word) and not is_key(name.split(".")):
            return f"no key {name}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_shown_can_be_typed(page):
    assert not [f"{line}: {wrong}" for line in shown(page) if (wrong := unknown(line))]


@pytest.mark.parametrize(("line", "what"), [
    ("twinscale trian R", "verb"), ("twinscale train R --backnd jax", "--backnd"), ("twinscale recipe shw R", "verb"),
    ("twinscale train R train.step=3 --backend jax", "train.step"), ("twinscale compare R --out D", None),
    ("twinscale train R model.hidden=[3] jax.xla_options.xla_any=1 --backend jax --run D", None)])
def test_commands_that_cannot_be_typed_are_seen(line, what):
    assert what is None and unknown(line) is None or what in unknown(line)


def test_every_verb_is_in_readme_and_on_a_page():
    """The first in its table; and of its own page an example, besides that of the list of all."""
    readme = {split(line)[0] for line in shown(ROOT / "README.md")}
    pages = {split(line)[0] for page in PAGES if page.name not in HEAD for line in shown(page)}
    assert len(COMMANDS) > 12
    assert readme - {()} == set(COMMANDS) and pages - {()} == set(COMMANDS)


# ---- recipes

def is_key(names, schema=SCHEMA):
    """Whether dotted names lead to a key of a recipe, whatever family or kind its tables are of."""
    schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if not names or schema.get("type") == "object" and "properties" not in schema:
        return True
    choices = [*schema.get("oneOf", schema.get("anyOf", [])), *([schema["items"]] if "items" in schema else [])]
    return any(is_key(names, choice) for choice in choices) or (
        names[0] in schema.get("properties", {}) and is_key(names[1:], schema["properties"][names[0]]))


def keys(value, names=()):
    if isinstance(value, dict):
        for name, below in value.items():
            yield from keys(below, (*names, name))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for below in value:
            yield from keys(below, names)
    else:
        yield names


RECIPES = [(page, text) for page in PAGES for language, text in fenced(page) if language == "toml"]


@pytest.mark.parametrize(("page", "text"), RECIPES, ids=lambda value: value.name if isinstance(value, Path) else "")
def test_keys_of_recipes_that_are_shown_are_known(page, text):
    found = [names for names in keys(tomllib.loads(text)) if names != ("extends",)]
    assert found and not [names for names in found if not is_key(names)]


def test_keys_that_are_spoken_of_are_known():
    """`train.steps` or `train.steps=200`, of a table of the recipe, wherever it stands in a sentence."""
    tables = {key for key in SCHEMA["properties"] if key not in ("name", "seed")}
    others = {"keras.saving.load_model", "keras.ops", "jax.export", "compare.py"}
    spoken = {(page.name, name) for page in PAGES for code in re.findall(r"`([^`\n]+)`", prose(page))
              for name in re.findall(r"^'?([a-z]\w*(?:\.\w+)+)(?:=.*)?$", code) if name.split(".")[0] in tables}
    spoken = {(page, name) for page, name in spoken if name not in others}
    assert len(spoken) > 30
    assert not [(page, name) for page, name in spoken if not is_key(name.split("."))]


# ---- what is made when the pages are built

@pytest.fixture(scope="module")
def generated():
    """docs/generated.py, by which Sphinx fills the reference."""
    spec = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "generated.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_has_every_verb_and_option(generated):
    sections = dict(part.split("\n", 1) for part in generated.commands().removeprefix("## ").split("\n## "))
    assert sections.keys() == {" ".join(words) for words in COMMANDS}
    assert sum(len(command.params) for command in COMMANDS.values()) > 80
    for words, command in COMMANDS.items():
        options = [option for parameter in command.params if parameter.opts[0].startswith("--")
                   and not getattr(parameter, "hidden", False) for option in parameter.opts]
        assert all(option in sections[" ".join(words)] for option in options)


def test_the_reference_has_every_key_of_a_recipe(generated):
    made = generated.recipe()
    for table in [SCHEMA, *SCHEMA["$defs"].values()]:
        for key, said in table.get("properties", {}).items():
            below = [one for one in [said, *said.get("anyOf", []), *said.get("oneOf", [])]
                     if "$ref" in one or "properties" in one]
            assert f"| `{key}` |" in made or below and f"{key}]`" in made, key


def test_the_reference_has_every_key_of_every_result(generated):
    made = generated.results()
    for name in SCHEMAS:
        said = schema(name)
        assert f"## {name}.json" in made and said["properties"]
        for table in [said, *said.get("$defs", {}).values()]:
            assert all(f"| `{key}` |" in made for key in table["properties"])


def test_every_comment_that_is_to_be_filled_is_known(generated):
    found = [comment for page in PAGES if page.name not in HEAD
             for comment in re.findall(r"<!-- .*? -->", prose(page))]
    assert sorted(found) == sorted(generated.MADE)


def test_docstrings_are_words_and_not_markup(generated):
    lines = ["A `name` of *any* kind_ is |x|.", "", "Args:", "  one: a", "    b", "", "- said"]
    generated.plain(None, "function", "f", None, None, lines)
    assert lines == ["A ``name`` of \\*any\\* kind\\_ is \\|x\\|.", "",
                     "::", "", "   Args:", "     one: a", "       b", "",
                     "\\- said", ""]


# ---- bounds

def rows(section):
    """The rows of the table that follows a line of how-the-verdict-is-made.md: lists of cells without backquotes."""
    text = (ROOT / "docs" / "how-the-verdict-is-made.md").read_text().split(f"\n{section}", 1)[1]
    lines = text[text.index("| :--"):].split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(("section", "bound_of", "least"), [("Forward:", forward_bound, 17),
                                                            ("Backward,", backward_bound, 14)])
def test_bounds_of_places_are_those_that_the_page_states(section, bound_of, least):
    found = rows(section)
    assert len(found) >= least
    for names, kind, wide, narrow, of in found:
        for name in names.split(", "):
            for n in (3, 64, 10_000):
                bound = bound_of(name, n, kind)
                stated = eval(wide, {"walk": walk, "UNARY": UNARY, "n": n})
                assert (stated, float(narrow), RELATIVE[of]) == (bound.wide, bound.narrow, bound.of), name
