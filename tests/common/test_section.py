"""Tables of a recipe: strict, and of the options of whom they name."""

import pytest
from pydantic import ValidationError

from twinscale.common.families import FAMILIES
from twinscale.common.recipe.schema import Recipe
from twinscale.common.section import Section, any_of


class Table(Section):
    width: int = 3


def test_a_table_takes_no_other_keys_or_types_and_never_changes():
    for wrong in ({"with": 3}, {"width": "3"}, {"width": 3.0}):
        with pytest.raises(ValidationError):
            Table.model_validate(wrong)
    table = Table()
    with pytest.raises(ValidationError):
        table.width = 4
    assert table.width == 3


def test_a_table_has_the_options_of_whom_it_names_and_no_others():
    found = Recipe(name="x", data={"source": "digits"}, model={"family": "mlp", "hidden": [4]})
    assert list(found.model.hidden) == [4]
    for wrong in ({"family": "convnet", "hidden": [4]}, {"family": "nobody"}, {"hidden": [4]}):
        with pytest.raises(ValidationError):
            Recipe(name="x", data={"source": "digits"}, model=wrong)


def test_a_schema_offers_own_names_and_takes_any():
    own, any_text = any_of(FAMILIES)["anyOf"]
    assert own["enum"] == [*FAMILIES.builtin] and any_text == {"type": "string"}
