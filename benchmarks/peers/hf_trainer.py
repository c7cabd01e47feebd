"""Hugging Face's Trainer, on the CPU, of its own BERT with a class of each row."""

import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from twinscale.benchmarks.peers.serve import batch, serve

LONG = 1000  # batches of an epoch, so that none ends within a round
PACKAGES = ("transformers", "accelerate", "torch")


def model_of(job: Mapping[str, Any]) -> BertForSequenceClassification:
    """The library's model of a job's sizes, at its first weights."""
    model = BertForSequenceClassification(BertConfig(
        vocab_size=job["vocabulary"], hidden_size=job["width"], num_hidden_layers=job["layers"],
        num_attention_heads=job["heads"], intermediate_size=job["hidden"], max_position_embeddings=job["positions"],
        type_vocab_size=job["types"] or 1, num_labels=job["classes"], hidden_dropout_prob=job["dropout"],
        attention_probs_dropout_prob=0.0, layer_norm_eps=job["epsilon"],
        hidden_act={"gelu": "gelu", "gelu_tanh": "gelu_new"}[job["activation"]]))
    for name, value in model.bert.embeddings.named_parameters():
        value.requires_grad_(not job["frozen"] or "LayerNorm" in name)
    return model


class Begun(TrainerCallback):
    """When the first step of a training began."""

    at: float | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Keeps the time of the first."""
        self.at = self.at or time.perf_counter()


def prepared(job: Mapping[str, Any]) -> Callable[[int], float]:
    """What trains so many steps, and says the seconds."""
    one, begun, folder = batch(job), Begun(), tempfile.mkdtemp(prefix="twinscale-")
    rows = [{"input_ids": ids, "attention_mask": mask, "token_type_ids": types, "labels": int(label)}
            for ids, mask, types, label in zip(one["ids"], one["mask"], one["types"], one["labels"], strict=True)]
    trainer = Trainer(model_of(job), TrainingArguments(
        output_dir=folder, per_device_train_batch_size=job["batch"], max_steps=1, use_cpu=True, report_to=[],
        learning_rate=job["rate"], weight_decay=job["decay"], save_strategy="no", logging_strategy="no",
        disable_tqdm=True), train_dataset=rows * LONG, callbacks=[begun])

    def train(count):
        trainer.args.max_steps, begun.at = count, None
        trainer.train()
        return time.perf_counter() - begun.at

    return train


if __name__ == "__main__":
    serve(prepared, PACKAGES)
