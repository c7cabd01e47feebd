"""Loss curves of anybody's training, in the forms that people have; and what is wrong with them, in one line."""

import json

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.foreign import curves
from twinscale.common.foreign.curves import is_foreign, read_curve


def put(path, text, name="theirs"):
    (path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return path / name


def points(curve):
    return list(zip(curve.steps.tolist(), curve.losses.tolist(), strict=True))


@pytest.mark.parametrize("text, form", [
    ("step,loss\n0,2.5\n3,2\n", "CSV"), ("\ufeffepoch;accuracy;Train Loss\r\n0;.5;2.5\r\n3;.5;2\r\n", "CSV"),
    ("Wall time\tStep\tValue\n1.5\t0\t2.5\n1.6\t3\t2.0\n", "CSV"),
    ("epoch,step,train_loss,val_loss\n0,0,2.5,\n0,1,,3\n\n0,3,2e0,\n", "CSV"),
    ('{"lr": 0.1}\n{"step": 0, "loss": 2.5}\n{"step": 1, "eval_loss": 3}\n{"step": 3.0, "loss": 2}\n', "JSON lines"),
    ('\n{"global_step": 0, "train/loss": 2.5, "loss": 9}\n{"global_step": 3, "train/loss": 2}', "JSON lines")])
def test_usual_names_are_found_whatever_the_file_is_called(tmp_path, text, form):
    curve = read_curve(put(tmp_path, text))
    assert curve.form == form and points(curve) == [(0, 2.5), (3, 2.0)]


def test_what_keras_writes_is_read(tmp_path):
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    found = model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=3, verbose=0, callbacks=[log]).history["loss"]
    assert points(read_curve(tmp_path / "log.csv")) == list(enumerate(found))


def test_a_training_that_was_started_again_holds_from_its_first_step_on(tmp_path):
    from tensorboardX import SummaryWriter

    for number, (start, loss) in enumerate(((0, 1.0), (2, 3.0))):
        with SummaryWriter(str(tmp_path), filename_suffix=str(number)) as writer:
            for step in range(start, start + 4):
                writer.add_scalar("loss", loss, step)
    first, second = sorted(tmp_path.glob("*tfevents*"))
    if not str(first).endswith("0"):
        first, second = second, first
    first.rename(tmp_path / "a.tfevents"), second.rename(tmp_path / "b.tfevents")
    assert points(read_curve(tmp_path)) == [(0, 1.0), (1, 1.0), (2, 3.0), (3, 3.0), (4, 3.0), (5, 3.0)]
    assert len(read_curve(tmp_path / "a.tfevents").steps) == 4
    with pytest.raises(BadInput, match="--loss-column nll: there is no such tag; there are loss"):
        read_curve(tmp_path, loss="nll")


def test_names_that_are_given_are_taken(tmp_path):
    path = put(tmp_path, "step,t,loss,nll\n0,5,2.5,1\n1,7,2,0.5\n")
    curve = read_curve(path, "t", "nll")
    assert points(curve) == [(5, 1.0), (7, 0.5)] and (curve.step, curve.loss) == ("t", "nll")


@pytest.mark.parametrize("text, said", [
    ("", "is empty; a CSV with a header"), (b"\x89PNG\0\0\0\0abcdefg", "not text, and no events of TensorBoard"),
    ("step,nll\n0,1\n", "no column is called as a loss usually is; there are step, nll: say by --loss-column"),
    ("time,loss\n0,1\n", "no column is called as a step usually is; there are time, loss: say by --step-column"),
    ("loss\n1\n", 'line 1: "loss": a header with two columns or more'),
    ("step,loss,loss\n", 'line 1: the column "loss" is there twice; rename one'),
    ("step,loss\n", "holds no loss"), ("step,loss\n0,2\n1,NaN\n", 'line 3: loss = "NaN" at step 1: not finite'),
    ("step,loss\n0,inf\n", 'line 2: loss = "inf" at step 0: not finite'),
    ("step,loss\n0,2\n1,x\n", 'line 3: loss = "x": a number is wanted'),
    ("step,loss\n0,2\n0,1\n", "line 3: step = 0 after 0: steps have to increase"),
    ("step,loss\n3,2\n1,1\n", "line 3: step = 1 after 3: steps have to increase"),
    ("step,loss\n0.5,2\n", 'line 2: step = "0.5": a whole number'), ("step,loss\n-1,2\n", 'step = "-1": a whole'),
    ("step,loss\n1,2,3\n", "line 2: 3 cells, but the header has 2"),
    ("step,loss\n0,2\n" + "1" * 200_000 + ",1\n", "line 3: "),  # how long a cell may be, a process decides
    ("step,loss\n0,2\n" + "1" * (1 << 21) + ",1\n", "line 3: longer than 1,048,576 bytes"),
    (b"step,loss\n0,2\n\xff,1\n", "line 3: not UTF-8 text"), (b"step,loss\n" + b"0,2\n" * 0 + b"1\0,1\n", "not text"),
    ('{"step": 0, "loss": 2}\n{"step": 1, "loss": NaN}\n', "line 2: loss = nan at step 1: not finite"),
    ('{"step": 0, "loss": 2}\n{"step": 1, "loss": null}\n', "line 2: loss = null: a number is wanted"),
    ('{"step": 0, "loss": 2}\n{"loss": 2}\n', 'line 2: has "loss" and no "step"'),
    ('{"step": true, "loss": 2}\n', "step = true: a whole number"), ('{"step": 0, "loss": [2]}\n', "loss = a list"),
    ('{"step": 0, "loss": 2}\n{"step": 1,\n', "line 2 is not JSON"), ("[1, 2]\n", "line 1: expected a table"),
    ('{"a": 1}\n{"b": 2}\n', "no key is called as a step usually is; there are a, b"),
    ('{"step": 0, "loss": ' + "9" * 400 + "}\n", "loss = ")])
def test_what_is_wrong_is_one_line_with_its_place(tmp_path, text, said):
    path = put(tmp_path, text)
    with pytest.raises(BadInput) as caught:
        read_curve(path)
    words = str(caught.value)
    assert words.startswith(str(path)) and said in words and words.isprintable() and len(words) < 500 + len(str(path))


def test_a_name_that_is_not_there_offers_the_nearest(tmp_path):
    path = put(tmp_path, "step,training_nll\n0,1\n")
    with pytest.raises(BadInput, match='--loss-column training-nll: there is no such column; .*; did you mean "trai'):
        read_curve(path, loss="training-nll")


def test_of_a_long_file_no_more_is_kept_than_steps_and_losses(tmp_path, monkeypatch):
    import tracemalloc

    path = put(tmp_path, "step,note,loss\n" + "".join(f"{i},{'x' * 1000},{i}.5\n" for i in range(20_000)))
    tracemalloc.start()
    try:
        curve = read_curve(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(curve.steps) == 20_000 and most < path.stat().st_size / 10
    monkeypatch.setattr(curves, "MOST", 100)
    with pytest.raises(BadInput, match="line 102: more than 100 steps"):
        read_curve(put(tmp_path, "step,loss\n" + "".join(f"{i},1\n" for i in range(200))))


def test_a_run_of_ours_and_nothing_are_no_curves(tmp_path):
    assert not is_foreign(tmp_path) and not is_foreign(tmp_path / "absent") and is_foreign(put(tmp_path, "x"))
    put(tmp_path, json.dumps({}), "run.json")
    put(tmp_path, "", "events.out.tfevents.1")
    assert not is_foreign(tmp_path)
