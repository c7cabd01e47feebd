"""Fused attention against the einsum reference, forward and backward, and which one a machine takes.

There is no GPU or TPU here: cuDNN's wrapper runs with JAX's own implementation of the same function behind it and is
lowered for CUDA, and the TPU's kernel is interpreted.
"""

import functools
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from twinscale.common.errors import BadInput
from twinscale.common.machine.options import chosen
from twinscale.common.recipe.running import Jax, Splash
from twinscale.common.recipe.schema import AXES
from twinscale.jaxscale import devices as jax_devices
from twinscale.jaxscale import devices_arrays, devices_compile
from twinscale.jaxscale.models import layers

pytestmark = pytest.mark.usefixtures("hurried")


def on_mesh(**shape):
    sizes = [shape.get(axis, 1) for axis in AXES]
    grid = np.array(jax.devices()[:int(np.prod(sizes))]).reshape(sizes)
    return jax_devices.Devices(Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES)))


@pytest.fixture
def by_xla(monkeypatch):
    """cuDNN's wrapper, with JAX's plain implementation behind it."""
    plain = functools.partial(layers.cudnn_attention, implementation="xla")
    monkeypatch.setitem(layers.FUSED, "cudnn", plain)


def drawn(heads, kv, length, dtype, documents, rows=2, width=8):
    """Queries, keys, values, a cotangent and segments."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(rows, length, h, width)).astype(dtype) for h in (heads, kv, kv))
    segments = np.sort(rng.integers(0, 4, (rows, length)), 1).astype(np.int32) if documents else None
    return q, k, v, rng.normal(size=(rows, length, heads * width)).astype(dtype), segments


def outcome(kernel, devices, q, k, v, cotangent, segments, **options):
    """The output, and its gradients by q, k and v."""
    def total(q, k, v):
        with devices_arrays.laid_out(devices):
            mixed = layers.causal_attention(q, k, v, segments, kernel, **options)
        return (mixed * cotangent).sum(), mixed

    gradients, mixed = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))(q, k, v)
    return [np.asarray(x) for x in (mixed, *gradients)]


# The softmax is in float32 in both kernels, whatever their inputs: a score of at most 8 here is rounded to 8 u,
# u = 2^-24, its exponential is off by that and 2 u of its own, its share by twice that: 20 u. A gradient by a query or
# a key is a difference of products of shares with values, 3 such errors, 60 u, of terms that cancel to no less than a
# quarter of their scale: 240 u. The splash kernel, in float32 throughout, adds contractions of K = 256 terms, each
# sqrt(K) u = 16 u, four in a row: 64 u more. Twice all of it for the scale of sums against that of terms.
# The ring is wide throughout, u = 2^-53 in float64: as splash, but for 4 blocks, before each of which sums are scaled
# by an exponential of a difference of scores, 10 u as above, twice: 80 u more.
BOUND = {"cudnn": 2 * 240 * 2.0**-24, "splash": 2 * 304 * 2.0**-24, "ring": 2 * 384 * 2.0**-53}
CASES = [("cudnn", {}, 4, True), ("cudnn", {}, 2, False), ("cudnn", {"data": 2, "tensor": 2}, 2, True),
         ("cudnn", {"tensor": 4}, 2, False), ("splash", {}, 4, False), ("splash", {}, 1, True),
         ("splash", {"fsdp": 2, "tensor": 2}, 2, True), ("splash", {"tensor": 2, "sequence": 2}, 1, True),
         ("ring", {"sequence": 4}, 2, True), ("ring", {"tensor": 2, "sequence": 2}, 1, False)]


@pytest.mark.parametrize("kernel, shape, kv, documents", CASES)
def test_fused_attention_is_the_einsum(by_xla, kernel, shape, kv, documents):
    """On a mesh too, with keys of fewer heads than devices that share them."""
    wide = kernel != "splash"
    with jax.enable_x64(wide), jax.default_matmul_precision("highest"):
        given = drawn(4, kv, 12 if wide else 256, np.float64 if wide else np.float32, documents)
        wanted = outcome("einsum", on_mesh(), *given)
        found = outcome(kernel, on_mesh(**shape), *given)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < BOUND[kernel] * np.abs(theirs).max()


def test_blocks_of_other_sizes_and_fused_gradients_are_the_einsum():
    """Where queries are shared too; each size is another than the one beside it, so that none is taken for it."""
    sizes = {"block_q": 128, "block_kv": 256, "block_kv_compute": 128, "block_q_dkv": 128, "block_kv_dkv": 256,
             "block_kv_dkv_compute": 128, "use_fused_bwd_kernel": True}
    with jax.default_matmul_precision("highest"):
        given = drawn(4, 2, 256, np.float32, True)
        wanted = outcome("einsum", on_mesh(), *given)
        found = outcome("splash", on_mesh(tensor=2, sequence=2), *given, blocks=Splash(**sizes))
    for ours, theirs in zip(found, wanted, strict=True):
        assert np.abs(ours - theirs).max() < BOUND["splash"] * np.abs(theirs).max()


def test_a_mix_that_is_kept_by_name_runs_no_kernel_again(capsys):
    """What the backward pass keeps has the kernel's sums of exponentials beside its output, all that it reads of it."""
    q, k, v, *_ = drawn(2, 2, 128, np.float32, False)

    def kept(**how):
        policy = layers.kept_by(Jax(remat="full", **how))
        jax.ad_checkpoint.print_saved_residuals(
            jax.checkpoint(lambda q: layers.causal_attention(q, k, v, None, "splash"), policy=policy), q)
        return [line.split(" ")[0] for line in capsys.readouterr().out.splitlines() if "_splash_attention" in line]

    assert (kept(), kept(remat_save=("attention.mix",))) == ([], ["f32[2,2,128,8]", "f32[2,2,128]"])


def test_the_bound_tells_a_wrong_scale_and_a_crossed_document(by_xla):
    with jax.default_matmul_precision("highest"):
        q, k, v, cotangent, segments = drawn(4, 2, 12, np.float32, True)
        wanted = outcome("einsum", on_mesh(), q, k, v, cotangent, segments)[0]
        for wrong in ((q * np.float32(1.001), k, v, cotangent, segments), (q, k, v, cotangent, None)):
            found = outcome("cudnn", on_mesh(), *wrong)[0]
            assert np.abs(found - wanted).max() > BOUND["cudnn"] * np.abs(wanted).max()


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_the_kernel_is_interpreted_only_where_there_is_no_tpu(monkeypatch, platform):
    """By the devices that it is traced for, which need not be this machine's."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel

    class Made(Exception):
        pass

    def make(*_, interpret, **__):
        raise Made(interpret)

    monkeypatch.setattr(splash_attention_kernel, "make_splash_mha", make)
    mesh = SimpleNamespace(size=1, devices=np.array([SimpleNamespace(platform=platform)], object))
    with devices_arrays.laid_out(SimpleNamespace(mesh=mesh)), pytest.raises(Made) as made:
        layers.splash_attention(*(jnp.zeros((1, 128, 1, 8)) for _ in range(3)))
    assert made.value.args == (platform != "tpu",)


@pytest.mark.slow
@pytest.mark.parametrize("dtype, bound", [(np.float32, 2 * 384 * 2.0**-24), (jnp.bfloat16, 2 * 20 * 2.0**-8)])
def test_a_ring_in_narrow_numbers_is_the_einsum_in_float64(dtype, bound):
    """In bfloat16, u = 2^-8, shares and an output are rounded once, 2 u. A gradient by a query or a key reads that
    output and is of rounded terms, and rounded, 5 u in all, where terms cancel to a quarter of their scale: 20 u."""
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        *given, segments = drawn(4, 2, 12, dtype, True)
        wanted = outcome("einsum", on_mesh(), *(x.astype(np.float64) for x in given), segments)
        found = outcome("ring", on_mesh(sequence=4), *given, segments)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == dtype and np.any(ours.astype(np.float64) != theirs)
        assert np.abs(ours.astype(np.float64) - theirs).max() < bound * np.abs(theirs).max()


def test_a_ring_whose_mix_is_kept_by_name_goes_around_once_less():
    """Keys and values are passed on forward, and with their gradients backward, and the gradients home; and where
    nothing is kept, keys and values forward again."""
    q, k, v, *_ = drawn(2, 2, 8, np.float32, False)

    def passed(**how):
        def total(q, k, v):
            with devices_arrays.laid_out(on_mesh(sequence=4)):
                return layers.causal_attention(q, k, v, None, "ring").sum()

        again = jax.checkpoint(total, policy=layers.kept_by(Jax(remat="full", **how)))
        return str(jax.make_jaxpr(jax.grad(again, (0, 1, 2)))(q, k, v)).count("ppermute[")

    assert (passed(), passed(remat_save=("attention.mix",))) == (2 + 2 + 4 + 2, 2 + 4 + 2)


@pytest.mark.parametrize("kernel, shape", [("cudnn", {}), ("splash", {}), ("ring", {"sequence": 4})])
def test_a_position_sees_its_past_in_its_document_alone(by_xla, kernel, shape):
    """By gradients: of one position's output by every key and value."""
    length, asked = 128, 70
    q, k, v, cotangent, _ = drawn(2, 2, length, np.float32, False, rows=1)
    segments = np.repeat([[0, 1, 2]], [50, 60, 18], axis=1).astype(np.int32)
    cotangent = cotangent * (np.arange(length) == asked)[None, :, None]
    _, dq, dk, dv = outcome(kernel, on_mesh(**shape), q, k, v, cotangent, segments)
    sees = np.abs(dk).max((0, 2, 3)) > 0
    assert np.array_equal(sees, (np.arange(length) >= 50) & (np.arange(length) <= asked))
    assert np.array_equal(np.abs(dv).max((0, 2, 3)) > 0, sees)
    assert np.array_equal(np.abs(dq).max((0, 2, 3)) > 0, np.arange(length) == asked)


# ---- in the model

@pytest.fixture
def fused(by_xla, monkeypatch):
    """Takes the kernel that a recipe names wherever it runs; returns those that were taken."""
    taken = []

    def kernel(self, *_, **__):
        taken.append(self.attention)
        return self.attention

    monkeypatch.setattr(Jax, "kernel", kernel)
    return taken


def test_a_later_token_moves_no_earlier_logit(open_room, recipe_of, fused):
    """Row r holds tokens of its own and asks for the loss at position r: its embeddings' gradients are those of
    logits r."""
    recipe, T = recipe_of("decoder", model={"tied": False, "positions": "rotary", "kv_heads": 2},
                          jax={"attention": "cudnn"}), 16
    segments = np.repeat([0, 1, 2], [5, 4, 7]).astype(np.int32)
    batch = {"inputs": np.arange(T * T, dtype=np.int32).reshape(T, T), "labels": np.full((T, T), 7, np.int32),
             "weights": np.eye(T, dtype=np.float32), "positions": np.tile(np.arange(T, dtype=np.int32), (T, 1)),
             "row": np.arange(T, dtype=np.uint32), "segments": np.tile(segments, (T, 1))}
    with open_room("jaxscale", recipe) as opened:
        gradient = opened.tensors(batch)["gradients/embedding.embedding"]
    sees = np.abs(gradient[:T * T]).reshape(T, T, -1).max(-1) > 0
    assert set(fused) == {"cudnn"}
    assert np.array_equal(sees, np.tril(np.ones((T, T), bool)) & (segments[:, None] == segments))


@pytest.mark.parametrize("execution, shape", [({"scan": True, "remat": "dots"}, {"data": 2, "tensor": 2}),
                                              pytest.param({"scan": False}, {}, marks=pytest.mark.slow)])
def test_a_model_with_it_has_the_same_gradients(open_room, recipe_of, fused, execution, shape):
    """A step's tensors in float64 but for two softmaxes in float32, whose errors the rest passes on: BOUND."""
    found = []
    for attention in ("einsum", "cudnn"):
        recipe = recipe_of("decoder", model={"kv_heads": 2}, jax={"attention": attention, **execution}, devices=shape)
        with open_room("jaxscale", recipe) as opened:
            found.append(opened.tensors())
    assert set(fused) == {"einsum", "cudnn"} and found[0].keys() == found[1].keys()
    for name, wanted in found[0].items():
        scale = np.abs(found[0][name.replace("key.bias", "key.kernel")]).max()  # a key's bias has no gradient
        assert np.abs(found[1][name] - wanted).max() < BOUND["cudnn"] * scale, name
    assert any(np.any(found[1][name] != wanted) for name, wanted in found[0].items())


def test_places_are_those_of_the_einsum(open_room, recipe_of):
    """A fused kernel has no scores to look at."""
    with open_room("jaxscale", recipe_of("decoder", model={"layers": 1}, jax={"attention": "cudnn"})) as opened:
        taps = opened.room.make_step_taps(opened.recipe, opened.dataset, opened.state, opened.devices)
        assert {f"forward/block_0.attention.{place}" for place in ("scores", "mask", "shares", "mix")} <= set(
            taps(opened.state, 0, opened.batch()))


def test_a_kernel_that_cannot_run_here_is_refused_before_anything_runs(open_room, recipe_of):
    recipe = recipe_of("decoder", train={"precision": "bfloat16"}, jax={"attention": "cudnn"})
    with open_room("jaxscale", recipe) as opened, pytest.raises(BadInput, match="needs an NVIDIA GPU, this is cpu"):
        opened.room.make_step(recipe, opened.state, opened.devices)


# ---- on CUDA, as far as there is one

@pytest.mark.parametrize("shape, documents", [({}, True), ({"data": 2, "tensor": 2}, False)])
def test_it_lowers_to_cudnns_calls(monkeypatch, shape, documents):
    """For CUDA, which a CPU can lower for: forward and backward, with a mask only where documents are kept apart."""
    from jax import export
    from jax._src.cudnn import fused_attention_stablehlo

    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    devices, name = on_mesh(**shape), "__cudnn$fmha" + "ScaleBias" * documents + "Softmax"

    def total(q, k, v, segments):
        with devices_arrays.laid_out(devices):
            return layers.causal_attention(q, k, v, segments, "cudnn").astype(jnp.float32).sum()

    given = [jax.ShapeDtypeStruct((4, 64, heads, 16), jnp.bfloat16, sharding=devices.whole) for heads in (4, 2, 2)]
    given.append(jax.ShapeDtypeStruct((4, 64), jnp.int32, sharding=devices.whole) if documents else None)
    known = [export.DisabledSafetyCheck.custom_call(call) for call in (name, name + "Backward")]
    lowered = export.export(jax.jit(jax.grad(total, (0, 1, 2))), platforms=["cuda"], disabled_checks=known)(*given)
    calls = re.findall(r'custom_call @("?[\w$]+)', lowered.mlir_module())
    assert [call for call in calls if "cudnn" in call] == [name, name + "Backward"]


# ---- the recipe

def test_the_recipe_means_the_same(recipe_of):
    plain, other = (recipe_of("decoder", jax=values) for values in ({}, {"attention": "cudnn", "deterministic": True}))
    assert plain.meaning == other.meaning and plain.hash != other.hash


# ---- XLA's options and environment

def test_determinism_is_asked_of_gpus_alone(recipe_of):
    def options(platform, **values):
        device = SimpleNamespace(platform=platform, compute_capability="9.0", device_kind="any")
        mesh = SimpleNamespace(devices=np.array([device], object), shape={"sequence": 1})
        return devices_compile.compiler_options(recipe_of("decoder", jax=values), SimpleNamespace(mesh=mesh))

    name = "xla_gpu_deterministic_ops"
    assert options("gpu", deterministic=True)[name] and name not in options("gpu")
    assert not any(name in options(platform, deterministic=True) for platform in ("cpu", "tpu"))
    assert options("gpu", deterministic=True, overlap=False) == {name: True}
    # XLA knows the name, and refuses those that it does not.
    jax.jit(lambda x: x + 1, compiler_options={name: True})(1)
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        jax.jit(lambda x: x + 1, compiler_options={name + "s": True})(1)


def test_what_a_libtpu_refuses_is_not_asked_of_it(recipe_of, monkeypatch, tmp_path):
    """0.0.43.2, 0.0.45 and all newer ones that were tried fuse gathers on a v5e alone."""
    monkeypatch.setenv("TPU_LIBRARY_PATH", str(tmp_path / "libtpu" / "libtpu.so"))

    def asked(version, kind):
        for old in tmp_path.glob("*.dist-info"):
            old.rmdir()
        (tmp_path / f"libtpu-{version}.dist-info").mkdir()
        device = SimpleNamespace(platform="tpu", device_kind=kind)
        mesh = SimpleNamespace(devices=np.array([device], object), shape={"sequence": 1})
        return set(devices_compile.compiler_options(recipe_of("decoder"), SimpleNamespace(mesh=mesh)))

    def whole(kind):
        return set(chosen("tpu", kind, ("overlap",)))

    part = "xla_tpu_enable_async_collective_fusion_fuse_all_gather"
    for version, kind in (("0.0.42.1", "TPU v4"), ("0.0.50.1", "TPU v5 lite"), ("0.0.45", "TPU v5 lite")):
        assert asked(version, kind) == whole(kind) and part in whole(kind)
    for version in ("0.0.43.2", "0.0.45", "0.0.52"):
        for kind in ("TPU v4", "TPU7x"):
            assert whole(kind) - asked(version, kind) == {part}
        for kind in ("TPU v5", "TPU v6 lite"):  # whose SparseCores gather: it is switched off, which nobody refuses
            assert asked(version, kind) == whole(kind) and chosen("tpu", kind, ("overlap",))[part] is False


def test_an_option_that_the_compiler_refuses_is_left_out_with_one_line(capsys):
    """At the first call, whose arguments it may take for itself; the step then runs with what is left."""
    step = devices_compile.jit(lambda x: x + 1, {"xla_no_such_option": True, "xla_cpu_enable_fast_math": False}, {},
                           donate_argnums=0)
    assert [float(step(jax.numpy.float32(n))) for n in (1, 2)] == [2, 3]
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith("XLA's option xla_no_such_option is left out")
    assert step.lower(jax.numpy.float32(1)).compile()


def test_what_is_compiled_in_haste_asks_only_for_options_that_xla_knows():
    """Unlike a step's, they are not left out where it refuses them; as flags they would end the process."""
    assert devices_compile.haste() and devices_compile.jit_once(lambda x: x + 1)(1) == 2


def test_a_recipes_own_option_is_passed_on_or_named_before_anything_runs(recipe_of):
    def options(**own):
        recipe = recipe_of("mlp", jax={"xla_options": own})
        return devices_compile.compiler_options(recipe, jax_devices.open_devices(recipe))

    assert options(xla_cpu_enable_fast_math=False) == {"xla_cpu_enable_fast_math": False}
    for own in ({"xla_no_such_option": True}, {"xla_cpu_enable_fast_math": "perhaps"}):
        with pytest.raises(BadInput, match=f"jax.xla_options.{next(iter(own))}: XLA refuses it: .*; take it out"):
            options(**own)


SAID = """FAILED_PRECONDITION: Continuation fusion for AllGather is enabled on platform viperfish (variant: ), but it \
is not supported/recommended on platforms other than TPU v5e, and this might lead to many errors including but not \
limited to: incorrect results, hang, SDC, etc. Please disable it with \
xla_tpu_enable_async_collective_fusion=false"""  # libtpu 0.0.50.1


def test_of_what_the_compiler_names_the_part_goes_that_it_will_not_have(capsys):
    """libtpu names the whole, whose default is on, and leaving that out would change nothing."""
    part = "xla_tpu_enable_async_collective_fusion_fuse_all_gather"

    def attempt(options):
        if part in options:
            raise jax.errors.JaxRuntimeError(SAID)
        return options

    ours = chosen("tpu", "TPU v5 lite", ("overlap",))
    assert set(ours) - set(devices_compile.compiling(attempt, ours, {})) == {part}
    line, = capsys.readouterr().err.splitlines()
    assert part in line and "hang, SDC" in line
    with pytest.raises(BadInput, match=f"jax.xla_options.{part}: XLA refuses it"):
        devices_compile.compiling(attempt, {part: True}, {part: True})


def test_what_is_no_option_passes_through():
    with pytest.raises(TypeError, match="no option's fault"):
        devices_compile.compiling(lambda options: (_ for _ in ()).throw(TypeError("no option's fault")),
                                  {"xla_a": 1}, {})
