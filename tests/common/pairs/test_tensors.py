"""What a path says of a tensor, and how alike two paths are."""

import pytest

from twinscale.common.pairs.tensors import Tensor, block_of, likeness, words


@pytest.mark.parametrize("path, shape, role", [
    ("dense/kernel", (3, 4), "kernel"), ("conv/w", (3, 3, 1, 4), "kernel"), ("ln/gamma", (4,), "scale"),
    ("ln/weight", (4,), "scale"), ("lin/weight", (4, 3), "kernel"), ("bn/moving_variance", (4,), "var"),
    ("tok/embeddings", (9, 4), "embedding"), ("positions", (6, 4), "kernel"), ("shift", (4,), "bias")])
def test_a_role_is_told_by_the_name_and_else_by_the_rank(path, shape, role):
    assert Tensor(path, shape).role == role


@pytest.mark.parametrize("path, found", [
    ("layers/3/attn/kernel", ("layers/#/attn/kernel", 3)), ("dense_1/kernel", ("dense_#/kernel", 1)),
    ("l10_ln_1_b", ("l#_ln_1_b", 10)),
    ("block_2/fc1/w", ("block_#/fc1/w", 2)), ("conv2d/kernel", ("conv2d/kernel", 0)), ("head/bias", ("head/bias", 0))])
def test_a_block_is_the_first_number_that_is_a_word(path, found):
    assert block_of(path) == found


@pytest.mark.parametrize("path, shape, home, role", [
    ("h/3/attn_qkv_w", (3, 4, 2, 2), "h/3/attn_qkv", "kernel"), ("attn_qkv_b", (3, 2, 2), "attn_qkv", "bias"),
    ("ln_1_g", (4,), "ln_1", "scale"), ("in_proj_weight", (12, 4), "in_proj", "kernel"), ("w1", (2, 3), "1", "kernel"),
    ("bn_running_var", (4,), "bn", "var"), ("self_attn/b_q", (4,), "self_attn/q", "bias"),
    ("wte", (9, 4), "", "kernel"), ("dense/kernel", (2, 3), "dense", "kernel"),
    ("position_bias", (8, 2), "", "kernel")])
def test_words_of_a_flat_name_are_a_module_and_a_role(path, shape, home, role):
    assert (Tensor(path, shape).home, Tensor(path, shape).role) == (home, role)


def test_different_hands_words_for_one_thing_are_alike():
    assert words("transformer/h/0/attn/c_proj") == ("transformer", "h", "attention", "output")
    for keras, flax, other in (("self_attention/query", "attn/q", "attn/k"), ("layer_norm", "ln", "fc"),
                               ("token_embedding", "wte", "wpe"), ("mlp/up", "ffn/fc1", "ffn/fc2")):
        assert likeness(keras, flax) > likeness(keras, other), (keras, flax)
    assert likeness("a/dense", "a/dense") == 2 and likeness("", "dense") == 0
