"""The encoder: its tensors, what it reads, and what it refuses to read."""

import math

import numpy as np
import pytest

from twinscale.common.data import open_dataset
from twinscale.common.data.arrays import with_labels
from twinscale.common.data.batches import input_specs
from twinscale.common.errors import BadInput
from twinscale.common.families.encoder import Encoder, check, drawn, outputs_of, rows_of, stress
from twinscale.common.families.parameters import parameters, trained_size
from twinscale.common.families.places import places
from twinscale.common.machine.flops import forward_flops
from twinscale.common.objectives import CROSS_ENTROPY, PROBE, SQUARED_ERROR
from twinscale.common.recipe.schema import Recipe

BERT = {"layers": 12, "width": 768, "heads": 12, "types": 2}
SMALL = {"layers": 1, "width": 8, "heads": 2, "vocabulary": 30, "positions": 6, "types": 2}


def encoder(**values):
    return Encoder(family="encoder", **{**SMALL, **values})


def shape_of(m, length=6):
    names = {"ids": (length,), "labels": (), "mask": (length,), "weights": ()} | {
        name: (length,) for name in ("types",) if m.types}
    return tuple((name, shape, "int32") for name, shape in sorted(names.items()))


def rows(**more):
    ids = np.arange(24, dtype=np.int32).reshape(4, 6)
    return {"ids": ids, "mask": np.ones_like(ids), "types": ids % 2, "labels": ids % 3, **more}


def test_berts_base_has_the_size_that_it_is_known_by():
    """109,482,240 with its pooler and without a head (Devlin et al. 2019: 110M)."""
    m = Encoder(family="encoder", head="sequence", **BERT)
    tree = parameters(m, 2, shape_of(m))
    head = sum(math.prod(p.shape) for name, p in tree.items() if name.startswith("head."))
    assert trained_size(tree) - head == 109_482_240 and head == 2 * 768 + 2


@pytest.mark.parametrize("values", [
    {}, {"norm": "pre", "types": 0}, {"head": "sequence", "dropout": 0.1}, {"head": "sequence", "pooler": False},
    {"head": "masked"}, {"head": "embedding", "layers": 2}])
def test_every_tensor_is_at_a_place_and_every_place_with_tensors_holds_some(values):
    m = encoder(**values)
    tree = parameters(m, 3, shape_of(m))
    held = {place.holds for place in places(m).values()}
    assert {name.rpartition(".")[0] for name in tree} <= held
    assert "token_type.embedding" in tree if m.types else "token_type.embedding" not in tree
    assert any("dropout" in name for name in places(m)) == bool(m.dropout)


def test_products_are_counted_at_each_position_and_after_pooling_once():
    m, d, hidden, length = encoder(head="sequence"), 8, 32, 6
    block = length * (4 * d * d + 2 * d * hidden) * 2 + 4 * d * length * length
    assert forward_flops(m, 3, shape_of(m)) == block + 2 * (d * d + d * 3)
    assert forward_flops(encoder(head="masked"), 3, shape_of(m)) == block + 2 * length * (d * d + d * 30)


def test_a_batch_has_more_than_a_model_reads():
    values = {"name": "x", "data": {"source": "random", "held_out": 0.2, "inputs": rows_of(encoder())},
              "model": {"family": "encoder", **SMALL, "types": 0}}
    recipe = Recipe.model_validate(values)
    shape = open_dataset(recipe).example_shape
    assert {name for name, _, _ in shape} == {"ids", "labels", "mask", "types", "weights"}
    assert input_specs(recipe, shape) == {"ids": ((None, 6), "int32"), "mask": ((None, 6), "int32")}


def test_outputs_are_those_of_the_data_unless_said():
    assert [outputs_of(encoder(), 3), outputs_of(encoder(outputs=5), 3), outputs_of(encoder(), 0)] == [3, 5, 1]
    assert [outputs_of(encoder(head=head), 3) for head in ("masked", "embedding")] == [30, 8]


@pytest.mark.parametrize(("values", "more", "said"), [
    ({}, {"ids": None}, 'x: has no array "ids", which model.family = "encoder" reads: give ids, mask, types of'),
    ({}, {"types": None}, 'no array "types".*or set model.types = 0'),
    ({}, {"mask": np.ones((4, 5), np.int32)}, r"x: mask: is int32 of \(4, 5\): whole numbers of \(rows, tokens\)"),
    ({}, {"mask": np.ones((4, 6), np.float32)}, "x: mask: is float32"),
    ({"positions": 5}, {}, "x: ids: 6 tokens a row are more than the table of model.positions=5 has: cut the rows"),
    ({"first_position": 2}, {}, "model.positions=6 has from row 2 on"),
    ({"vocabulary": 20}, {}, "x: ids: holds 20 in row 3, but the table of model.vocabulary=20 has rows 0 to 19: the "
                             "vocabulary is another one's, or model.vocabulary has to be 24 or more"),
    ({}, {"types": np.full((4, 6), 2, np.int32)}, "x: types: holds 2 in row 0, but the table of model.types=2"),
    ({}, {"mask": np.full((4, 6), 2, np.int32)}, "x: mask: holds others than 0 and 1"),
    ({}, {"mask": np.repeat([[1], [0], [1], [0]], 6, 1)}, "x: mask: row 1 is padding alone: leave out the 2 rows"),
    ({}, {"labels": np.zeros(4, np.int32)}, r'labels: are of \(4,\), but model.head = "tokens" wants \(4, 6\): a label '
                                            "for each token"),
    ({"head": "sequence"}, {}, r"wants \(4,\): a label for each row"),
    ({"head": "next-sentence"}, {"labels": np.array([0, 2, 1, 0], np.int32)}, "has the classes 0, a text that follows"),
    ({"outputs": 2}, {}, "labels: go up to 2, but model.outputs=2: raise it"),
    ({"head": "masked"}, {"labels": np.full((4, 6), 30, np.int32)}, "labels: go up to 30, but model.vocabulary=30"),
    ({"head": "embedding"}, {"labels": np.zeros(4, np.int32)}, 'model.head = "embedding": gives a vector of each row')])
def test_rows_that_are_none_of_an_encoders_are_refused_by_the_array(values, more, said):
    found = {name: x for name, x in rows(**more).items() if x is not None}
    with pytest.raises(BadInput, match=said):
        check(encoder(**values), with_labels(found, CROSS_ENTROPY, "x")[0], CROSS_ENTROPY, "x")


@pytest.mark.parametrize(("outputs", "labels", "said"), [
    (2, np.zeros((4, 3), np.float32), r"gives 2 of \(4,\): set model.outputs = 3"),
    (2, np.zeros(4, np.float32), "set model.outputs = 1")])
def test_numbers_to_be_met_are_as_many_as_outputs(outputs, labels, said):
    found = with_labels(rows(labels=labels), SQUARED_ERROR, "x")[0]
    with pytest.raises(BadInput, match=said):
        check(encoder(head="sequence", outputs=outputs), found, SQUARED_ERROR, "x")
    check(encoder(head="sequence", outputs=labels.shape[1] if labels.ndim > 1 else 0), found, SQUARED_ERROR, "x")


def test_what_fits_passes_and_who_reads_no_labels_is_not_asked_for_them():
    check(encoder(), with_labels(rows(), CROSS_ENTROPY, "x")[0], CROSS_ENTROPY, "x")
    check(encoder(head="embedding"), with_labels(rows(), PROBE, "x")[0], PROBE, "x")


@pytest.mark.parametrize("head", ["tokens", "sequence", "masked"])
def test_a_stress_batch_has_ids_at_their_ends_single_tokens_and_holes(head):
    m, many = encoder(head=head), 8
    labels = np.ones((many, 6) if head != "sequence" else many, np.int32)
    batch = {"ids": np.ones((many, 6), np.int32), "mask": np.ones((many, 6), np.int32),
             "types": np.zeros((many, 6), np.int32), "labels": labels, "weights": np.ones(labels.shape, np.float32)}
    found = batch | stress(m, batch, 3, np.random.default_rng(0))
    check(m, found, CROSS_ENTROPY, "x")
    assert set(found["ids"][0]) == {0, 29} and found["mask"].sum(1)[1::4].tolist() == [1, 1]
    holes = found["mask"][2::4]
    assert holes.any(1).all() and (np.diff(holes, axis=1) > 0).any()  # padding before tokens
    assert not found["weights"][2::4].any() and found["weights"].any()
    assert len(np.unique(found["ids"][found["mask"] == 0])) > 3
    assert {0, 2} <= set(found["labels"].reshape(-1))


def test_drawn_options_are_those_of_a_model_whose_rows_it_reads():
    picked = np.random.default_rng(0)
    for _ in range(30):
        m = Encoder(family="encoder", **drawn(lambda *values: values[int(picked.integers(len(values)))]))
        recipe = Recipe.model_validate({"name": "x", "data": {"source": "random", "inputs": rows_of(m),
                                                              "held_out": 0.2}, "model": m.model_dump()})
        assert open_dataset(recipe).classes == (3 if m.head != "masked" else m.vocabulary)
