"""How Sphinx makes these pages: `make docs`. What a command, a recipe's key or a function says is asked of the code."""

import os
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
os.environ["COLUMNS"] = "100"  # of the commands' own help
os.environ["NO_COLOR"] = "1"

import generated  # noqa: E402

warnings.filterwarnings("ignore", "Default value .* is not JSON serializable")  # of jax.xla_options: none

project = "Twinscale"
author = "the Twinscale authors"
copyright = "the Twinscale authors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
nitpicky = True
smartquotes = False  # what is quoted may be typed

html_theme = "furo"
html_title = "Twinscale"
html_copy_source = False

myst_heading_anchors = 4  # as GitHub names them: pages link to each other's headings there and here

# The frameworks, and what only draws, reads or writes, are not imported, so that these pages take seconds.
autodoc_mock_imports = [
    "tensorflow", "keras", "tf_keras", "tensorflow_model_optimization", "tensorflow_datasets", "array_record",
    "jax", "jaxlib", "flax", "optax", "orbax", "matplotlib", "mlxtend", "PIL", "sklearn", "tensorboardX", "tokenizers",
]
autodoc_default_options = {"members": True, "member-order": "bysource", "exclude-members": "model_config"}
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"


def setup(app):
    app.connect("source-read", generated.fill)
    app.connect("autodoc-process-docstring", generated.plain)
    app.connect("autodoc-process-bases", lambda *arguments: arguments[-1].clear())
