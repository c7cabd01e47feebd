"""The benchmark's arithmetic and its refusals, with trainers that answer what a test says."""

import json
import subprocess
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from twinscale.benchmarks.report.words import interval
from twinscale.benchmarks.timing import bench as benchmark
from twinscale.common.data import open_dataset
from twinscale.common.errors import BadInput
from twinscale.common.families.parameters import parameters, trained_size
from twinscale.common.machine.flops import peak_flops, train_flops
from twinscale.common.recipe.file import load
from twinscale.common.recipe.schema import Recipe

H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A tiny decoder in bfloat16: 4 rows of 16 tokens."""
    monkeypatch.setenv("TWINSCALE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "texts").mkdir()
    for i in range(20):
        (tmp_path / "texts" / f"{i}.txt").write_text(f"document {i} " * 9)
    return Recipe.model_validate({
        "name": "tiny", "data": {"source": f"text:{tmp_path}/texts/*.txt", "sequence": 16, "held_out": 0.2},
        "model": {"family": "decoder", "layers": 1, "width": 16, "heads": 2},
        "train": {"global_batch": 4, "precision": "bfloat16"}})


class Answers:
    """A worker whose rounds take what `seconds`, {kind: [seconds of each round]}, says, of a device of a kind."""

    def __init__(self, backend, asked, kind, seconds):
        self.backend, self.asked, self.kind = backend, asked, kind
        self.product = {"keras": 2e15, "keras-jax": 3e15, "jax": 3e15}[backend]
        self.seconds = {name: iter(rounds) for name, rounds in seconds.items()}

    def ask(self, call, recipe=None, **arguments):
        if call == "measure_steps":
            self.asked.append((self.backend, arguments["kind"]))
            return next(self.seconds[arguments["kind"]])
        if call == "measure_device":
            return {"kind": self.kind, "names": ["cuda:0"], "platform": "gpu", "capability": "9.0",
                    "peak_bytes": 3 << 30, "limit_bytes": 60 << 30}
        if call == "measure_product":
            return self.product
        return None


@pytest.fixture
def measure(recipe, monkeypatch, tmp_path):
    """measure(seconds, kind, backends): (exit code, bench.json, what was asked in turn)."""

    def run(seconds, kind=H100, backends=("jax",), out=tmp_path / "out", **options):
        asked = []

        @contextmanager
        def workers(environment, rooms, anew):
            assert anew  # or what an earlier comparison compiled would be measured as quick
            yield {name: Answers(name, asked, kind, seconds) for name in rooms}

        monkeypatch.setattr(benchmark, "open_workers", workers)
        monkeypatch.setattr(benchmark, "compile_seconds", lambda *_: 1.5)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
        rounds = len(seconds["loop"]) - 1
        code = benchmark.bench(recipe, out, backends=backends, steps=2, rounds=rounds, **options)
        return code, json.loads((out / "bench.json").read_text()), asked

    return run


WARM = 18.0  # seconds of the round that is left out
SECONDS = {"bare": [WARM, 0.6, 0.6], "loop": [WARM, 0.3, 0.7]}  # of 2 steps


def test_figures_follow_the_loops_median_step(measure, recipe, capsys):
    code, found, _ = measure(SECONDS)
    assert code == 0 and found["schema_version"] == 1 and found["hash"] == recipe.hash
    side, dataset = found["sides"]["jax"], open_dataset(recipe)
    assert side["loop_ms"]["median"] == pytest.approx(250) and side["bare_ms"]["median"] == pytest.approx(300)
    assert side["loop_ms"]["interval"] == pytest.approx([150, 350])
    assert side["loop_ms"]["rounds"] == pytest.approx([150, 350])
    assert side["throughput"] == pytest.approx(4 * 16 / 0.25) and side["unit"] == "tokens/s"
    for convention, mfu in side["mfu"].items():
        flops = 4 * train_flops(recipe.model, dataset.classes, (16,), convention)
        assert mfu == pytest.approx(flops / 0.25 / 989e12)
    assert side["mfu_convention"] == "causal FLOPs / bfloat16 peak of H100" and "data sheet" in side["peak_from"]
    assert (side["attention"], side["compile_seconds"], side["peak_bytes"]) == ("cudnn", 1.5, 3 << 30)
    assert set(found["machine"]) == {"versions", "libraries", "gpus"}
    table = capsys.readouterr().out
    assert all(word in table for word in ("1 x NVIDIA H100", "bfloat16", "cudnn", "250", f"[{interval((150, 350))}]",
                                          "256 tokens/s", "MFU (causal FLOPs)", "989 TFLOP/s", "3.00 of 60.0"))


def test_backends_and_kinds_take_turns(measure):
    _, found, asked = measure(SECONDS, backends=("keras", "jax"))
    forth = [("keras", "bare"), ("keras", "loop"), ("jax", "bare"), ("jax", "loop")]
    assert asked == [*forth, *forth[::-1], *forth]
    assert found["sides"]["keras"]["attention"] == "einsum"


def test_three_backends_take_turns_and_each_pair_has_its_ratio(measure, capsys):
    _, found, asked = measure(SECONDS, backends=("keras", "keras-jax", "jax"))
    assert [backend for backend, _ in asked[::2]] == [
        *(three := ["keras", "keras-jax", "jax"]), *three[::-1], *three]
    assert found["ratio"] is None and [pair["of"] for pair in found["ratios"]] == [
        ["keras", "keras-jax"], ["keras", "jax"], ["keras-jax", "jax"]]
    said = " ".join(capsys.readouterr().out.split())
    for first, second in (("Keras", "Keras on JAX"), ("Keras", "JAX"), ("Keras on JAX", "JAX")):
        assert f"A step of {first} takes 1.00 [1.00 – 1.00] times one of {second}" in said


def test_peers_take_their_turns_in_the_same_rounds(measure, monkeypatch, capsys):
    """After the backends in one round, before them in the next."""
    class Beside:
        name, versions, device, seconds = "torch", {"torch": "2"}, None, [0.5, 0.7]

        def train(self, count):
            turns.append(count)

    @contextmanager
    def opened(commands):
        assert commands == {"torch": 1}
        yield [Beside()]

    turns = []
    monkeypatch.setattr(benchmark.peers_beside, "commands", lambda names, *_: dict.fromkeys(names, 1))
    monkeypatch.setattr(benchmark.peers_beside, "opened", opened)
    _, found, _ = measure(SECONDS, peers=["torch"])
    assert turns == [2, 2, 2] and found["peers"]["torch"]["step_ms"]["median"] == pytest.approx(600)
    assert found["peers"]["torch"]["times"]["jax"]["ratio"] == pytest.approx((0.5 / 0.15 * 0.7 / 0.35) ** 0.5)
    assert "torch (torch 2): 600 ms a step" in " ".join(capsys.readouterr().out.split())


def test_on_a_cpu_both_have_the_peak_of_the_best_product(measure, capsys):
    """Each against its own would show equal steps as unequal MFUs."""
    _, found, _ = measure(SECONDS, kind="cpu", backends=("keras", "jax"))
    ours, theirs = found["sides"].values()
    assert ours["peak_flops"] == theirs["peak_flops"] == 3e15 and ours["mfu"] == theirs["mfu"]
    assert "NumPy, TensorFlow and JAX, JAX's" in ours["mfu_convention"]
    assert found["ratio"]["loop"] == {"ratio": pytest.approx(1), "interval": pytest.approx([1, 1])}
    assert "this tells neither as the faster" in " ".join(capsys.readouterr().out.split())


def test_a_loop_is_said_to_cost_what_its_interval_carries(measure, capsys):
    noisy, clear = {"bare": [WARM, 0.6, 0.6, 0.6], "loop": [WARM, 0.5, 0.7, 0.55]}, [0.66, 0.67, 0.65]
    _, found, _ = measure(noisy)
    assert "nothing measurable" in capsys.readouterr().out
    assert found["sides"]["jax"]["loop_over_bare"]["ratio"] < 1
    measure(noisy | {"loop": [WARM, *clear]}, overwrite=True)
    assert "10 %" in (shown := capsys.readouterr().out) and "nothing measurable" not in shown


def test_an_mfu_above_all_is_refused(measure, capsys):
    code, found, _ = measure({kind: [WARM, 2e-12] for kind in SECONDS})
    side = found["sides"]["jax"]
    assert code == 3 and set(side["mfu"].values()) == {None}
    assert "above 100 %" in side["refused"][0] and "refused: an MFU of" in capsys.readouterr().out


def test_a_gpu_whose_peak_is_unknown_has_no_mfu(measure):
    code, found, _ = measure(SECONDS, kind="NVIDIA B900")
    assert code == 3 and "the peak of NVIDIA B900 is not known" in found["sides"]["jax"]["refused"][0]
    assert found["sides"]["jax"]["throughput"] == pytest.approx(256)


@pytest.mark.parametrize("bare, wall, loop, refused", [
    (2.0, 2.1, 2.0, False),
    (2.0, 2.1, 1.1, False),  # the host's half is hidden
    (0.002, 2.1, 2.0, True),  # dispatched, and then the call waited
    (2.0, 2.1, 0.02, True),
    (0.002, 0.04, 0.002, False)])  # asking takes a while too
def test_times_that_waited_for_nothing_are_known(bare, wall, loop, refused):
    taken = {"bare": [bare], "loop": [loop]}, {"bare": [wall], "loop": [3.0]}
    reason = benchmark.not_waited(*benchmark.a_step(2, taken))
    assert bool(reason) == refused and (not reason or "did not wait for the device" in reason)


def test_what_did_not_wait_has_no_throughput(measure):
    code, found, _ = measure({"bare": SECONDS["bare"], "loop": [WARM, 0.02, 0.02]})
    side = found["sides"]["jax"]
    assert code == 3 and side["throughput"] is None and side["mfu"]["causal"] is None


def test_nothing_else_is_written_or_removed(measure, recipe, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    measure(SECONDS)
    with pytest.raises(BadInput, match="--overwrite"):
        measure(SECONDS)
    assert measure(SECONDS, overwrite=True)[0] == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mine", "bench.json"}
    with pytest.raises(BadInput, match="a file"):
        measure(SECONDS, out=tmp_path / "out" / "mine")
    with pytest.raises(BadInput, match="one host"):
        benchmark.bench(recipe.with_values(devices={"hosts": 2}), tmp_path / "hosts")
    assert not (tmp_path / "hosts").exists()


def test_one_trainer_has_the_gpu_to_itself_and_two_share_it(recipe):
    name, old = "XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_MEM_FRACTION"
    less = recipe.with_values(jax={"preallocate": False, "memory_fraction": 0.5})
    assert benchmark.environment(recipe, ("jax",), {}) == {name: "true"}
    assert benchmark.environment(less, ("jax",), {}) == {name: "false", "XLA_CLIENT_MEM_FRACTION": "0.5"}
    assert benchmark.environment(less, ("jax",), {name: "true", old: "0.9"}) == {name: "true"}
    assert benchmark.environment(less, ("keras-jax",), {}) == benchmark.environment(less, ("jax",), {})
    assert benchmark.environment(less, ("keras", "jax"), {}) == {} == benchmark.environment(less, ("jax",), {}, True)


def test_what_nvidia_smi_says(monkeypatch):
    said = f"{H100}, 570.86.15, 81559 MiB, 700.00 W, 1980 MHz\n"
    monkeypatch.setattr(benchmark.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=said))
    assert benchmark.gpus() == [{"name": H100, "driver": "570.86.15", "memory": "81559 MiB",
                                 "power_limit": "700.00 W", "clock": "1980 MHz"}]

    def fails(*_, **__):
        raise subprocess.CalledProcessError(9, "nvidia-smi")

    monkeypatch.setattr(benchmark.subprocess, "run", fails)
    assert benchmark.gpus() == []


@pytest.mark.parametrize("kind, peak", [
    (H100, 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA H100 NVL", 835), ("NVIDIA H200", 989), ("NVIDIA H200 NVL", 835),
    ("NVIDIA GH200 480GB", 989), ("NVIDIA A100-SXM4-40GB", 312), ("NVIDIA A100 80GB PCIe", 312), ("NVIDIA L4", 121),
    ("NVIDIA L40S", 362), ("Tesla T4", 65), ("NVIDIA GeForce RTX 4090", 165.2), ("NVIDIA GeForce RTX 3090", 71),
    ("NVIDIA L40", None), ("NVIDIA T400", None), ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
    ("NVIDIA GeForce RTX 4090 D", None), ("NVIDIA GeForce RTX 3090 Ti", None), (f"{H100} MIG 1g.10gb", None)])
def test_gpus_have_the_peak_of_their_own_name(kind, peak):
    flops, origin = peak_flops(kind, "bfloat16", 2)
    assert ("NumPy" in origin) == (peak is None) and (peak is None or flops == pytest.approx(2e12 * peak))
    assert origin.startswith("float16" if "T4" in kind.split() else ("bfloat16", "best"))


def test_the_recipe_for_a_gpu_is_gpt_2s_smallest():
    recipe = load("recipes/decoder-125m.toml", [])
    size = trained_size(parameters(recipe.model, recipe.data.vocabulary, (recipe.data.sequence,)))
    assert size == pytest.approx(124.5e6, rel=1e-3)
    assert recipe.jax.kernel(recipe.train.precision, recipe.model.head_width, 1024, False, "gpu", "8.9") == "cudnn"
