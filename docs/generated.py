"""What the reference is made of when these pages are built: the commands' help, the recipe's keys, plain docstrings."""

import inspect
import json
import re
from functools import partial
from pathlib import Path

import typer

ROOT = Path(__file__).parents[1]


def fill(app, name, source):
    """Puts what is asked for by a comment such as <!-- commands --> in its place."""
    for comment, made in MADE.items():
        if comment in source[0]:
            source[0] = source[0].replace(comment, made())


# ---- commands

def commands():
    """A section for each verb: its `--help`."""
    return "\n\n".join(f"## {name}\n\n```text\n{help_of(context)}\n```" for name, context in verbs())


def verbs():
    """[(words of a verb, its context)], as `twinscale --help` lists them; a group's own verbs follow in its place."""
    from twinscale.common.cli import app

    group = typer.main.get_command(app)
    return list(walked(group, click_context(group, "twinscale")))


def walked(group, context):
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command.hidden:
            continue
        below = click_context(command, name, context)
        if hasattr(command, "list_commands"):
            yield from ((f"{name} {verb}", found) for verb, found in walked(command, below))
        else:
            yield name, below


def click_context(command, name, parent=None):
    return command.context_class(command, info_name=name, parent=parent)


def help_of(context):
    return "\n".join(line.rstrip() for line in context.get_help().splitlines())


# ---- the recipe

def recipe():
    """A table of keys for each table of a recipe, from its JSON schema."""
    from twinscale.common.recipe.schema import Recipe

    schema = Recipe.model_json_schema()
    top, parts = {}, []
    for key, said in schema["properties"].items():
        tables = tables_of(said, schema)
        if not tables:
            top[key] = said
        for table in tables:
            parts += table_parts(key, table, schema)
    return "\n\n".join([f"## At the top\n\n{table_of(top, schema)}", *parts])


def table_parts(name, table, schema):
    """The sections of a table and of the tables in it."""
    kind = next((f"{key} = {said['const']!r}".replace("'", '"') for key, said in table["properties"].items()
                 if "const" in said), None)
    plain, parts = {}, []
    for key, said in table["properties"].items():
        below = tables_of(said, schema)
        plain |= {} if below and said.get("type") != "array" else {key: said}
        for other in below:
            if key != "teacher_model":  # a model as in [model]
                parts += table_parts(f"{name}.{key}", other, schema)
        for other in said.get("patternProperties", {}).values():  # a table by any name
            parts += table_parts(f"{name}.{key}.NAME", resolved(other, schema), schema)
    title = f"## `[{name}]`" + (f" with `{kind}`" if kind else "")
    words = "" if not table.get("description") else "\n\n" + prose(table["description"])
    return [f"{title}{words}\n\n{table_of(plain, schema)}", *parts]


def tables_of(said, schema):
    """The tables that a key may be, or may be a list of."""
    said = resolved(said, schema)
    choices = [resolved(one, schema) for one in said.get("oneOf", said.get("anyOf", [said]))]
    if said.get("type") == "array":
        return tables_of(said["items"], schema)
    return [one for one in choices if one.get("type") == "object" and "properties" in one]


def resolved(said, schema):
    return schema["$defs"][said["$ref"].rpartition("/")[2]] if "$ref" in said else said


def table_of(keys, schema):
    rows = [f"| `{key}` | {cell(kind_of(said, schema))} | {cell(default_of(said))} | "
            f"{cell(said.get('description', ''))} |" for key, said in keys.items()]
    return "\n".join(["| key | what it takes | default | meaning |", "| :-- | :-- | :-- | :-- |", *rows])


def cell(text):
    return re.sub(r"([|*_<])", r"\\\1", text)


def kind_of(said, schema):
    """A key's type and bounds in words."""
    if tables_of(said, schema):
        return "a list of tables" if said.get("type") == "array" else "a table"
    said = resolved(said, schema)
    if "const" in said:
        return json.dumps(said["const"])
    if "enum" in said:
        return " or ".join(json.dumps(value) for value in said["enum"])
    if "anyOf" in said:
        return " or ".join(kind_of(one, schema) for one in said["anyOf"] if one.get("type") != "null")
    if said.get("type") == "array":
        return f"a list of {kind_of(said['items'], schema)}"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false",
             "object": "table of options"}[said["type"]]
    bounds = [f"{sign} {said[key]}" for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"),
                                                        ("exclusiveMaximum", "<")) if key in said]
    return " ".join([words, " and ".join(bounds)]).strip()


def default_of(said):
    if "default" not in said or said["default"] is None:
        return "" if "default" in said else "required"
    return "as its keys say" if isinstance(said["default"], dict) and said["default"] else json.dumps(said["default"])


# ---- results

def results():
    """Of each result a table of its keys and of those of the tables in it, from its JSON schema."""
    from twinscale.benchmarks.results import SCHEMAS, schema

    return "\n\n".join(result_parts(name, schema(name)) for name in SCHEMAS)


def result_parts(name, schema):
    parts = [f"## {name}.json\n\n{prose(schema.get('description', ''))}\n\n{keys_of(schema, schema)}"]
    for kind, said in schema.get("$defs", {}).items():
        words = f"\n\n{prose(said['description'])}" if said.get("description") else ""
        parts.append(f"### {kind} of {name}.json{words}\n\n{keys_of(said, schema)}")
    return "\n\n".join(parts)


def keys_of(table, schema):
    always = table.get("required", ())
    rows = [f"| `{key}` | {cell(type_of(said))} | {'yes' if key in always else ''} | "
            f"{cell(said.get('description', ''))} |" for key, said in table["properties"].items()]
    return "\n".join(["| key | what it holds | always | meaning |", "| :-- | :-- | :-- | :-- |", *rows])


def type_of(said):
    """The type of a value in words."""
    if "$ref" in said:
        return said["$ref"].rpartition("/")[2]
    if "anyOf" in said:
        return " or ".join(type_of(one) for one in said["anyOf"])
    if "enum" in said or "const" in said:
        return " or ".join(json.dumps(value) for value in said.get("enum", [said.get("const")]))
    if said.get("type") == "array":
        return f"list: {type_of(said.get('items', {}))}"
    if said.get("type") == "object" and isinstance(said.get("additionalProperties"), dict):
        return f"by name: {type_of(said['additionalProperties'])}"
    return {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false",
            "object": "keys of its own", "null": "null", None: "anything"}[said.get("type")]


def schema():
    from twinscale.common.recipe.schema import Recipe

    return f"```json\n{json.dumps(Recipe.model_json_schema(), indent=1)}\n```"


def prose(docstring):
    """A docstring as Markdown: paragraphs, and what is indented or laid out as it stands."""
    return "\n\n".join("```text\n" + text + "\n```" if laid_out else outside(text, lambda part: re.sub(
        r"([*<_])", r"\\\1", part), lambda name, after: f"`{name}`") for text, laid_out in paragraphs(docstring))


# ---- bounds of operations by themselves

def operations():
    from twinscale.common.operations.catalogue import OPERATIONS

    rows = [f"| {name} | {shortly(o.wide)} | {'' if o.narrow is None else shortly(o.narrow)} | {cell(o.why)} |"
            for name, o in OPERATIONS.items()]
    return "\n".join(["| operation | wide | narrow | where it comes from |", "| :-- | --: | --: | :-- |", *rows])


def shortly(eps):
    return f"{eps:.1f}".removesuffix(".0")


# ---- modules

def everything(package):
    return "\n\n".join(map(described, modules(package)))


def rooms():
    """Of each file first Keras' module, then JAX'; what only one of them has stands by itself."""
    both = {name: [f"{room}{name}" for room in ("tfscale", "jaxscale") if f"{room}{name}" in modules(room)]
            for name in sorted({m.partition(".")[1] + m.partition(".")[2] for room in ("tfscale", "jaxscale")
                                for m in modules(room)})}
    return "\n\n".join(described(m) for names in both.values() for m in names)


def modules(package):
    """Names of a package's modules, itself first, but for those that only start a process."""
    paths = sorted(path.relative_to(ROOT).with_suffix("") for path in (ROOT / package).rglob("*.py"))
    names = [".".join(path.parts).removesuffix(".__init__") for path in paths if path.name != "__main__"]
    return sorted(names)


def described(module):
    return f"## `{module}`\n\n```{{eval-rst}}\n.. automodule:: {module}\n```"


def api():
    """The public functions of `twinscale`, and the verdict that they return."""
    verdict = (".. autoclass:: twinscale.benchmarks.verdict.Verdict\n   :members: answer, exit_code, raise_if_not\n"
               "   :no-index:")
    return f"{described('twinscale.api')}\n\n## A verdict\n\n```{{eval-rst}}\n{verdict}\n```"


# ---- a notebook

def notebook(name="two-files-to-the-first-parting.ipynb"):
    """A notebook's cells, each with what it printed when `make docs` executed it; else its cells alone."""
    files = ROOT / "docs" / name, ROOT / "build" / "notebook" / name
    written, executed = (json.loads(file.read_text())["cells"] if file.is_file() else [] for file in files)
    as_written = [cell["source"] for cell in written] == [cell["source"] for cell in executed]
    return "\n\n".join(filter(None, map(cell_shown, executed if as_written else written)))


def cell_shown(cell):
    """A cell as Markdown: its words; or its code and what that printed, without what was said meanwhile on stderr."""
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return text
    shown = [f"````python\n{text}\n````"]
    for output in cell["outputs"]:
        if output.get("name") == "stdout":
            shown.append(f"````text\n{''.join(output['text']).rstrip()}\n````")
        shown += ["".join(output["data"][kind]) for kind in ("text/html",) if kind in output.get("data", {})]
    return "\n\n".join(shown)


# ---- docstrings

def plain(app, what, name, subject, options, lines):
    """Our docstrings are plain words: nothing in them but `names` is markup, and what is indented stays as it is."""
    text = inspect.cleandoc("\n".join(lines))
    lines[:] = []
    for paragraph, laid_out in paragraphs(text):
        if laid_out:
            lines += ["::", "", *(f"   {line}" for line in paragraph.splitlines()), ""]
        else:
            lines += [*escaped(paragraph).splitlines(), ""]


def paragraphs(text):
    """[(paragraph, whether its lines are to stay as they stand)]."""
    found = []
    for part in re.split(r"\n\s*\n", text):
        lines = part.strip("\n").splitlines()
        at = next((i for i, line in enumerate(lines) if line.startswith((" ", "\t"))
                   or re.match(r"(Args|Returns|Raises)\b.*:", line)), len(lines))
        if lines[:at]:
            found.append(("\n".join(lines[:at]), False))
        if lines[at:]:
            found.append(("\n".join(lines[at:]), True))
    return found


def escaped(paragraph):
    """A paragraph for reStructuredText, its `names` as code."""
    text = outside(paragraph, lambda part: re.sub(r"([\\*_|`])", r"\\\1", part),
                   lambda name, after: f"``{name.strip()}``" + "\\ " * after[:1].isalnum())
    text = "\n".join(line.strip() for line in text.splitlines())
    return re.sub(r"^([-+•.=~#:\d(])", r"\\\1", text, flags=re.M)


def outside(text, words, code):
    """A text with `words(part)` in place of what is outside of backquotes, `code(name, what follows)` of what is in."""
    parts = re.split(r"`([^`]+)`", text)
    return "".join(words(part) if i % 2 == 0 else code(part, parts[i + 1]) for i, part in enumerate(parts))


MADE = {"<!-- commands -->": commands, "<!-- recipe -->": recipe, "<!-- schema -->": schema,
        "<!-- results -->": results, "<!-- api -->": api, "<!-- operations -->": operations, "<!-- rooms -->": rooms,
        "<!-- notebook -->": notebook,
        **{f"<!-- {package} -->": partial(everything, package) for package in ("common", "benchmarks", "swap")}}
