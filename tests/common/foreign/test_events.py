"""Scalars in TensorBoard's files, as those who write them do; damaged ones; and one that is larger than memory is to
be."""

import struct

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.foreign import events
from twinscale.common.foreign.events import event_files, is_events, scalars

LOSSES = [2.5, 2.25, 1.125]


@pytest.fixture
def written(tmp_path):
    """A file of tensorboardX: three losses, and a picture among them."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for step, loss in enumerate(LOSSES):
            writer.add_scalar("train/loss", loss, step)
            writer.add_image("picture", np.zeros((3, 8, 8)), step)
    (file,) = event_files(tmp_path)
    return file


def test_scalars_are_read_and_pictures_passed_over(written):
    assert is_events(written.read_bytes()[:12])
    assert list(scalars(written)) == [("train/loss", step, loss) for step, loss in enumerate(LOSSES)]


def test_what_tensorflow_writes_is_read_in_both_of_its_ways(tmp_path):
    tf = pytest.importorskip("tensorflow")
    with tf.summary.create_file_writer(str(tmp_path / "new")).as_default():
        for step, loss in enumerate(LOSSES):  # what `tf.summary.scalar` does, which wants TensorBoard itself
            tf.summary.write("epoch_loss", tf.constant(loss), step)
            tf.summary.write("said", tf.constant("words"), step)
            tf.summary.write("table", tf.ones((2, 2)), step)
    old = tf.compat.v1.summary
    with tf.Graph().as_default(), old.FileWriter(str(tmp_path / "old")) as writer:
        for step, loss in enumerate(LOSSES):
            writer.add_summary(old.Summary(value=[old.Summary.Value(tag="epoch_loss", simple_value=loss)]), step)
    for name in ("new", "old"):
        (file,) = event_files(tmp_path / name)
        assert list(scalars(file)) == [("epoch_loss", step, loss) for step, loss in enumerate(LOSSES)], name


def test_scalars_of_every_kind_of_number():
    tf = pytest.importorskip("tensorflow")
    from tensorboardX.proto.event_pb2 import Event

    for kind in ("float32", "float64", "float16", "bfloat16", "int32", "int64"):
        for tensor in (tf.make_tensor_proto(3, kind), tf.make_tensor_proto(tf.constant(3, kind).numpy())):
            text = Event().SerializeToString()
            value = Event.FromString(text).summary.value.add()
            value.tensor.ParseFromString(tensor.SerializeToString())
            assert events._scalar(value) == 3.0, kind


def test_what_a_crash_cut_short_is_left_out(written):
    content = written.read_bytes()
    written.write_bytes(content[:-5])
    assert [step for _, step, _ in scalars(written)] == [0, 1, 2]  # the picture was cut, and then the loss before it
    written.write_bytes(content[:content.rindex(b"train/loss") + 3])
    assert [step for _, step, _ in scalars(written)] == [0, 1]


def test_damage_is_named_with_its_place(written):
    content = bytearray(written.read_bytes())
    content[content.index(b"train/loss")] ^= 1
    written.write_bytes(content)
    with pytest.raises(BadInput, match=r"tfevents.*byte \d+: its checksum is another; the file is damaged"):
        list(scalars(written))
    written.write_bytes(b"words" * 100)
    with pytest.raises(BadInput, match="byte 0: not a record of TensorBoard"):
        list(scalars(written))


def test_a_large_record_is_never_in_memory(tmp_path, written):
    """One that says it has so many bytes is passed over; one that says more than there are ends the file."""
    begun = written.read_bytes()
    for length, there, wanted in ((events.LARGEST + 1, events.LARGEST + 5, 6), (2**62, 4, 3)):
        head = struct.pack("<Q", length)
        large = head + struct.pack("<I", events._sum(head)) + bytes(there)
        written.write_bytes(begun + large + begun)
        assert len(list(scalars(written))) == wanted
