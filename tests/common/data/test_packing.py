import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twinscale.common.data.packing import Packed
from twinscale.common.data.shards import Tokens

END = 9
streams = st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=12), min_size=1, max_size=12)


def packed(documents, sequence, shard=None, **options):
    stream = np.array([token for document in documents for token in [*document, END]], np.uint16)
    shards = [stream[i : i + (shard or len(stream))] for i in range(0, len(stream), shard or len(stream))]
    return stream, Packed(Tokens(tuple(shards)), sequence, END, **{"cross_documents": False, **options})


@given(documents=streams, sequence=st.integers(1, 16), shard=st.integers(1, 20))
def test_all_examples_together_are_the_documents(documents, sequence, shard):
    stream, examples = packed(documents, sequence, shard, partial=True)
    batch = examples.take(np.arange(len(examples)))
    length = len(stream) - 1
    assert np.array_equal(batch["inputs"].reshape(-1)[:length], stream[:-1])
    assert np.array_equal(batch["labels"].reshape(-1)[:length], stream[1:])
    again = "".join(map(chr, [*batch["inputs"].reshape(-1)[:length], END])).split(chr(END))[:-1]
    assert [[ord(token) for token in document] for document in again] == documents


@given(documents=streams, sequence=st.integers(1, 16))
def test_every_token_of_a_document_is_predicted_once_and_from_its_own_document(documents, sequence):
    _, examples = packed(documents, sequence, partial=True)
    batch = examples.take(np.arange(len(examples)))
    assert batch["weights"].sum() == sum(map(len, documents))
    assert not batch["weights"][batch["inputs"] == END].any()


@given(documents=streams, sequence=st.integers(1, 16))
def test_training_takes_whole_examples_only(documents, sequence):
    stream, examples = packed(documents, sequence, cross_documents=True)
    assert len(examples) == (len(stream) - 1) // sequence
    batch = examples.take(np.arange(len(examples)))
    assert set(batch) == {"inputs", "labels", "weights", "positions"}
    assert (batch["weights"] == 1).all() and (batch["positions"] == np.arange(sequence)).all()
    assert np.array_equal(batch["labels"].reshape(-1), stream[1 : 1 + len(examples) * sequence])


def test_segments_and_positions_restart_at_each_document():
    _, examples = packed([[1, 2, 3], [4], [5, 6, 7, 8]], 5)
    batch = examples.take([0, 1])
    assert batch["inputs"].tolist() == [[1, 2, 3, END, 4], [END, 5, 6, 7, 8]]
    assert batch["labels"].tolist() == [[2, 3, END, 4, END], [5, 6, 7, 8, END]]
    assert batch["weights"].tolist() == [[1, 1, 1, 0, 1], [0, 1, 1, 1, 1]]
    assert batch["segments"].tolist() == [[0, 0, 0, 0, 1], [0, 1, 1, 1, 1]]
    assert batch["positions"].tolist() == [[0, 1, 2, 3, 0], [0, 0, 1, 2, 3]]
    dtypes = {name: value.dtype.name for name, value in batch.items()}
    assert dtypes == {"inputs": "int32", "labels": "int32", "weights": "float32", "segments": "int32",
                      "positions": "int32"}


def test_a_partial_example_is_padded_with_weight_zero():
    for cross in (False, True):
        _, examples = packed([[1, 2, 3, 4, 5]], 4, partial=True, cross_documents=cross)
        assert examples.take([1])["weights"].tolist() == [[1, 0, 0, 0]]
