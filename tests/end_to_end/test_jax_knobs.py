"""What JAX can be told of a step, in precisions that round: it changes no more than a twin does."""

import math

import numpy as np
import pytest

from twinscale.common.data import held_out_batches
from twinscale.common.errors import BadInput
from twinscale.common.numbers.formats import EPS, MASTERS, walk
from twinscale.common.training.loop import DITHER

pytestmark = pytest.mark.usefixtures("hurried")

MODEL = {"layers": 1, "width": 16, "heads": 4, "kv_heads": 2, "dropout": 0.25, "positions": "rotary", "norm": "rms",
         "activation": "swiglu", "tied": False}
KNOBS = [({}, {"fused": True, "loss_chunks": 4}),
         ({"tensor": 2, "sequence": 2}, {"fused": True, "loss_chunks": 2, "attention": "ring"})]


def decoder(recipe_of, precision, **sections):
    return recipe_of("decoder", model=MODEL, **sections | {"train": {"precision": precision}})


@pytest.fixture(scope="module")
def plain(open_room, recipe_of):
    """plain(precision): ({name: tensor} of a step, {name: how far a twin's first weights move it, or a sum over all
    positions in another order would, where that is more})."""
    known = {}

    def compute(precision):
        if precision not in known:
            with open_room("jaxscale", decoder(recipe_of, precision)) as opened:
                tensors = opened.room.make_step_tensors(opened.recipe, opened.state, opened.devices)
                dithered = opened.room.new_state(opened.recipe, opened.dataset, opened.devices, DITHER[precision],
                                                 opened.state)
                one, twin = (tensors(state, 0, opened.batch()) for state in (opened.state, dithered))
                least = walk(128) * EPS[MASTERS[precision]]
                known[precision] = one, {name: max(np.abs(twin[name] - x).max(), least * np.abs(x).max())
                                         for name, x in one.items()}
        return known[precision]

    return compute


@pytest.mark.parametrize("precision, mesh, how", [
    pytest.param("float32", *KNOBS[0], marks=pytest.mark.slow), ("bfloat16", *KNOBS[0]), ("float32", *KNOBS[1]),
    ("bfloat16", *KNOBS[1])])
def test_a_gradient_is_no_further_off_than_a_twins(open_room, recipe_of, plain, precision, mesh, how):
    """By the factor that P2 and P5 have."""
    wanted, noise = plain(precision)
    with open_room("jaxscale", decoder(recipe_of, precision, devices=mesh, jax=how)) as opened:
        found = opened.tensors()
    assert found.keys() == wanted.keys() and any((found[name] != x).any() for name, x in wanted.items())
    far = {name: np.abs(found[name] - x).max() / noise[name] for name, x in wanted.items()}
    assert max(far.values()) <= 4, far


@pytest.mark.parametrize("precision", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"])
def test_slots_that_are_shared_and_rest_in_the_hosts_memory_are_a_twins_at_most(open_room, recipe_of, precision):
    def trained(dither=0.0, **sections):
        recipe = decoder(recipe_of, precision, optimizer={"ema": 0.9}, **sections)
        with open_room("jaxscale", recipe) as opened:
            state = opened.room.new_state(recipe, opened.dataset, opened.devices, dither, opened.state)
            step = opened.room.make_step(recipe, state, opened.devices)
            return opened.room.state_tensors(step(state, 0, opened.batch())[0])

    one, twin = trained(), trained(DITHER[precision])
    found = trained(devices={"data": 2, "fsdp": 2}, jax={"shard_optimizer": True, "offload_optimizer": True})
    assert found.keys() == one.keys() and {name.partition("/")[0] for name in one} == {"weights", "m", "v", "ema"}
    slots = [name for name in one if name.startswith(("m/", "v/"))]
    assert any((found[name] != one[name]).any() for name in slots)
    assert all(np.abs(found[name] - one[name]).max() <= 4 * np.abs(twin[name] - one[name]).max() for name in slots)


# ---- evaluation in chunks


def measured(open_room, recipe):
    """(sums, [what is predicted of each batch], the lowered text, |the head|) of the held-out rows, of which the last
    batch is padded and some weigh nothing."""
    from twinscale.jaxscale.devices_arrays import place

    with open_room("jaxscale", recipe) as opened:
        kept, batches = [], list(held_out_batches(opened.dataset, 8))
        assert len(batches) > 1 and not batches[-1]["weights"][-1].any() and 0 < batches[0]["weights"].mean() < 1
        evaluate = opened.room.make_evaluate(recipe, opened.state, opened.devices)
        sums = evaluate(opened.state, batches, keep=kept.append)
        compiled = next(cell.cell_contents for cell in evaluate.__closure__ if hasattr(cell.cell_contents, "lower"))
        text = compiled.lower(opened.state, place(opened.devices, batches[0])).as_text()
        table = np.abs(opened.weights()["head.kernel"]).astype(np.float64)
        return sums, kept, text, table


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_an_evaluation_in_chunks_says_what_a_whole_one_does(open_room, recipe_of, precision):
    """A logit is a product of D terms, of what an RMS norm has made sqrt(D) long: |x| |column| at most, off by 2 D eps
    of that in the sums and by eps of the precision where its rounding falls otherwise. A position's loss is off by
    twice as much, and by 8 eps of its own sums; N positions add N eps of their sum."""
    train = {"metrics": ["top-3", "calibration-15"]}
    whole, chunks = (recipe_of("decoder", model=MODEL, jax={"loss_chunks": count}, optimizer={"ema": 0.9},
                               train=train | {"precision": precision}) for count in (1, 4))
    (sums, rows, text, table), (parts, their_rows, their_text, _) = (
        measured(open_room, recipe) for recipe in (whole, chunks))
    width, classes = table.shape
    assert f"8x16x{classes}" in text and f"8x16x{classes}" not in their_text and f"8x4x{classes}" in their_text
    wide = "float32" if precision == "bfloat16" else "float64"
    largest = math.sqrt(width) * np.sqrt((table**2).sum(0)).max()
    each = 2 * largest * (EPS[precision] + 2 * width * EPS[wide]) + 8 * EPS[wide] * (largest + math.log(classes))
    count = sums["weight"]
    assert parts.keys() == sums.keys() and parts["weight"] == count
    assert abs(parts["loss"] - sums["loss"]) <= count * each + count * EPS[wide] * sums["loss"]
    assert abs(parts["correct"] - sums["correct"]) <= sums["near"]
    for one, other in zip(rows, their_rows, strict=True):
        assert one["loss"].shape == other["loss"].shape == (8, 16) and len(np.unique(one["loss"])) > 64
        assert np.abs(one["loss"] - other["loss"]).max() <= each + 2.0**-23 * np.abs(one["loss"]).max()


def test_what_does_not_judge_each_position_by_itself_is_not_cut(open_room, recipe_of, tmp_path, trusting):
    """A metric of somebody's own has whole rows unless it says otherwise; the probe goes by where a position is."""
    (tmp_path / "mine.py").write_text(
        "from twinscale.common.metrics import Metric\n"
        "MINE = Metric('mine', lambda xp, logits, labels, weights: {'width': xp.sum(weights) * 0 + logits.shape[-2]},\n"
        "              lambda sums: {'width': sums['width']})\n")
    recipe = recipe_of("decoder", model=MODEL, jax={"loss_chunks": 4},
                       train={"metrics": [f"{tmp_path}/mine.py:MINE"], "global_batch": 8})
    with open_room("jaxscale", recipe) as opened:
        evaluate = opened.room.make_evaluate(recipe, opened.state, opened.devices)
        assert evaluate(opened.state, [opened.batch()])["mine.width"] == 16
    probe = recipe_of("decoder", model=MODEL, jax={"loss_chunks": 4}, objective={"name": "probe"})
    with pytest.raises(BadInput, match='loss_chunks=4: objective.name="probe" may go by where'), \
            open_room("jaxscale", probe) as opened:
        opened.room.make_step(probe, opened.state, opened.devices)
