"""An encoder's tensors as the Hugging Face library has them: BERT (Devlin et al. 2019), RoBERTa (Liu et al. 2019) and
DistilBERT (Sanh et al. 2019), which differ in tables, names and heads."""

from collections.abc import Mapping
from typing import Any

from twinscale.common.errors import BadInput, one_of
from twinscale.common.families import Layouts
from twinscale.common.families.encoder import Encoder, outputs_of

Pairs = list[tuple[str, list[str], bool]]

PREFIXES = {"bert": "bert.", "roberta": "roberta.", "distilbert": "distilbert."}
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
THEIRS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}
PADDING = 1  # RoBERTa's id of it, behind which positions are counted
# The parts of a block: {theirs: ours}.
LIKE_BERT = {"attention.self.query": "attention.query", "attention.self.key": "attention.key",
             "attention.self.value": "attention.value", "attention.output.dense": "attention.output",
             "attention.output.LayerNorm": "norm_1", "intermediate.dense": "feedforward.up",
             "output.dense": "feedforward.down", "output.LayerNorm": "norm_2"}
LIKE_DISTILBERT = {"attention.q_lin": "attention.query", "attention.k_lin": "attention.key",
                   "attention.v_lin": "attention.value", "attention.out_lin": "attention.output",
                   "sa_layer_norm": "norm_1", "ffn.lin1": "feedforward.up", "ffn.lin2": "feedforward.down",
                   "output_layer_norm": "norm_2"}
BODIES = {"bert": "encoder.layer.", "roberta": "encoder.layer.", "distilbert": "transformer.layer."}
# The parts of a head: {theirs: ours}. DistilBERT's for sequences has a ReLU where we have tanh or nothing.
MASKED = {"bert": {"cls.predictions.transform.dense": "transform", "cls.predictions.transform.LayerNorm":
                   "transform_norm", "cls.predictions": "head"},
          "roberta": {"lm_head.dense": "transform", "lm_head.layer_norm": "transform_norm", "lm_head": "head"},
          "distilbert": {"vocab_transform": "transform", "vocab_layer_norm": "transform_norm",
                         "vocab_projector": "head"}}
POOLED = {"bert": {"bert.pooler.dense": "pooler", "classifier": "head"},
          "roberta": {"classifier.dense": "pooler", "classifier.out_proj": "head"}}
NEXT = {"bert": {"bert.pooler.dense": "pooler", "cls.seq_relationship": "head"}}
CLASSES = {"tokens": "ForTokenClassification", "sequence": "ForSequenceClassification",
           "masked": "ForMaskedLM", "embedding": "Model", "next-sentence": "ForNextSentencePrediction"}
STEMS = {"bert": "Bert", "roberta": "Roberta", "distilbert": "DistilBert"}


def layout(m: Encoder) -> tuple[str | None, str]:
    """(one of PREFIXES, "") of a model section of the recipe, or (None, why there is none)."""
    name, why = nearest(m)
    if name and m.head != "embedding" and not head_pairs(name, m):
        return None, f'{name} has no head as model.head="{m.head}" with model.pooler={str(m.pooler).lower()}'
    return name, why


def nearest(m: Encoder) -> tuple[str | None, str]:
    """`layout` whatever the head."""
    if not m.post:
        return None, 'norms stand before each part (model.norm="pre")'
    tables = {(0, True): "bert", (0, False): "distilbert", (PADDING + 1, True): "roberta"}
    name = tables.get((m.first_position, m.types > 0))
    if name is None:
        return None, f"none has model.first_position={m.first_position} and model.types={m.types}"
    return name, ""


def pairs(name: str, m: Encoder) -> Pairs:
    """[(the layout's name, canonical names that lie beside each other in it, whether it is transposed)]."""
    prefix = "" if m.head == "embedding" else one_of(PREFIXES, name, "layout")
    tables = {"word_embeddings": "embedding", "position_embeddings": "position", "token_type_embeddings": "token_type"}
    found: Pairs = [(f"{prefix}embeddings.{theirs}.weight", [f"{ours}.embedding"], False)
                    for theirs, ours in tables.items() if ours != "token_type" or m.types]
    found += part(f"{prefix}embeddings.LayerNorm", "embedding_norm")
    for i in range(m.layers):
        for theirs, ours in (LIKE_DISTILBERT if name == "distilbert" else LIKE_BERT).items():
            found += part(f"{prefix}{BODIES[name]}{i}.{theirs}", f"block_{i}.{ours}")
    return found + head_pairs(name, m)


def head_pairs(name: str, m: Encoder) -> Pairs:
    """`pairs` of the head; none where the layout's own is another, which then starts fresh."""
    if m.head == "embedding":
        return []
    if m.head == "tokens":
        return part("classifier", "head")
    if m.head == "masked":
        return [pair for theirs, ours in MASKED[name].items() for pair in part(theirs, ours)
                if pair[1] != ["head.kernel"]]  # which is the table
    heads = NEXT if m.head == "next-sentence" else POOLED
    if not m.pools or name not in heads:
        return []
    return [pair for theirs, ours in heads[name].items() for pair in part(theirs, ours)]


def part(theirs: str, ours: str) -> Pairs:
    """The two tensors of a dense layer, which lies transposed, or of a norm."""
    norm = "norm" in ours
    return [(f"{theirs}.weight", [f"{ours}.{'scale' if norm else 'kernel'}"], not norm),
            (f"{theirs}.bias", [f"{ours}.bias"], False)]


def options(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a config.json says. Raises KeyError where it does not, BadInput where it says what no encoder
    here has."""
    if (kind := config.get("position_embedding_type", "absolute")) != "absolute":
        raise BadInput(f'model.weights: config.json: position_embedding_type = "{kind}": absolute ones alone are known '
                       "here")
    if name == "distilbert":
        keys = {"layers": "n_layers", "width": "dim", "heads": "n_heads", "hidden": "hidden_dim"}
        more = {"types": 0, "norm_epsilon": 1e-12, "activation": ACTIVATIONS[config["activation"]]}
    else:
        keys = {"layers": "num_hidden_layers", "width": "hidden_size", "heads": "num_attention_heads",
                "hidden": "intermediate_size", "types": "type_vocab_size", "norm_epsilon": "layer_norm_eps"}
        more = {"activation": ACTIVATIONS[config["hidden_act"]]}
    keys |= {"vocabulary": "vocab_size", "positions": "max_position_embeddings"}
    first = config.get("pad_token_id", PADDING) + 1 if name == "roberta" else 0
    return {ours: config[theirs] for ours, theirs in keys.items()} | more | {"norm": "post", "first_position": first}


def config(name: str, m: Encoder, vocabulary: int, length: int, dtype: str) -> dict[str, Any]:
    """What config.json says: sizes, and whatever the library would otherwise take from its own defaults. `vocabulary`:
    the classes of the data."""
    shared = {"model_type": name, "architectures": [STEMS[name] + CLASSES[m.head]], "vocab_size": m.vocabulary,
              "max_position_embeddings": m.positions, "torch_dtype": dtype, "initializer_range": 0.02,
              "tie_word_embeddings": True}
    if m.head in ("tokens", "sequence"):
        shared["num_labels"] = outputs_of(m, vocabulary)
    if name == "distilbert":
        return shared | {"dim": m.width, "n_layers": m.layers, "n_heads": m.heads, "hidden_dim": m.feedforward,
                         "activation": THEIRS[m.activation], "dropout": m.dropout, "attention_dropout": 0.0,
                         "sinusoidal_pos_embds": False, "pad_token_id": 0}
    return shared | {
        "hidden_size": m.width, "num_hidden_layers": m.layers, "num_attention_heads": m.heads,
        "intermediate_size": m.feedforward, "hidden_act": THEIRS[m.activation], "layer_norm_eps": m.norm_epsilon,
        "type_vocab_size": m.types, "hidden_dropout_prob": m.dropout, "attention_probs_dropout_prob": 0.0,
        "position_embedding_type": "absolute", "pad_token_id": PADDING if name == "roberta" else 0}


ENCODERS = Layouts(layout, pairs, config, options=options, prefixes=PREFIXES, body=BODIES,
                   fresh=("head.*", "pooler.*", "transform.*", "transform_norm.*"), nearest=nearest)
