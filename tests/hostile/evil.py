"""Models whose files hold more than a model: `python -m tests.hostile.evil PRISTINE` makes them in PRISTINE/evil."""

import json
import sys
import zipfile
from pathlib import Path

PLACE = "@" * 200  # in the place of a path, which a case writes in at this length


def saved_models(out):
    """SavedModels whose graphs do something to files, to the terminal, or call Python."""
    import tensorflow as tf

    def read(_):
        return tf.io.read_file(PLACE)

    def write(_):
        tf.io.write_file(PLACE, "ran")
        return tf.constant("")

    def prints(_):
        tf.print("\x1b[31mowned")
        return tf.constant("")

    def python(x):
        return tf.numpy_function(lambda x: b"", [x], tf.string)

    for name, effect in (("reads_file", read), ("writes_file", write), ("prints", prints), ("python", python)):
        model = tf.Module()
        model.call = calling(tf, effect)
        tf.saved_model.save(model, str(out / name), signatures={"serving_default": model.call})


def calling(tf, effect):
    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 1), tf.float32, "inputs")])
    def call(inputs):
        length = tf.cast(tf.strings.length(effect(inputs)), tf.float32)
        return {"logits": tf.reshape(inputs, (-1, 64))[:, :10] + 0.0 * length}

    return call


def keras_files(made, out):
    """.keras files that name what is to be called when they are loaded."""
    import keras

    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Lambda(lambda x: x[:, :10])]).save(
        out / "lambda.keras")
    with zipfile.ZipFile(made / "export-keras" / "model.keras") as source:
        files = {name: source.read(name) for name in source.namelist()}
    for name, module, called in (("system", "os", "system"), ("eval", "builtins", "eval")):
        config = json.loads(files["config.json"])
        layer = config["config"]["layers"][1]
        layer |= {"module": module, "class_name": called, "registered_name": None}
        layer["config"] = {"command": "touch CANARY", "source": "open('CANARY', 'w')"}
        with zipfile.ZipFile(out / f"{name}.keras", "w") as target:
            for file, content in (files | {"config.json": json.dumps(config).encode()}).items():
                target.writestr(file, content)


def make(made):
    out = made / "evil"
    out.mkdir(exist_ok=True)
    saved_models(out)
    keras_files(made, out)


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())
