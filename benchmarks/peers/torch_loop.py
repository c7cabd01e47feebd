"""PyTorch as it is usually written: modules, fused attention, AdamW and a loop, without torch.compile. It trains on a
GPU where torch finds one; in bfloat16 by autocast, which leaves the weights and the optimizer's slots in float32."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from twinscale.benchmarks.peers.serve import batch, serve

PACKAGES = ("torch",)


class Block(nn.Module):
    """A transformer's block with the norm after each sum, or, causal, before each part."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        super().__init__()
        self.heads, self.causal = job["heads"], job["causal"]
        self.qkv, self.output = nn.Linear(job["width"], 3 * job["width"]), nn.Linear(job["width"], job["width"])
        self.up, self.down = nn.Linear(job["width"], job["hidden"]), nn.Linear(job["hidden"], job["width"])
        self.norms = nn.ModuleList(nn.LayerNorm(job["width"], job["epsilon"]) for _ in range(2))
        self.dropped = nn.Dropout(job["dropout"])
        self.act = nn.GELU("tanh" if job["activation"] == "gelu_tanh" else "none")

    def attention(self, x: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        """What attention makes of x (B, L, D); `kept` is bool (B, 1, 1, L)."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=kept, is_causal=self.causal)
        return self.dropped(self.output(mixed.transpose(1, 2).flatten(2)))

    def feedforward(self, x: torch.Tensor) -> torch.Tensor:
        """What the feed-forward layer makes of x (B, L, D)."""
        return self.dropped(self.down(self.act(self.up(x))))

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        """x (B, L, D) after the block."""
        first, second = self.norms
        if self.causal:
            x = x + self.attention(first(x), kept)
            return x + self.feedforward(second(x))
        x = first(x + self.attention(x, kept))
        return second(x + self.feedforward(x))


class Transformer(nn.Module):
    """BERT's encoder with a class of each row, or, causal, a decoder with a token of each position."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        super().__init__()
        self.job = job
        rows = (job["vocabulary"], job["positions"], *([job["types"]] if job["types"] else []))
        self.tables = nn.ModuleList(nn.Embedding(count, job["width"]) for count in rows)
        self.tables.requires_grad_(not job["frozen"])
        self.blocks = nn.ModuleList(Block(job) for _ in range(job["layers"]))
        self.norm, self.dropped = nn.LayerNorm(job["width"], job["epsilon"]), nn.Dropout(job["dropout"])
        self.pooler = nn.Linear(job["width"], job["width"]) if job["pooler"] else None
        self.head = nn.Linear(job["width"], job["classes"], bias=not job["causal"])
        if job["tied"]:
            self.head.weight = self.tables[0].weight

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        """Logits (B, C), or (B, L, V), of a batch (B, L)."""
        places = torch.arange(ids.shape[1], device=ids.device)
        x = sum(table(read) for table, read in zip(self.tables, (ids, places, types), strict=False))
        causal = self.job["causal"]
        x = self.dropped(x if causal else self.norm(x))
        for block in self.blocks:
            x = block(x, None if causal else mask.bool()[:, None, None])
        if causal:
            return self.head(self.norm(x))
        x = torch.tanh(self.pooler(x[:, 0])) if self.pooler is not None else x[:, 0]
        return self.head(self.dropped(x))


def device_of() -> str:
    """"cuda", or "cpu" where torch finds no GPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def kind_of() -> str:
    """The maker's name of the device."""
    return torch.cuda.get_device_name() if device_of() == "cuda" else "cpu"


def prepared(job: Mapping[str, Any], compiled: Callable[[nn.Module], Any] = lambda model: model
             ) -> Callable[[int], float]:
    """What trains so many steps, and says the seconds. `compiled` makes of the model what is called in its place."""
    torch.manual_seed(0)
    device, narrow = device_of(), job["precision"] == "bfloat16"
    model = Transformer(job).train().to(device)
    called = compiled(model)
    one = {name: torch.from_numpy(x).long().to(device) for name, x in batch(job).items()}
    labels = one.pop("labels").flatten()
    optimizer = torch.optim.AdamW([x for x in model.parameters() if x.requires_grad], job["rate"],
                                  weight_decay=job["decay"])

    def wait():
        if device == "cuda":  # whose calls return before the work is done
            torch.cuda.synchronize()

    def train(count):
        wait()
        start = time.perf_counter()
        for _ in range(count):
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=narrow):
                loss = functional.cross_entropy(called(**one).flatten(0, -2).float(), labels)
            loss.backward()
            optimizer.step()
        wait()
        return time.perf_counter() - start

    return train


if __name__ == "__main__":
    serve(prepared, PACKAGES, kind_of())
