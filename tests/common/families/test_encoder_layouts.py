"""The layouts of BERT, RoBERTa and DistilBERT."""

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.export import hugging_face
from twinscale.common.export.formats import Shape
from twinscale.common.families.encoder import Encoder
from twinscale.common.families.encoder_layouts import config, head_pairs, layout, nearest, options
from twinscale.common.families.parameters import initial_values, parameters
from twinscale.common.files.access import read_json
from twinscale.common.recipe.schema import Recipe

SHAPE = (("ids", (6,), "int32"),)
SMALL = {"layers": 2, "width": 8, "heads": 2, "vocabulary": 30, "positions": 9}
KINDS = {"bert": {"types": 2}, "roberta": {"types": 1, "first_position": 2}, "distilbert": {"types": 0}}


def encoder(**values):
    return Encoder(family="encoder", **{**SMALL, **values})


def tensors_of(m):
    return initial_values(parameters(m, 3, SHAPE), 0, "float32")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", ["tokens", "sequence", "masked", "embedding", "next-sentence"])
def test_tensors_go_into_the_librarys_directory_and_come_back_bit_for_bit(tmp_path, kind, head):
    m = encoder(head=head, **KINDS[kind])
    recipe = Recipe.model_validate({"name": "x", "data": {"source": "random"}, "model": m.model_dump()})
    first = tensors_of(m)
    wrote = hugging_face.write(recipe, Shape(3, SHAPE), first, tmp_path)
    if (kind, head) in {("distilbert", "sequence"), ("distilbert", "next-sentence"), ("roberta", "next-sentence")}:
        assert wrote["layout"] is None and f"{kind} has no head as" in wrote["note"]
        return
    assert wrote["layout"] == kind
    back = hugging_face.read(m, tmp_path)
    assert {name: x.tobytes() for name, x in back.items()} == {name: x.tobytes() for name, x in first.items()}
    again = options(kind, read_json(tmp_path / "config.json", dict))
    assert {key: getattr(m, "feedforward" if key == "hidden" else key) for key in again} == again


def test_names_and_shapes_are_the_librarys():
    m = encoder(head="sequence", types=2)
    found = hugging_face.to_layout("bert", m, tensors_of(m))
    assert found["bert.encoder.layer.1.intermediate.dense.weight"].shape == (32, 8)  # (outputs, inputs)
    assert {"bert.embeddings.LayerNorm.weight", "bert.encoder.layer.0.attention.output.LayerNorm.bias",
            "bert.pooler.dense.weight", "classifier.bias"} <= found.keys()
    m = encoder(head="masked", types=1, first_position=2)
    assert {"roberta.embeddings.token_type_embeddings.weight", "lm_head.layer_norm.weight", "lm_head.bias"} <= set(
        hugging_face.to_layout("roberta", m, tensors_of(m)))
    m = encoder(types=2, head="next-sentence")
    found = hugging_face.to_layout("bert", m, tensors_of(m))
    assert {"bert.pooler.dense.weight", "cls.seq_relationship.bias"} <= found.keys()
    assert found["cls.seq_relationship.weight"].shape == (2, 8)
    m = encoder(types=0)
    assert {"distilbert.transformer.layer.0.attention.q_lin.weight", "distilbert.transformer.layer.1.ffn.lin2.bias",
            "classifier.weight"} <= set(hugging_face.to_layout("distilbert", m, tensors_of(m)))


def test_a_bodys_model_has_no_prefix_and_no_head():
    found = hugging_face.to_layout("bert", m := encoder(head="embedding", types=2), tensors_of(m))
    assert "embeddings.word_embeddings.weight" in found
    assert not any("pooler" in name or "bert" in name for name in found)


@pytest.mark.parametrize(("values", "why"), [
    ({"norm": "pre", "types": 2}, 'model.norm="pre"'), ({"types": 3, "first_position": 1}, "model.first_position=1"),
    ({"types": 2, "head": "sequence", "pooler": False}, "bert has no head as")])
def test_what_has_no_layout_says_why(values, why):
    found, said = layout(encoder(**values))
    assert found is None and why in said


def test_a_file_may_have_another_head_than_the_model():
    m = encoder(types=2, head="sequence", pooler=False)
    assert nearest(m) == ("bert", "") and head_pairs("bert", m) == []


def test_sizes_are_said_to_the_library_as_it_calls_them():
    m = encoder(types=2, activation="gelu_tanh", hidden=12)
    said = config("bert", m, 3, 6, "float32")
    assert (said["hidden_size"], said["intermediate_size"], said["hidden_act"]) == (8, 12, "gelu_new")
    assert (said["architectures"], said["max_position_embeddings"]) == (["BertForTokenClassification"], 9)
    with pytest.raises(BadInput, match='position_embedding_type = "relative_key": absolute ones alone'):
        options("bert", said | {"position_embedding_type": "relative_key"})
    with pytest.raises(KeyError):
        options("bert", said | {"hidden_act": "silu"})
    assert np.isclose(options("bert", said)["norm_epsilon"], m.norm_epsilon)
