"""What `twinscale data check` says: a row for each reason, and examples of what it removes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twinscale.common.data.labelled import as_texts, sides_of
from twinscale.common.data.quality.checks import CHECKS
from twinscale.common.data.quality.duplicates import CITED
from twinscale.common.data.quality.verdicts import Verdicts, remark, verdicts
from twinscale.common.errors import BadInput
from twinscale.common.families import family_of
from twinscale.common.files.access import shown
from twinscale.common.registry import portable
from twinscale.common.sources import Data, opened

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

SCHEMA_VERSION = 1


def report(recipe: "Recipe") -> dict[str, Any]:
    """JSON-able: what the rules of a recipe's [data] remove, by reason, with examples and sources.

    Raises BadInput where there are none, and as `verdicts` does.
    """
    data = recipe.data
    if not data.chooses:
        raise BadInput('data.quality, data.subset: say nothing, and nothing is removed: set such as data.quality=['
                       '"length", "symbols", "repetition", "exact", "near"]')
    of_rows = family_of(recipe.model).reads == "arrays" and not data.unlabelled
    said = labelled_verdicts(data) if of_rows else verdicts(data)
    reasons = {reason: count | {"cited": cited(reason), "examples": said.examples.get(reason, [])}
               for reason, count in said.told["removed"].items()}
    return {"schema_version": SCHEMA_VERSION, "recipe": recipe.name, "source": portable(data.source),
            "quality": list(data.quality), **said.told, "removed": reasons}


def labelled_verdicts(data: Data) -> Verdicts:
    """The Verdicts on the rows of labelled text."""
    source, argument = opened(data)
    found = source.labelled(data, argument)
    texts = as_texts(found)
    held_out = sides_of(data, found, texts).tolist()
    return verdicts(data, lambda: zip(found.places, texts, held_out, strict=True))


def cited(reason: str) -> str:
    """Who has proposed what a reason stands for."""
    found = {check.reason: check.cited for check in CHECKS}
    return found.get(reason) or CITED[reason.partition("_")[0]]


def told(found: Mapping[str, Any], examples: int) -> str:
    """A `report` as a table, with so many examples of each reason, and a line on what is left."""
    removed = found["removed"]
    rows = [("reason", "documents", "bytes", "of"), *(
        (reason, f"{row['documents']:,}", f"{row['bytes']:,}", row["cited"]) for reason, row in removed.items())]
    rows = rows if removed else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for reason, documents, size, by in rows:
        lines.append(f"{reason:{widths[0]}}  {documents:>{widths[1]}}  {size:>{widths[2]}}  {by}")
        some = removed.get(reason, {}).get("examples", [])[:examples]
        lines += [f"    {shown(one['name'])}: {shown(one['why'])}: {shown(one['text'], 60)}" for one in some]
    read, kept = found["read"], found["kept"]
    lines += [*([""] if lines else []), f"{kept['documents']:,} of {read['documents']:,} documents to train on stay, "
              f"{kept['bytes']:,} of {read['bytes']:,} bytes; held-out ones are as they were"]
    return "\n".join([*lines, *remark({"quality": {**found, "removed": {}}})])
