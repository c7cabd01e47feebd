"""Keras' own `fit` of Keras' own layers: what its guides write, compiled by `compile`'s own choice."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from twinscale.benchmarks.peers.serve import batch, serve

PACKAGES = ("keras", "tensorflow")


def model_of(job: Mapping[str, Any]) -> keras.Model:
    """A transformer of stock layers: BERT's post-norm encoder with a class of each row, or, causal, a pre-norm decoder
    with a token of each position."""
    layers, train, given = keras.layers, not job["frozen"], {}

    def table(rows):
        return layers.Embedding(rows, job["width"], trainable=train)

    def norm(x):
        return layers.LayerNormalization(epsilon=job["epsilon"])(x)

    def dropped(x):
        return layers.Dropout(job["dropout"])(x) if job["dropout"] else x

    given = {name: keras.Input((job["length"],), dtype="int32", name=name) for name in names(job)}
    tokens = table(job["vocabulary"]) if not job["causal"] else layers.ReversibleEmbedding(
        job["vocabulary"], job["width"], tie_weights=job["tied"], trainable=train)
    places = ops.cumsum(ops.ones_like(given["ids"]), 1) - 1  # of an input: a constant's table would be no layer of it
    x = tokens(given["ids"]) + table(job["positions"])(places)
    x = x + table(job["types"])(given["types"]) if "types" in given else x
    kept = ops.cast(given["mask"], "bool")[:, None] if "mask" in given else None
    post, act = not job["causal"], (lambda x: ops.gelu(x, approximate=job["activation"] == "gelu_tanh"))
    x = dropped(norm(x) if post else x)
    for _ in range(job["layers"]):
        read = x if post else norm(x)
        attention = layers.MultiHeadAttention(job["heads"], job["width"] // job["heads"])
        x = x + dropped(attention(read, read, attention_mask=kept, use_causal_mask=job["causal"]))
        x = norm(x) if post else x
        y = layers.Dense(job["hidden"], activation=act)(x if post else norm(x))
        x = x + dropped(layers.Dense(job["width"])(y))
        x = norm(x) if post else x
    if job["causal"]:
        return keras.Model(given, tokens(norm(x), reverse=True))
    x = layers.Dense(job["width"], activation="tanh")(x[:, 0]) if job["pooler"] else x[:, 0]
    return keras.Model(given, layers.Dense(job["classes"])(dropped(x)))


def names(job: Mapping[str, Any]) -> list[str]:
    """What the model reads of a batch."""
    return ["ids"] if job["causal"] else ["ids", "mask", *(["types"] if job["types"] else [])]


class Begun(keras.callbacks.Callback):
    """When the first step of a `fit` began, which what makes its iterator comes before."""

    at: float | None = None

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Keeps the time of the first."""
        self.at = self.at or time.perf_counter()


def prepared(job: Mapping[str, Any]) -> Callable[[int], float]:
    """What fits so many steps, and says the seconds."""
    model, one = model_of(job), batch(job)
    model.compile(optimizer=keras.optimizers.AdamW(job["rate"], weight_decay=job["decay"]),
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = tf.data.Dataset.from_tensors(({name: one[name] for name in names(job)}, one["labels"])).repeat()

    def train(count):
        begun = Begun()
        model.fit(data, epochs=1, steps_per_epoch=count, verbose=0, callbacks=[begun])
        return time.perf_counter() - begun.at

    return train


if __name__ == "__main__":
    serve(prepared, PACKAGES)
