"""Well-known models of KerasHub and Keras, each beside the Flax model of the same name by other people, with random
weights and at sizes that take seconds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import flaxmodels
import keras
import keras_hub
import numpy as np
import transformers

VOCABULARY, WIDTH, LAYERS, HEADS, LENGTH = 97, 32, 2, 2, 8
NAMES = {"ids": ("token_ids", "input_ids"), "mask": ("padding_mask", "attention_mask"),
         "segments": ("segment_ids", "token_type_ids")}


@dataclass(frozen=True)
class Pair:
    """Two programs, and what is to be said of them."""

    build: Callable[[], tuple[Any, Any]]
    inputs: Callable[[], Any]
    outputs: tuple[str | None, str | None] | None = None
    names: dict = field(default_factory=dict)
    cause: str = ""  # "": they agree; else what the verdict has to say of why they do not
    place: str = ""  # what its place has to name


def bert(activation: str = "gelu", width: int = WIDTH, layers: int = LAYERS, heads: int = HEADS,
         vocabulary: int = VOCABULARY, positions: int = 16) -> tuple[Any, Any]:
    """KerasHub's BERT and Hugging Face's, the latter with an activation."""
    return keras_hub.models.BertBackbone(
        vocabulary_size=vocabulary, num_layers=layers, num_heads=heads, hidden_dim=width, intermediate_dim=4 * width,
        max_sequence_length=positions), transformers.FlaxBertModel(transformers.BertConfig(
            vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
            intermediate_size=4 * width, max_position_embeddings=positions, hidden_act=activation), input_shape=(1, 8))


def gpt2() -> tuple[Any, Any]:
    """KerasHub's GPT-2, and Hugging Face's, whose queries, keys and values lie in one turned tensor."""
    return keras_hub.models.GPT2Backbone(
        vocabulary_size=VOCABULARY, num_layers=LAYERS, num_heads=HEADS, hidden_dim=WIDTH, intermediate_dim=4 * WIDTH,
        max_sequence_length=16), transformers.FlaxGPT2Model(transformers.GPT2Config(
            vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=16), input_shape=(1, 8))


def llama() -> tuple[Any, Any]:
    """KerasHub's Llama, with a head of its own that its backbone does not call, and Hugging Face's without one."""
    return keras_hub.models.LlamaBackbone(
        vocabulary_size=VOCABULARY, num_layers=LAYERS, num_query_heads=4, num_key_value_heads=2, hidden_dim=WIDTH,
        intermediate_dim=64), transformers.FlaxLlamaModel(transformers.LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=4,
            num_key_value_heads=2, intermediate_size=64, max_position_embeddings=16), input_shape=(1, 8))


def vgg16() -> tuple[Any, Any]:
    """The VGG16 of Keras and of flaxmodels, whose heads want images of 224 x 224 and are left out."""
    return (keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3)),
            flaxmodels.VGG16(pretrained=None, include_head=False, normalize=False))


def texts(segments: bool = False) -> dict[str, np.ndarray]:
    """Ids with their mask, the last row padded; with segments, as BERT wants them."""
    rng, mask = np.random.default_rng(0), np.ones((3, LENGTH), np.int32)
    mask[-1, 5:] = 0
    found = {"ids": rng.integers(0, VOCABULARY, mask.shape).astype(np.int32), "mask": mask}
    return found | ({"segments": (np.arange(LENGTH) > 3).astype(np.int32) * np.ones_like(mask)} if segments else {})


def images() -> np.ndarray:
    """Two images, float32 (2, 32, 32, 3) from 0 to 1."""
    return np.random.default_rng(0).random((2, 32, 32, 3)).astype(np.float32)


OF_BERT: dict[str, Any] = {"inputs": lambda: texts(segments=True), "names": NAMES,
                           "outputs": ("sequence_output", "last_hidden_state")}
OF_DECODERS: dict[str, Any] = {"inputs": texts, "names": NAMES, "outputs": (None, "last_hidden_state")}
PAIRS = {
    "BERT": Pair(bert, cause="a applies the tanh GELU, b the exact GELU", place="feedforward_intermediate_dense",
                 **OF_BERT),
    "BERT, activation put right": Pair(lambda: bert("gelu_new"), **OF_BERT),
    "GPT-2": Pair(gpt2, **OF_DECODERS),
    "Llama": Pair(llama, **OF_DECODERS),
    "VGG16": Pair(vgg16, images),
}


def base() -> tuple[Any, Any]:
    """BERT as it was published: 12 layers of 768, 110 million weights."""
    return bert("gelu_new", width=768, layers=12, heads=12, vocabulary=30522, positions=512)
