"""The table [model] of a recipe: the keys are those of its family."""

import pytest
from pydantic import TypeAdapter, ValidationError

from twinscale.common.recipe.model import AnyModel

MODEL = TypeAdapter(AnyModel)
OWN = {"decoder": ("heads", 8), "convnet": ("channels", (4, 8)), "mlp": ("hidden", (16, 12))}


@pytest.mark.parametrize("family", OWN)
def test_a_model_takes_and_writes_the_keys_of_its_family_and_no_others(family):
    key, value = OWN[family]
    model = MODEL.validate_python({"family": family, key: value})
    written = MODEL.dump_python(model)
    assert written[key] == value and MODEL.validate_python(written) == model
    for other in ({"channels": (4, 8)}, {"heads": 8}):
        if key not in other:
            with pytest.raises(ValidationError):
                MODEL.validate_python({"family": family, **other})
