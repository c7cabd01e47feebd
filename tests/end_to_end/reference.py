"""The models, their loss and the optimizers written once more in NumPy, from the papers and the recipe's docstrings.

Nothing here is shared with the rooms but the canonical names and the random bits. Every function computes in the
dtype of the weights it is given (float64, or longdouble for the multi-layer perceptron).
"""

import math

import numpy as np
from scipy.special import erf

from twinscale.common.numbers.bits import draw, fold_in, keep_below, key, name_word


def forward(recipe, weights, batch, number=None):
    """(logits, {name: running statistic after the pass}); training, with dropout, where `number` is the step."""
    call = {"decoder": decoder, "convnet": convnet, "mlp": mlp, "encoder": encoder,
            "resnet": resnet, "vit": vit}[recipe.model.family]
    moved = {}
    return call(recipe.model, weights, batch, dropout_of(recipe, batch, number), number is not None, moved), moved


def dropout_of(recipe, batch, number):
    """(place, x) -> x after dropout at a place."""
    rate = recipe.model.dropout
    if number is None or not rate:
        return lambda place, x: x

    def drop(place, x):
        stream = fold_in(fold_in(key(recipe.seed), number), name_word(place))
        bits = draw(stream, batch["row"], math.prod(x.shape[1:])).reshape(x.shape)
        return np.where(bits >> 9 < keep_below(rate), x / (1 - rate), 0)

    return drop


ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "swiglu": lambda x: x / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
}


def key_head(h, heads, kv_heads):
    """The key/value head that query head `h` reads."""
    return h // (heads // kv_heads)


def decoder(m, w, batch, drop, training, moved, key_head=key_head):
    def dense(name, x):
        return x @ w[f"{name}.kernel"] + w.get(f"{name}.bias", 0)

    def norm(name, x):
        if m.norm == "layer":
            x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + m.norm_epsilon) * w[f"{name}.scale"] + w.get(
            f"{name}.bias", 0)

    def rotated(x):  # B T D of one head
        half = x.shape[-1] // 2
        angle = batch["positions"][..., None] * m.rotary_base ** (-np.arange(half) / half)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)

    def attention(name, x):
        parts = {part: dense(f"{name}.{part}", x) for part in ("query", "key", "value")}
        T, D, mixed = x.shape[1], m.head_width, []
        allowed = np.tril(np.ones((T, T), bool))[None]
        if "segments" in batch:
            allowed = allowed & (batch["segments"][:, :, None] == batch["segments"][:, None, :])
        for h in range(m.heads):
            g = key_head(h, m.heads, m.kv)
            q, k, v = parts["query"][..., h * D:(h + 1) * D], *(
                parts[part][..., g * D:(g + 1) * D] for part in ("key", "value"))
            if m.positions == "rotary":
                q, k = rotated(q), rotated(k)
            scores = np.where(allowed, q @ k.swapaxes(1, 2) / math.sqrt(D), -np.inf)
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            mixed.append(shares / shares.sum(-1, keepdims=True) @ v)
        return dense(f"{name}.output", np.concatenate(mixed, -1))

    def feedforward(name, x):
        act = ACTIVATIONS[m.activation]
        up = dense(f"{name}.up", x)
        return dense(f"{name}.down", act(dense(f"{name}.gate", x)) * up if m.activation == "swiglu" else act(up))

    x = w["embedding.embedding"][batch["inputs"]]
    if m.positions == "learned":
        x = x + w["position.embedding"][batch["positions"]]
    x = drop("embedding.dropout", x)
    for i in range(m.layers):
        for part, layer, before in (("attention", attention, "norm_1"), ("feedforward", feedforward, "norm_2")):
            name = f"block_{i}.{part}"
            x = x + behind(m, w, name, drop(f"{name}.dropout", layer(name, norm(f"block_{i}.{before}", x))))
    return norm("norm", x) @ (w["embedding.embedding"].T if m.tied else w["head.kernel"])


def behind(m, w, name, x):
    """x after the bottleneck adapter (Houlsby et al. 2019) behind a part of a block, where the weights have one."""
    name = f"{name}.adapter"
    if f"{name}.up.kernel" not in w:
        return x
    inner = ACTIVATIONS[m.activation](x @ w[f"{name}.down.kernel"] + w[f"{name}.down.bias"])
    return x + inner @ w[f"{name}.up.kernel"] + w[f"{name}.up.bias"]


def normed(m, w, name, x):
    """Layer norm."""
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + m.norm_epsilon) * w[f"{name}.scale"] + w[f"{name}.bias"]


def blocks(m, w, x, drop, mask=None):
    """The blocks of an encoder or of a ViT; mask (B, S): 0 where padding is."""
    def dense(name, x):
        return x @ w[f"{name}.kernel"] + w[f"{name}.bias"]

    def norm(name, x):
        return normed(m, w, name, x)

    def attention(name, x):
        parts, D, mixed = {part: dense(f"{name}.{part}", x) for part in ("query", "key", "value")}, m.head_width, []
        for h in range(m.heads):
            q, k, v = (parts[part][..., h * D:(h + 1) * D] for part in ("query", "key", "value"))
            scores = q @ k.swapaxes(1, 2) / math.sqrt(D)
            scores = scores if mask is None else np.where(mask[:, None] == 1, scores, -np.inf)
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            mixed.append(shares / shares.sum(-1, keepdims=True) @ v)
        return behind(m, w, name, drop(f"{name}.dropout", dense(f"{name}.output", np.concatenate(mixed, -1))))

    def feedforward(name, x):
        y = dense(f"{name}.down", ACTIVATIONS[m.activation](dense(f"{name}.up", x)))
        return behind(m, w, name, drop(f"{name}.dropout", y))

    for block in (f"block_{i}" for i in range(m.layers)):
        if m.post:
            x = norm(f"{block}.norm_1", x + attention(f"{block}.attention", x))
            x = norm(f"{block}.norm_2", x + feedforward(f"{block}.feedforward", x))
        else:
            x = x + attention(f"{block}.attention", norm(f"{block}.norm_1", x))
            x = x + feedforward(f"{block}.feedforward", norm(f"{block}.norm_2", x))
    return x


def encoder(m, w, batch, drop, training, moved):
    def dense(name, x):
        return x @ w[f"{name}.kernel"] + w[f"{name}.bias"]

    ids = batch["ids"]
    x = w["embedding.embedding"][ids] + w["position.embedding"][m.first_position + np.arange(ids.shape[1])]
    x = x + w["token_type.embedding"][batch["types"]] if m.types else x
    x = drop("embedding.dropout", normed(m, w, "embedding_norm", x) if m.norm == "post" else x)
    x = blocks(m, w, x, drop, batch["mask"])
    x = x if m.norm == "post" else normed(m, w, "norm", x)
    if m.head == "masked":
        x = normed(m, w, "transform_norm", ACTIVATIONS[m.activation](dense("transform", x)))
        return x @ w["embedding.embedding"].T + w["head.bias"]
    if m.head == "embedding":
        x = (x * batch["mask"][..., None]).sum(1) / batch["mask"].sum(1, keepdims=True)
        return x / np.sqrt((x**2).sum(-1, keepdims=True))
    x = x[:, 0] if m.head in ("sequence", "next-sentence") else x
    x = np.tanh(dense("pooler", x)) if m.head == "sequence" and m.pooler or m.head == "next-sentence" else x
    return dense("head", x if m.head == "next-sentence" else drop("head.dropout", x))


def convolved(x, kernel, stride):
    """SAME convolution, HWIO; of an odd padding the greater half comes after."""
    size, (H, W) = kernel.shape[0], (-(-n // stride) for n in x.shape[1:3])
    pads = [max((out - 1) * stride + size - n, 0) for out, n in zip((H, W), x.shape[1:3], strict=True)]
    x = np.pad(x, ((0, 0), *((p // 2, p - p // 2) for p in pads), (0, 0)))
    return sum(x[:, i:i + H * stride:stride, j:j + W * stride:stride][:, :H, :W] @ kernel[i, j]
               for i in range(size) for j in range(size))


def convnet(m, w, batch, drop, training, moved):
    def norm(name, x):
        mean, var = w[f"{name}.mean"], w[f"{name}.var"]
        if training:
            seen = {"mean": x.mean((0, 1, 2)), "var": x.var((0, 1, 2))}
            for leaf, old in (("mean", mean), ("var", var)):
                moved[f"{name}.{leaf}"] = m.norm_momentum * old + (1 - m.norm_momentum) * seen[leaf]
            mean, var = seen["mean"], seen["var"]
        return (x - mean) / np.sqrt(var + m.norm_epsilon) * w[f"{name}.scale"] + w[f"{name}.bias"]

    def conv(name, x, stride=1):
        return convolved(x, w[f"{name}.kernel"], stride)

    relu = ACTIVATIONS["relu"]
    x = relu(norm("stem.norm", conv("stem.conv", batch["inputs"].astype(w["head.bias"].dtype))))
    for stage in range(len(m.channels)):
        for i in range(m.blocks):
            name, stride = f"stage_{stage}.block_{i}", 2 if stage and not i else 1
            y = relu(norm(f"{name}.norm_1", conv(f"{name}.conv_1", x, stride)))
            y = norm(f"{name}.norm_2", conv(f"{name}.conv_2", y))
            x = relu((conv(f"{name}.shortcut", x, stride) if f"{name}.shortcut.kernel" in w else x) + y)
    x = drop("pool.dropout", x.mean((1, 2)))
    return x @ w["head.kernel"] + w["head.bias"]


def mlp(m, w, batch, drop, training, moved):
    x = batch["inputs"].reshape(len(batch["inputs"]), -1).astype(w["head.bias"].dtype)
    for i in range(len(m.hidden)):
        x = drop(f"layer_{i}.dropout", ACTIVATIONS[m.activation](x @ w[f"layer_{i}.kernel"] + w[f"layer_{i}.bias"]))
    return x @ w["head.kernel"] + w["head.bias"]


def norm_of(conv):
    return "shortcut_norm" if conv == "shortcut" else conv.replace("conv", "norm")


def resnet(m, w, batch, drop, training, moved):
    def normed(above, name, x, stride=1):
        kernel, norm = w[f"{above}.{name}.kernel"], f"{above}.{norm_of(name)}"
        size, p = len(kernel), len(kernel) // 2
        x, (H, W) = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0))), (-(-n // stride) for n in x.shape[1:3])
        x = sum(x[:, i:, j:][:, ::stride, ::stride][:, :H, :W] @ kernel[i, j] for i in range(size) for j in range(size))
        mean, var = w[f"{norm}.mean"], w[f"{norm}.var"]
        if training:
            seen = {"mean": x.mean((0, 1, 2)), "var": x.var((0, 1, 2))}
            for leaf, old in (("mean", mean), ("var", var)):
                moved[f"{norm}.{leaf}"] = m.norm_momentum * old + (1 - m.norm_momentum) * seen[leaf]
            mean, var = seen["mean"], seen["var"]
        return (x - mean) / np.sqrt(var + m.norm_epsilon) * w[f"{norm}.scale"] + w[f"{norm}.bias"]

    relu = ACTIVATIONS["relu"]
    x = relu(normed("stem", "conv", batch["inputs"].astype(w["head.bias"].dtype), 2 if m.stem == "imagenet" else 1))
    if m.stem == "imagenet":
        H, W = (-(-n // 2) for n in x.shape[1:3])
        x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
        x = np.max([x[:, i:, j:][:, ::2, ::2][:, :H, :W] for i in range(3) for j in range(3)], 0)
    for stage, layers in enumerate(m.layers):
        for i in range(layers):
            name, stride = f"stage_{stage}.block_{i}", 2 if stage and not i else 1
            strides = (stride, 1) if m.block == "basic" else (1, stride, 1)
            y = x
            for number, by in enumerate(strides, 1):
                y = normed(name, f"conv_{number}", relu(y) if number > 1 else y, by)
            x = relu((normed(name, "shortcut", x, stride) if f"{name}.shortcut.kernel" in w else x) + y)
    return drop("pool.dropout", x.mean((1, 2))) @ w["head.kernel"] + w["head.bias"]


def vit(m, w, batch, drop, training, moved):
    x, P = batch["inputs"].astype(w["head.bias"].dtype), m.patch
    B, H, W, C = x.shape
    x = x.reshape(B, H // P, P, W // P, P, C).transpose(0, 1, 3, 2, 4, 5).reshape(B, -1, P * P * C)
    x = x @ w["patch.kernel"].reshape(P * P * C, -1) + w["patch_bias.bias"]
    x = np.concatenate([np.repeat(w["class_token.embedding"][None], B, 0), x], 1) + w["position.embedding"]
    x = blocks(m, w, drop("embedding.dropout", x), drop)
    x = normed(m, w, "norm", x)[:, 0]
    x = np.tanh(x @ w["pooler.kernel"] + w["pooler.bias"]) if m.pooler else x
    return drop("head.dropout", x) @ w["head.kernel"] + w["head.bias"]


# ---- loss

def losses(recipe, logits, labels):
    """The objective of every position: smoothed cross-entropy plus z_loss."""
    s, classes = recipe.train.label_smoothing, logits.shape[-1]
    top = logits.max(-1)
    total = top + np.log(np.exp(logits - top[..., None]).sum(-1))
    target = (1 - s) * np.eye(classes)[labels] + s / classes
    return (target * (total[..., None] - logits)).sum(-1) + recipe.train.z_loss * total**2


def loss(recipe, logits, batch):
    """The mean over weighted positions."""
    return (losses(recipe, logits, batch["labels"]) * batch["weights"]).sum() / batch["weights"].sum()


# ---- optimizers: the docstring of common.recipe.schema.Optimizer

def updated(o, rates, weights, updates):
    """{"weights/NAME", "m/NAME", "v/NAME", "ema/NAME"} after the updates; one {name: gradient} each."""
    w = {name: x.astype(np.float64) for name, x in weights.items()}
    m, v, a = ({name: np.zeros_like(x) for name, x in w.items()} for _ in range(3))
    a = {name: x.copy() for name, x in w.items()}
    for t, (lr, g) in enumerate(zip(rates, updates, strict=True), 1):
        norm = math.sqrt(math.fsum(float((x**2).sum()) for x in g.values()))
        share = min(1.0, o.clip_norm / norm) if o.clip_norm else 1.0
        for name in w:
            gradient = g[name] * share
            d = o.weight_decay if name.split(".")[-1] in ("kernel", "embedding") else 0.0
            if o.name in ("adamw", "lamb"):
                m[name] = o.beta1 * m[name] + (1 - o.beta1) * gradient
                v[name] = o.beta2 * v[name] + (1 - o.beta2) * gradient**2
                u = m[name] / (1 - o.beta1**t) / (np.sqrt(v[name] / (1 - o.beta2**t)) + o.epsilon) + d * w[name]
                if o.name == "lamb":
                    w_norm, u_norm = np.linalg.norm(w[name]), np.linalg.norm(u)
                    u = u * (w_norm / u_norm if w_norm > 0 and u_norm > 0 else 1.0)
            elif o.name == "sgd":
                m[name] = o.momentum * m[name] + gradient
                u = (gradient + o.momentum * m[name] if o.nesterov else m[name]) + d * w[name]
            else:
                u = np.sign(o.beta1 * m[name] + (1 - o.beta1) * gradient) + d * w[name]
                m[name] = o.beta2 * m[name] + (1 - o.beta2) * gradient
            w[name] = w[name] - lr * u
            a[name] = o.ema * a[name] + (1 - o.ema) * w[name]
    groups = {"weights": w}
    if o.name != "sgd" or o.momentum:
        groups["m"] = m
    if o.name in ("adamw", "lamb"):
        groups["v"] = v
    if o.ema:
        groups["ema"] = a
    return {f"{group}/{name}": x for group, tensors in groups.items() for name, x in tensors.items()}
