"""Checkpoints as the frameworks write them, read without them; and files that are meant to do harm."""

import io
import pickle
import sys
import zipfile

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.files.tensors import save_tensors
from twinscale.common.foreign import checkpoints
from twinscale.common.foreign.checkpoints import read_checkpoint

KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture(scope="module")
def keras_files(tmp_path_factory):
    """(the folder, {path: array} of a trained model with layers in layers) in each of Keras' forms."""
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)  # another test may have asked for determinism, under which a fit wants one
    folder = tmp_path_factory.mktemp("keras")
    inputs = keras.Input((4, 6))
    x = keras.layers.MultiHeadAttention(2, 3, name="attn")(inputs, inputs)
    x = keras.layers.Flatten()(keras.layers.BatchNormalization(name="norm")(x))
    tower = keras.Sequential([keras.layers.Dense(3, name="first"), keras.layers.Dropout(0.5),
                              keras.layers.Dense(2, name="second")], name="tower")
    model = keras.Model(inputs, tower(x))
    model.compile("adam", "mse")
    model.fit(np.ones((2, 4, 6)), np.ones((2, 2)), verbose=0)
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.save_weights(folder / "model.weights.h5")
    return folder, {weight.path: np.asarray(weight) for weight in model.weights if "float" in weight.dtype}


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5", "model.h5"])
def test_layers_of_keras_have_their_own_names_in_each_form(keras_files, name):
    folder, weights = keras_files
    found = {path: x for path, x in read_checkpoint(folder / name).items() if not path.startswith("optimizer/")}
    wanted, count = {}, {}
    for path, x in weights.items():
        module = path.rpartition("/")[0]
        count[module] = count.get(module, -1) + 1
        wanted[path if name == "model.h5" else f"{module}/{count[module]}"] = x
    assert {path for path in found if "seed_generator" not in path} == wanted.keys()
    assert ("attn/query/kernel" if name == "model.h5" else "attn/query/0") in wanted
    assert all(np.array_equal(found[path], x) for path, x in wanted.items())


def test_a_subclass_and_its_lists_of_layers(tmp_path):
    keras = pytest.importorskip("keras")

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [keras.layers.Dense(3, name="one"), keras.layers.Dense(3, name="two")]

        def call(self, x):
            return self.blocks[1](self.blocks[0](x))

    model = Net()
    model(np.ones((1, 2)))
    model.save_weights(tmp_path / "net.weights.h5")
    assert read_checkpoint(tmp_path / "net.weights.h5").keys() == {"one/0", "one/1", "two/0", "two/1"}


def test_what_flax_writes_is_read_as_it_was(tmp_path, monkeypatch):
    serialization = pytest.importorskip("flax.serialization")
    import jax.numpy as jnp

    large = np.arange(100.0, dtype=np.float32).reshape(4, 25)
    tree = {"params": {"fc": {"kernel": KERNEL, "bias": jnp.full(3, 1.5, jnp.bfloat16)}, "large": large},
            "step": 3, "scalar": np.float32(2.5)}
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 128)  # so that the large one is in pieces
    (tmp_path / "it.msgpack").write_bytes(serialization.to_bytes(tree))
    found = read_checkpoint(tmp_path / "it.msgpack")
    assert found.keys() == {"params/fc/kernel", "params/fc/bias", "params/large", "step", "scalar"}
    assert np.array_equal(found["params/fc/kernel"], KERNEL) and np.array_equal(found["params/large"], large)
    assert found["params/fc/bias"].tolist() == [1.5] * 3 and found["step"] == 3 and found["scalar"] == 2.5
    assert b"__msgpack_chunked_array__" in (tmp_path / "it.msgpack").read_bytes()


def test_safetensors_and_npz_whatever_they_are_called(tmp_path):
    save_tensors(tmp_path / "a", {"fc.weight": KERNEL})
    np.savez(tmp_path / "b.npz", **{"fc/weight": KERNEL, "words": np.array(["x"])})
    for name in ("a", "b.npz"):
        found = read_checkpoint(tmp_path / name)
        assert found.keys() == {"fc/weight"} and np.array_equal(found["fc/weight"], KERNEL)


class Harm:
    """What, unpickled, would leave a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_is_unpickled(tmp_path):
    harm = pickle.dumps(Harm(tmp_path / "left"))
    (tmp_path / "it.pkl").write_bytes(harm)
    with zipfile.ZipFile(tmp_path / "it.pt", "w") as archive:
        archive.writestr("archive/data.pkl", harm)
    np.savez(tmp_path / "it.npz", x=np.array([Harm(tmp_path / "left")], object))
    for name, said in (("it.pkl", "a pickle, which runs code"), ("it.pt", "a pickle, which runs code"),
                       ("it.npz", "not a whole checkpoint: ValueError: Object arrays")):
        with pytest.raises(BadInput, match=said):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "left").exists()


def test_a_link_to_another_file_is_not_followed(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = KERNEL
    for number, made in enumerate((h5py.ExternalLink(str(tmp_path / "secret.h5"), "/x"), h5py.SoftLink("/x"))):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["fc/kernel"] = made
        with pytest.raises(BadInput, match="kernel: a link, which may lead elsewhere"):
            read_checkpoint(tmp_path / f"{number}.h5")
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file.create_dataset("x", (6,), "f4", external=[(str(tmp_path / "secret.h5"), 0, 24)])
    with pytest.raises(BadInput, match="x: lies in another file"):
        read_checkpoint(tmp_path / "outside.h5")


def test_what_says_that_it_holds_far_more_than_it_can_fills_no_memory(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "it.h5", "w") as file:
        file.create_dataset("x", (10**12,), "f4", chunks=(1024,))
    with zipfile.ZipFile(tmp_path / "it.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(checkpoints.FREE + 1))
    for name in ("it.h5", "it.npz"):
        with pytest.raises(BadInput, match="says that it holds"):
            read_checkpoint(tmp_path / name)


def npz():
    file = io.BytesIO()
    np.savez(file, x=KERNEL)
    return file.getvalue()


@pytest.mark.parametrize("content, said", [
    (b"", "is empty"), (b"words", "not a checkpoint"), (b"\x89HDF\r\n\x1a\n" + bytes(50), "not a whole checkpoint"),
    (b"PK\x03\x04" + bytes(20), "not a whole checkpoint"), (npz()[:-30], "not a whole checkpoint"),
    (b"\x81\xa1x", "not a whole checkpoint"), (b"\x81\xa1x\xc7\x03\x01abc", "not a whole checkpoint"),
    (b"\x81\xa1x\xa1y", "holds no tensor"), (b"\x81\xa1x" * 400 + b"\x01", "nested too deeply|not a whole"),
    (b"\x10" + bytes(7) + b'{"x": 1}        ', "not a whole safetensors file")])
def test_what_is_damaged_is_one_line(tmp_path, content, said):
    (tmp_path / "it").write_bytes(content)
    with pytest.raises(BadInput, match=f"it: .*({said})") as caught:
        read_checkpoint(tmp_path / "it")
    assert str(caught.value).isprintable()
    with pytest.raises(BadInput, match="a directory, and not one of Orbax"):
        read_checkpoint(tmp_path)


def test_a_file_in_which_a_reader_looks_for_ever_is_given_up(keras_files, monkeypatch):
    monkeypatch.setattr(checkpoints, "PATIENCE", 0.3)
    monkeypatch.setattr(checkpoints.process, "helper", lambda *words: [sys.executable, "-c", "import time; "
                                                                       "time.sleep(600)"])
    for name in ("model.h5", "model.keras"):
        with pytest.raises(BadInput, match=f"{name}: not read within 0 s, .*: it is damaged; save it again"):
            read_checkpoint(keras_files[0] / name)
