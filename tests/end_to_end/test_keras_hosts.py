"""Several hosts under Keras: what strategies refuse, checkpoints in TensorFlow's format, two hosts over loopback."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from twinscale.common.data import held_out_batches
from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.recipe.schema import micro_batch
from twinscale.tfscale.checkpoint import Store
from twinscale.tfscale.devices import open_devices
from twinscale.tfscale.devices_hosts import agree, await_hosts, is_lost, read_cluster
from twinscale.tfscale.train import make_evaluate, make_step, state_tensors, with_tensors

# ---- what cannot be opened


def cluster(count, index=0, job="worker"):
    return json.dumps({"cluster": {job: [f"127.0.0.1:{1000 + i}" for i in range(count)]},
                       "task": {"type": job, "index": index}})


@pytest.mark.parametrize("section,error,said", [
    ({"fsdp": 2}, BadInput, "devices.fsdp=2: Keras mirrors the weights .* --backend jax"),
    ({"replica": 2, "strategy": "tpu"}, BadInput, "devices.replica=2: Keras mirrors"),
    ({"strategy": "one", "data": 4}, BadInput, 'devices.strategy="one", but devices.data=4'),
    ({"strategy": "multiworker"}, BadInput, "devices.hosts=1: set it to the number of workers in TF_CONFIG, or to 0"),
    ({"strategy": "mirrored", "hosts": 2}, BadInput, "one process, but devices.hosts=2: set devices.hosts=1, or"),
    ({"strategy": "tpu", "hosts": 0}, BadInput, "one process, but devices.hosts=0.* one drives all of a TPU"),
    ({"hosts": 2}, MissingEnvironment, "devices.hosts=2, but TF_CONFIG is not set: set TF_CONFIG="),
    ({"strategy": "tpu"}, MissingEnvironment, r'no TPU: TPUClusterResolver\(tpu="local"\) \(.*TPU_NAME are not set\)'),
    ({"tpu": "grpc://127.0.0.1:9"}, MissingEnvironment, "nothing answers at 127.0.0.1:9.* name a TPU with devices.tpu"),
])
def test_devices_that_keras_cannot_open_say_why(recipe_of, monkeypatch, section, error, said):
    for name in ("TF_CONFIG", "TPU_NAME", "KUBE_GOOGLE_CLOUD_TPU_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)
    begun = time.monotonic()
    with pytest.raises(error, match=said):
        open_devices(recipe_of("mlp", devices=section))
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("config,hosts,said", [
    ('{"cluster": {"wor', 2, "TF_CONFIG is not what TensorFlow reads"),
    ("[]", 2, "TF_CONFIG is not what TensorFlow reads"),
    ('{"cluster": {"worker": ["nowhere"]}, "task": {"type": "worker", "index": 0}}', 0, "'nowhere' is not HOST:PORT"),
    (cluster(3), 2, "devices.hosts=2, but TF_CONFIG names 3"),
    (cluster(2, index=2), 2, "task worker 2 is none of its cluster's 2 workers"),
    (cluster(2, job="ps"), 0, "task ps 0 is none"),
])
def test_a_torn_cluster_is_refused(recipe_of, monkeypatch, config, hosts, said):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(MissingEnvironment, match=said):
        open_devices(recipe_of("mlp", devices={"hosts": hosts, "data": 0}))


@pytest.mark.parametrize("section,said", [
    ({"virtual": 2}, "devices.virtual=2: .* takes one CPU of each host"), ({"data": 1}, "devices.data=1 over 2 hosts")])
def test_devices_that_hosts_cannot_share_are_refused(recipe_of, monkeypatch, section, said):
    monkeypatch.setenv("TF_CONFIG", cluster(2))
    with pytest.raises(BadInput, match=said):
        open_devices(recipe_of("mlp", devices={"hosts": 0, "data": 0, **section}))


def test_the_chief_is_the_first_host(monkeypatch):
    hosts = {"cluster": {"worker": ["a:1", "[::1]:2"], "chief": ["c:3"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(hosts))
    assert read_cluster(0) == (2, {("chief", 0): ("c", 3), ("worker", 0): ("a", 1), ("worker", 1): ("::1", 2)})


def test_a_cluster_of_one_is_no_cluster(recipe_of, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", cluster(1))
    devices = open_devices(recipe_of("mlp", devices={"hosts": 0}))
    assert (devices.host, devices.hosts, len(devices.names)) == (0, 1, 1)
    assert agree(devices, [3, 2**40]).tolist() == [[3, 2**40]]


def ports(count):
    """Free ones."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return found


def test_hosts_wait_for_each_other_and_not_for_ever():
    addresses = [("127.0.0.1", port) for port in ports(2)]
    with pytest.raises(MissingEnvironment, match=f"host 1 .127.0.0.1:{addresses[1][1]}. has not come within .*=0.5"):
        await_hosts(0, addresses, 0.5)
    met = []

    def come(host, after):
        time.sleep(after)
        await_hosts(host, addresses, 20)
        met.append(socket.create_server(addresses[host]))  # as TensorFlow's server follows

    threads = [threading.Thread(target=come, args=(host, 0.5 * host)) for host in range(2)]
    for step in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            step(thread)
    with pytest.raises(MissingEnvironment, match="host 0 cannot listen on its port"):
        await_hosts(0, addresses, 1)
    assert len(met) == 2
    for server in met:
        server.close()


# ---- checkpoints and tensors from elsewhere

@pytest.fixture(scope="module")
def trained(open_room, recipe_of):
    """A room after two steps, with all kinds of variables."""
    recipe = recipe_of("convnet", model={"channels": [4]}, optimizer={"ema": 0.9}, train={"precision": "float32"})
    with open_room("tfscale", recipe) as opened:
        step = make_step(recipe, opened.state, opened.devices)
        for number in range(2):
            opened.state, metrics = step(opened.state, number, opened.batch(number), (1, 0, 2))
        assert metrics["signals"].dtype == tf.float32 and metrics["signals"].numpy().tolist() == [1, 0, 2]
        yield opened


def scrambled(opened):
    """The tensors of a state that is then made another one."""
    tensors = {name: np.array(x) for name, x in state_tensors(opened.state).items()}
    with_tensors(opened.recipe, opened.state, opened.devices, {name: x + 1 for name, x in tensors.items()}, 7)
    assert opened.state.step == 7
    return tensors


def same(state, tensors):
    found = state_tensors(state)
    return found.keys() == tensors.keys() and all(found[name].tobytes() == x.tobytes() for name, x in tensors.items())


def test_a_store_gives_back_what_was_written(trained, tmp_path):
    with_tensors(trained.recipe, trained.state, trained.devices, state_tensors(trained.state), 2)
    store = Store(tmp_path, trained.state, trained.devices)
    for step in (2, 12):
        store.write(step, trained.state)
        store.wait()
    tensors = scrambled(trained)
    (tmp_path / "checkpoint").write_bytes(b"\xfftorn")
    other = Store(tmp_path, trained.state, trained.devices)
    assert same(other.read(2, trained.state), tensors) and trained.state.step == 2
    assert [path.name for path in other.files(2)] == ["step-2.data-00000-of-00001", "step-2.index"]
    assert other.files(1) == [] and len(other.files(12)) == 2

    (tmp_path / "step-2_temp").mkdir()  # as a kill leaves it
    (tmp_path / "step-2_temp" / "part-00000-of-00001.data-00000-of-00001").write_bytes(b"half")
    other.delete(2)
    other.delete(3)  # of which there is nothing
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint", "step-12.data-00000-of-00001", "step-12.index"]
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "step-12")
    (tmp_path / "checkpoint").write_bytes(b"\xfftorn")
    other.write(13, trained.state)
    other.wait()
    assert len(other.files(13)) == 2
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "step-13")
    other.close()
    for path in other.files(12):
        path.write_bytes(path.read_bytes()[:20])
    for step in (2, 12):
        with pytest.raises(OSError, match=f"step-{step}: cannot be read"):
            other.read(step, trained.state)


def test_a_state_moves_on_while_it_is_written(trained, tmp_path, monkeypatch):
    gate, put = threading.Event(), Store.put
    monkeypatch.setattr(Store, "put", lambda store, step: (gate.wait(60), put(store, step)))
    with_tensors(trained.recipe, trained.state, trained.devices, state_tensors(trained.state), 2)
    store = Store(tmp_path, trained.state, trained.devices)
    store.write(2, trained.state)
    tensors = scrambled(trained)
    assert store.files(2) == [] and trained.state.step == 7
    gate.set()
    store.close()
    assert same(store.read(2, trained.state), tensors)


def test_a_store_refuses_a_state_that_it_holds_in_part(trained, open_room, recipe_of, tmp_path):
    store = Store(tmp_path, trained.state, trained.devices)
    store.write(2, trained.state)
    store.close()
    changes = [{"optimizer": {"ema": 0.0}}, {"model": {"channels": [4, 8]}}, {"model": {"channels": [8]}},
               {"optimizer": {"ema": 0.9, "name": "lion"}}]
    for change in changes:
        recipe = recipe_of("convnet", **{"model": {"channels": [4]}, "optimizer": {"ema": 0.9},
                                         "train": {"precision": "float32"}, **change})
        with open_room("tfscale", recipe) as opened, pytest.raises(BadInput, match="step-2: holds another state"):
            Store(tmp_path, opened.state, opened.devices).read(2, opened.state)


def test_a_store_that_cannot_write_says_so(trained, tmp_path):
    (tmp_path / "step-2.index").mkdir()
    asked = (lambda store: store.wait(), lambda store: store.close(), lambda store: store.write(3, trained.state))
    for ask in asked:
        store = Store(tmp_path, trained.state, trained.devices)
        store.write(2, trained.state)
        with pytest.raises(OSError, match="step 2 cannot be written: .*step-2.index"):
            ask(store)


def test_tensors_from_elsewhere_go_in_bit_for_bit(trained):
    tensors = scrambled(trained)
    with_tensors(trained.recipe, trained.state, trained.devices, tensors, 2)
    assert same(trained.state, tensors) and trained.state.step == 2
    name = next(iter(tensors))
    for wrong in ({key: x for key, x in tensors.items() if key != name}, {**tensors, "weights/other": tensors[name]},
                  {**tensors, name: tensors[name][..., :1]}):
        with pytest.raises(BadInput, match=f"{name}|weights/other"):
            with_tensors(trained.recipe, trained.state, trained.devices, wrong, 5)
        assert same(trained.state, tensors) and trained.state.step == 2


# ---- two hosts

HOST = """
import os, sys, time
import numpy as np
from pathlib import Path
from twinscale.common.data import held_out_batches, open_dataset, training_batches
from twinscale.common.recipe.schema import Recipe, micro_batch
from twinscale.tfscale.checkpoint import Store
from twinscale.tfscale.devices import open_devices
from twinscale.tfscale.devices_hosts import agree, is_lost
from twinscale.tfscale.trace import make_step_tensors
from twinscale.tfscale.train import make_evaluate, make_step, new_state, state_tensors, with_tensors

recipe, out = Recipe.model_validate_json(sys.argv[1]), Path(sys.argv[2])
devices = open_devices(recipe)
assert open_devices(recipe).strategy is devices.strategy
dataset = open_dataset(recipe)
state = new_state(recipe, dataset, devices)
step, losses = make_step(recipe, state, devices), []
for number, batch, _ in training_batches(dataset, recipe, 0, 3, host=devices.host, hosts=devices.hosts):
    state, metrics = step(state, number, batch, (1, devices.host, 0))
    losses.append(float(metrics["loss"]))
assert metrics["signals"].numpy().tolist() == [2, 1, 0]
assert agree(devices, [devices.host, 2**40]).tolist() == [[0, 2**40], [1, 2**40]]
sums = make_evaluate(recipe, state, devices)(state, held_out_batches(dataset, micro_batch(recipe)))
logits = make_step_tensors(recipe, state, devices)(state, number, batch)["logits"]

store = Store(out, state, devices)
store.write(3, state)
store.wait()
agree(devices, [3])
tensors = {name: np.array(x) for name, x in state_tensors(state).items()}
with_tensors(recipe, state, devices, {name: x + 1 for name, x in tensors.items()}, 9)
store.read(3, state)
assert state.step == 3 and len(store.files(3)) == 2
assert all(x.tobytes() == tensors[name].tobytes() for name, x in state_tensors(state).items())
np.savez(out / f"{devices.host}.npz", losses=losses, sums=[sums[name] for name in sorted(sums)], logits=logits,
         **tensors)
if devices.host == 1:
    os._exit(9)
try:
    while True:
        agree(devices, [0])
except Exception as error:
    assert is_lost(error), error
    os._exit(71)
"""


def test_two_hosts_train_as_one_does(open_room, recipe_of, tmp_path):
    """With batch norm and accumulation; and the host that is left learns that the other one is gone."""
    changes = {"model": {"channels": [4]}, "optimizer": {"clip_norm": 0.5, "ema": 0.9}, "train": {"accumulate": 2}}
    recipe = recipe_of("convnet", **changes, devices={"hosts": 2, "data": 2})
    addresses = [f"127.0.0.1:{port}" for port in ports(2)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).parents[2])}
    hosts = [subprocess.Popen(
        [sys.executable, "-c", HOST, recipe.model_dump_json(), str(tmp_path)], stderr=subprocess.PIPE, text=True,
        env=environment | {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses},
                                                    "task": {"type": "worker", "index": i}})}) for i in range(2)]
    try:
        with open_room("tfscale", recipe_of("convnet", **changes)) as opened:
            step, losses = make_step(opened.recipe, opened.state, opened.devices), []
            for number in range(3):
                opened.state, metrics = step(opened.state, number, opened.batch(number))
                losses.append(float(metrics["loss"]))
            sums = make_evaluate(opened.recipe, opened.state, opened.devices)(
                opened.state, held_out_batches(opened.dataset, micro_batch(recipe)))
            wanted = {name: np.array(x) for name, x in state_tensors(opened.state).items()}
            wanted |= {"losses": np.array(losses), "sums": np.array([sums[name] for name in sorted(sums)]),
                       "logits": opened.tensors(opened.batch(2), 2)["logits"]}
        said = [host.communicate(timeout=120)[1] for host in hosts]
    finally:
        for host in hosts:
            host.kill()
            host.wait()
    assert [host.returncode for host in hosts] == [71, 9], "\n".join(said)
    first, second = (np.load(tmp_path / f"{i}.npz") for i in range(2))
    assert set(first) == set(second) == set(wanted)
    for name, x in wanted.items():
        assert first[name].tobytes() == second[name].tobytes(), name
        assert np.abs(first[name] - x).max() <= 1e-12 * np.abs(x).max(), name


def test_only_what_a_lost_host_raises_says_so():
    assert is_lost(tf.errors.UnavailableError(None, None, "Collective ops is aborted by: Socket closed"))
    assert is_lost(tf.errors.DeadlineExceededError(None, None, "RPC: /tensorflow.CoordinationService/Heartbeat"))
    assert is_lost(tf.errors.CancelledError(None, None, "The following tasks ... (stopped sending heartbeats)"))
    assert not is_lost(tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"))
    assert not is_lost(ConnectionError("Socket closed"))
