"""An export is a program: what could do more than compute is refused before it is loaded."""

import json

import jax
import numpy as np
import pytest
import tensorflow as tf
from jax import export

from twinscale.common import cli
from twinscale.jaxscale import predict as jax_predict
from twinscale.tfscale import predict as tf_predict


def saved_model(path, function):
    """A SavedModel of a function from and to (B, 2), of images of two pixels, as ours are: "inputs" to "logits"."""
    module = tf.Module()
    module.call = tf.function(lambda inputs: {"logits": function(tf.reshape(inputs, (-1, 2)))},
                              [tf.TensorSpec((None, 1, 2, 1), name="inputs")], autograph=False)
    module.v = tf.Variable(1.0)
    tf.saved_model.save(module, str(path), {"serving_default": module.call})


def writing(path):
    """A function that is harmless at first sight, and writes a file two calls further in."""
    @tf.function
    def inner(x):
        with tf.control_dependencies([tf.io.write_file(str(path), "here")]):
            return tf.identity(x)

    return lambda x: tf.cond(tf.reduce_sum(x) > -1.0, lambda: inner(x), lambda: x)


def test_a_saved_model_that_writes_a_file_is_refused_and_runs_with_trust(tmp_path, capsys):
    saved_model(tmp_path / "model", writing(tmp_path / "written"))
    np.save(tmp_path / "x.npy", np.ones((3, 1, 2, 1), np.float32))
    words = ["predict", str(tmp_path / "model"), "--input", str(tmp_path / "x.npy")]
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert not out and "WriteFile" in err and "--trust" in err and len(err.splitlines()) == 1
    assert not (tmp_path / "written").exists()
    assert cli.main([*words, "--trust"]) == 0 and (tmp_path / "written").exists()
    assert len([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == 3


@pytest.mark.parametrize("function, name", [
    (lambda x: tf.numpy_function(lambda x: x, [x], tf.float32), "PyFunc"),
    (lambda x: x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32), "ReadFile"),
    (lambda x: x + tf.cast(tf.size(tf.io.matching_files("/*")), tf.float32), "MatchingFiles"),
])
def test_files_and_python_are_no_arithmetic(tmp_path, function, name):
    saved_model(tmp_path, function)
    assert name in tf_predict.strange("savedmodel", tmp_path)


def test_arithmetic_is_not_strange_but_a_second_graph_beside_it_is(tmp_path):
    """TensorFlow takes saved_model.cpb or .pbtxt before the file that was looked into."""
    saved_model(tmp_path, lambda x: tf.nn.softmax(tf.matmul(x, tf.ones((2, 2)))) * 2)
    assert tf_predict.strange("savedmodel", tmp_path) == []
    (tmp_path / "saved_model.cpb").touch()
    assert tf_predict.strange("savedmodel", tmp_path) == ["saved_model.cpb"]


def test_a_litert_file_with_an_operation_of_tensorflows_own_is_strange(tmp_path):
    traced = tf.function(lambda x: x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32),
                         [tf.TensorSpec((1, 2))])
    plain = tf.function(lambda x: x * 2 + 1, [tf.TensorSpec((1, 2))])
    for name, function in (("strange", traced), ("plain", plain)):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], tf.Module())
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        (tmp_path / name).write_bytes(converter.convert())
    assert "FlexReadFile" in tf_predict.strange("litert-float", tmp_path / "strange")
    assert tf_predict.strange("litert-float", tmp_path / "plain") == []


def test_a_program_of_jax_that_calls_what_is_not_its_own_is_strange(tmp_path):
    def calls(x):
        return jax.ffi.ffi_call("anything", jax.ShapeDtypeStruct(x.shape, x.dtype))(x)

    allowed = [export.DisabledSafetyCheck.custom_call("anything")]
    any_batch = jax.ShapeDtypeStruct(export.symbolic_shape("n, 2"), np.float32)  # as ours, which asserts what n is
    for name, function in {"strange": calls, "plain": jax.nn.gelu}.items():
        made = export.export(jax.jit(function), disabled_checks=allowed, platforms=["cpu"])(any_batch)
        (tmp_path / name).write_bytes(made.serialize())
    assert jax_predict.strange("stablehlo", tmp_path / "strange") == ["anything"]
    assert jax_predict.strange("stablehlo", tmp_path / "plain") == []
