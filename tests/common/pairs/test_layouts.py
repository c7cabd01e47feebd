"""Layouts move elements, and the one that was meant is among those that are tried."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinscale.common.errors import BadInput
from twinscale.common.pairs.layouts import (
    cut,
    flattened,
    fused,
    imaged,
    layouts,
    shape_after,
    steps_of,
    text_of,
    turned,
    turned_among,
)

shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


def numbered(shape, first=0):
    return np.arange(first, first + np.prod(shape, dtype=int)).reshape(shape)


@given(shapes, st.permutations(range(4)))
def test_every_way_holds_each_element_once_and_all_ways_differ(shape, order):
    other = tuple(shape[i] for i in order if i < len(shape))
    x, made = numbered(shape), []
    for steps in layouts(shape, other):
        y = turned(steps, [x])
        assert y.shape == other == shape_after(steps, [shape]) and sorted(y.ravel()) == list(range(x.size))
        assert steps_of(text_of(steps)) == steps
        made.append(y.tobytes())
    assert made and len(set(made)) == len(made)
    assert x.transpose([i for i in order if i < len(shape)]).tobytes() in made


def test_the_likeliest_way_comes_first():
    assert layouts((3, 4), (3, 4))[0] == () and layouts((3, 4), (4, 3))[0] == (("transpose", 1, 0),)
    assert layouts((4, 4), (4, 4))[:2] == [(), (("transpose", 1, 0),)]
    assert layouts((8, 6), (8, 2, 3))[0] == (("reshape", 8, 2, 3),)
    assert layouts((3, 3, 3, 5), (5, 3, 3, 3))[0] == (("transpose", 3, 2, 0, 1),)
    assert layouts((5, 3, 3, 3), (3, 3, 3, 5))[0] == (("transpose", 2, 3, 1, 0),)
    x = numbered((8, 6))
    by_head = x.reshape(8, 2, 3).transpose(1, 0, 2)
    assert any((turned(steps, [x]) == by_head).all() for steps in layouts((8, 6), (2, 8, 3)))
    assert layouts((3, 4), (5, 4)) == [(("pad", 0, 2),)] and layouts((5, 4), (3, 4)) == [(("slice", 0, 0, 3),)]
    assert layouts((3, 4), (5, 5)) == [] and layouts((3,), (4, 4)) == []


def test_rows_of_a_flattened_image_are_put_in_the_other_order_of_axes():
    kernel = numbered((2 * 2 * 3, 5))
    wanted = kernel.reshape(2, 2, 3, 5).transpose(2, 0, 1, 3).reshape(12, 5)
    made = [turned(steps, [kernel]) for steps in flattened((12, 5), (12, 5), [3])]
    assert any((one == wanted).all() for one in made)
    back = [turned(steps, [wanted.T.T]) for steps in flattened((12, 5), (5, 12), [3])]
    assert any((one == kernel.T).all() for one in back)


def test_columns_and_a_bias_that_make_an_image_are_put_in_the_other_order_together():
    kernel, bias = numbered((5, 2 * 2 * 3)), numbered((12,), 100)
    wanted = kernel.reshape(5, 2, 2, 3).transpose(0, 3, 1, 2).reshape(5, 12)
    ways = dict(imaged((5, 12), (5, 12), [3]))
    image = next(image for image, steps in ways.items() if (turned(steps, [kernel]) == wanted).all())
    assert (turned(dict(imaged((5, 12), (12, 5), [3]))[image], [kernel]) == wanted.T).all()
    made = turned(dict(imaged((12,), (12,), [3]))[image], [bias])
    assert (made == bias.reshape(2, 2, 3).transpose(2, 0, 1).ravel()).all()
    back = [turned(steps, [wanted]) for _, steps in imaged((5, 12), (5, 12), [3])]
    assert any((one == kernel).all() for one in back)


@pytest.mark.parametrize("a, b", [((6, 6), (6, 6)), ((6, 2, 3), (6, 6)), ((2, 3, 6), (6, 6)), ((6, 6), (6, 2, 3))])
def test_which_way_turns_a_matrix_is_known_also_where_heads_are_axes(a, b):
    x, ways = numbered(a), layouts(a, b)
    made = turned(ways[turned_among(ways, a, b)], [x])
    flat = x.reshape(6, 6) if len(b) == 2 else x
    assert (made == flat.T.reshape(b)).all()
    assert turned_among(layouts((3,), (3,)), (3,), (3,)) is None


def test_ways_of_a_large_tensor_are_told_apart_by_some_of_its_elements():
    ways = layouts((3, 3, 512, 512), (512, 512, 3, 3))
    assert len(ways) == len(layouts((3, 3, 4, 4), (4, 4, 3, 3))) and len(set(ways)) == len(ways) > 3


@pytest.mark.parametrize("shape, order", [((3, 4, 2, 3), (1, 0, 2, 3)), ((4, 3, 2, 3), (0, 1, 2, 3)),
                                          ((4, 2, 3, 3), (0, 2, 1, 3))])
def test_three_kernels_by_an_axis_of_their_own(shape, order):
    """`order` puts the axes of `whole` as (inputs, three, heads, size)."""
    parts = [numbered((4, 2, 3), 100 * i) for i in range(3)]
    whole = np.stack(parts, 1).transpose(np.argsort(order))
    assert whole.shape == shape
    assert any((turned(steps, parts) == whole).all() for _, steps in fused([(4, 2, 3)] * 3, shape, [2]))
    assert any(all((turned(steps, [whole]) == x).all() for steps, x in zip(ways, parts, strict=True))
               for _, ways in cut(shape, [(4, 2, 3)] * 3, [2]))


@pytest.mark.parametrize("lie", ["in a row", "in columns", "by head", "heads in three dimensions"])
def test_three_in_one_and_one_in_three_are_each_others_inverse(lie):
    parts = [numbered((4, 6), 100 * i) for i in range(3)]
    whole = {"in a row": np.concatenate(parts, 1), "in columns": np.concatenate(parts, 1).T,
             "by head": np.concatenate([x.reshape(4, 2, 3) for x in parts], 2).reshape(4, 18),
             "heads in three dimensions": np.concatenate([x.reshape(4, 2, 3) for x in parts], 2)}[lie]
    one = [turned(steps, parts) for _, steps in fused([x.shape for x in parts], whole.shape, [2])]
    assert any(x.shape == whole.shape and (x == whole).all() for x in one)
    if whole.ndim == 2:
        three = [[turned(steps, [whole]) for steps in ways]
                 for _, ways in cut(whole.shape, [x.shape for x in parts], [2])]
        assert any(all((x == y).all() for x, y in zip(found, parts, strict=True)) for found in three)


def test_vectors_of_three_lie_side_by_side_or_by_head():
    parts = [numbered((6,), 100 * i) for i in range(3)]
    for whole in (np.concatenate(parts), np.concatenate([x.reshape(2, 3) for x in parts], 1).ravel()):
        assert any((turned(steps, parts) == whole).all() for _, steps in fused([(6,)] * 3, (18,), [2]))
        assert any(all((turned(steps, [whole]) == x).all() for steps, x in zip(ways, parts, strict=True))
                   for _, ways in cut((18,), [(6,)] * 3, [2]))


def test_keys_that_are_fewer_than_queries_lie_beside_them():
    parts = [numbered((4, 8)), numbered((4, 2), 50), numbered((4, 2), 90)]
    whole = np.concatenate(parts, 1)
    assert any((turned(steps, parts) == whole).all() for _, steps in fused([x.shape for x in parts], (4, 12), [2]))


@pytest.mark.parametrize("text, said", [("turn 1 0", "no step is called turn"), ("slice 0 1", "takes 3 integers"),
                                        ("reshape x", "takes integers")])
def test_a_text_that_is_no_step_says_what_is_wrong(text, said):
    with pytest.raises(BadInput, match=said):
        steps_of(text)


@pytest.mark.parametrize("steps", [(("reshape", 5),), (("slice", 0, 0, 9),), (("transpose", 2, 0),), (("join", 4),)])
def test_a_step_that_does_not_fit_says_so(steps):
    with pytest.raises(BadInput, match=steps[0][0]):
        turned(steps, [np.zeros((3, 2))])
