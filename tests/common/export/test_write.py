"""What becomes of an export where a format cannot be written."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from tests.common.export.test_check import model_of
from tests.common.export.test_predict import recipe_of
from twinscale.common.errors import CannotSave, MissingEnvironment
from twinscale.common.export import hugging_face
from twinscale.common.export import process as export_process
from twinscale.common.export import write as export
from twinscale.common.recipe.schema import Recipe


@pytest.mark.parametrize("error, kind", [(OSError(28, "No space left on device"), CannotSave),
                                         (MemoryError(), MissingEnvironment), (ValueError("odd"), None)])
def test_a_machine_that_has_no_more_is_no_format_that_cannot_be_written(tmp_path, monkeypatch, error, kind):
    def write(*_):
        raise error

    monkeypatch.setattr(hugging_face, "write", write)
    model = model_of(recipe_of("mlp"), 10, (8, 8, 1))
    room = SimpleNamespace(backend="jax")
    with pytest.raises(kind) if kind else nullcontext():
        found = export.write_all(room, SimpleNamespace(), {"safetensors": ""}, model, None, tmp_path, tmp_path)
        assert kind is None and found == {"safetensors": error}
    with pytest.raises(kind) if kind else nullcontext():  # as a process of ours says it
        assert str(export_process.failed({"error": str(error) or "MemoryError"})) == "odd"


def test_a_pair_is_served_whatever_its_dropout_is_in_training(tmp_path):
    """Of a family of ours it is a share, of a pair a word."""
    (tmp_path / "one.py").write_text("")
    model = {"family": "pair", "reads": "images", "keras": f"{tmp_path}/one.py:build", "dropout": "shared",
             "flax": f"{tmp_path}/one.py:port", "match": str(tmp_path / "match.toml")}
    recipe = Recipe.model_validate({"name": "x", "data": {"source": "digits"}, "model": model})
    assert export.served(recipe).model == recipe.model and export.served(recipe).data.cross_documents
