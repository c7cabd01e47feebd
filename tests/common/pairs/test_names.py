"""Which tensors are one another's by names alone: kinds of modules first, members by the rank of their blocks."""

import pytest

from twinscale.common.pairs.names import blocks_of, matched_by_names, modules_of, part_of, ranks_of, signature, sizes_of
from twinscale.common.pairs.tensors import Tensor


def tensors_of(shapes):
    return [Tensor(name, shape) for name, shape in shapes.items()]


def pairs(a, b, **by):
    parts, left_a, left_b = matched_by_names(tensors_of(a), tensors_of(b), **by)
    assert not left_a and not left_b
    return {line.b: line.a for part in parts for line in part.options[0]}


def dense(*names, leaves=("kernel", "bias")):
    return {f"{name}/{leaf}": shape for name in names for leaf, shape in zip(leaves, ((6, 6), (6,)), strict=True)}


def test_words_that_all_kinds_share_say_nothing():
    """By all words, the output of attention is liker to a query of attention than to an output."""
    a = dense(*(f"layer_{i}/self_attention/{name}" for i in range(3)
                for name in ("query", "value", "attention_output")))
    b = dense(*(f"encoder/layer/{i}/attention/{name}" for i in (2, 0, 1)
                for name in ("output/dense", "self/value", "self/query")))
    found = pairs(a, b)
    assert found["encoder/layer/2/attention/output/dense/bias"] == ("layer_2/self_attention/attention_output/bias",)
    assert found["encoder/layer/0/attention/self/query/kernel"] == ("layer_0/self_attention/query/kernel",)


def test_blocks_go_by_rank_whatever_number_is_the_first():
    found = pairs(dense("block_1/fc", "block_2/fc", "block_10/fc"), dense("h/0/fc", "h/5/fc", "h/7/fc"))
    assert found["h/7/fc/kernel"] == ("block_10/fc/kernel",) and found["h/5/fc/bias"] == ("block_2/fc/bias",)


@pytest.mark.parametrize("listed", ["as they are made", "sorted as text"])
def test_modules_that_are_only_counted_go_by_their_order(listed):
    a = dense(*(f"layer_{i}/{name}" for i in range(6) for name in ("query", "out")))
    names = [f"Dense_{i}" for i in range(12)]
    found = pairs(a, dense(*(names if listed == "as they are made" else sorted(names))))
    assert found["Dense_10/kernel"] == ("layer_5/query/kernel",) and found["Dense_3/bias"] == ("layer_1/out/bias",)
    back = pairs(dense("dense", *(f"dense_{i}" for i in range(1, 12))), a)
    assert back["layer_5/query/kernel"] == ("dense_10/kernel",) and back["layer_0/query/bias"] == ("dense/bias",)


def test_order_alone_may_be_asked_for():
    a, b = dense("value", "query"), dense("query", "value")
    assert pairs(a, b)["query/bias"] == ("query/bias",)
    assert pairs(a, b, by_order=True)["query/bias"] == ("value/bias",)


def test_queries_keys_and_values_are_called_so_before_sizes_are_looked_at():
    """All four are of one size; the output is not one of the three."""
    a = {f"attn_{name}_{leaf}": shape for name in ("k", "o", "q", "v") for leaf, shape in (("w", (6, 6)), ("b", (6,)))}
    found = pairs(a, {"qkv/w": (6, 18), "qkv/b": (18,), "fc/w": (6, 6), "fc/b": (6,)})
    assert found["qkv/w"] == ("attn_q_w", "attn_k_w", "attn_v_w") and found["fc/b"] == ("attn_o_b",)


def test_keys_and_values_in_one_tensor_leave_the_query_alone():
    a = dense("attn/q", "attn/k", "attn/v")
    found = pairs(a, {**dense("att/query"), "att/kv/kernel": (6, 12), "att/kv/bias": (12,)})
    assert found["att/kv/kernel"] == ("attn/k/kernel", "attn/v/kernel")


def test_modules_and_their_sizes():
    modules = modules_of(tensors_of({"ln_1_g": (4,), "ln_1_b": (4,), "fc/w": (4, 2), "fc/b": (2,)}))
    assert {name: list(module) for name, module in modules.items()} == {"ln_1": ["scale", "bias"],
                                                                        "fc": ["kernel", "bias"]}
    assert signature(modules["fc"]) == (("bias", 2), ("kernel", 8))
    assert blocks_of(["dense", "dense_1", "norm"]) == {"dense": ("dense_#", 0), "dense_1": ("dense_#", 1),
                                                       "norm": ("norm", 0)}
    assert ranks_of(["h/3", "h/5", "x"]) == {"h/3": (0, 2, 0.0), "h/5": (1, 2, 0.5), "x": (0, 1, 1.0)}


def test_a_part_knows_which_of_its_ways_turns_and_which_makes_an_image():
    a = tensors_of({"d/kernel": (6, 12), "d/bias": (12,), "c/kernel": (3, 3, 3, 5)})
    sizes = sizes_of(a, a)
    assert 3 in sizes.channels and sizes.outputs == {12}
    part = part_of(a[1], a[1], sizes)
    assert part.images[0] is None and len(part.images) == len(part.options) > 1 and part.images[1][0] == (2, 2, 3)
    square = part_of(Tensor("x/kernel", (6, 2, 3)), Tensor("y/w", (6, 6)), sizes)
    assert square.turned and not part_of(Tensor("x/kernel", (6, 5)), Tensor("y/kernel", (4, 4)), sizes).options


def test_layers_that_are_numbered_through_all_blocks_are_counted_anew_in_each():
    a = [Tensor(path, (4,)) for path in (
        "block_0/norm/gamma", "block_0/norm_1/gamma", "block_1/norm_2/gamma", "block_1/norm_3/gamma", "last/gamma")]
    b = [Tensor(path, (4,)) for path in ("h/0/ln_1/g", "h/0/ln_2/g", "h/1/ln_1/g", "h/1/ln_2/g", "ln_f/g")]
    parts, left_a, left_b = matched_by_names(a, b)
    assert {part.b[0]: part.a[0] for part in parts} == dict(zip(
        (one.path for one in b), (one.path for one in a), strict=True)) and not (left_a or left_b)
