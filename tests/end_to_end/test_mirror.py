"""The two rooms are built alike: the same files, and in each the same public names in the same order."""

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("hurried")

HERE = Path(__file__).parents[2]
ROOMS = ("tfscale", "jaxscale")
# Files without a twin: devices of Keras share no positions, it has no products in 8 bits, and XLA writes the gradients
# of its products well; another framework's program is trained by JAX alone. Keras has two runtimes, of which one takes
# float64 for float32; the other is what a user's own program may ask for and not find.
LONE = {"framework.py": "jaxscale", "models/matmul.py": "jaxscale",
        "models/ring.py": "jaxscale", "models/products.py": "jaxscale",
        **dict.fromkeys(("absent.py", "models/layers_wide.py", "mutants_program.py", "mutants_tensorflow.py",
                         "mutants_update.py", "patches_step.py", "runtimes.py", "wide.py"),
                        "tfscale")}
FILES = sorted({path.relative_to(HERE / room).as_posix() for room in ROOMS for path in (HERE / room).rglob("*.py")}
               - LONE.keys())

# What one room offers and the other has no use for, by file.
ALONE = {
    # Under a strategy, replicas are called, summed and read by hand; jit does it all, told how each tensor lies.
    "devices.py": {"arranged", "local_devices", "rules_of"},
    "devices_arrays.py": {"run", "add_up", "first", "rows_of", "laid_out", "lay", "lay_weights", "sequence_shared",
                          "born", "place_signals", "lay_columns", "shares_apart", "products"},
    "devices_compile.py": {"compiler_options", "chunks_of", "compiling", "jit", "jit_once"},
    "devices_hosts.py": {"join_hosts", "read_cluster", "split_address", "hosts_strategy", "await_hosts", "knock",
                         "gather"},
    "lower.py": {"aliases"},  # the header of a module that TensorFlow lowered, which the room that compiles it reads
    "operations.py": {"implementations", "use_stock"},  # a Keras model has stock operations to put in place of ours
    "models/__init__.py": {"merge", "by_path"},  # a Flax module is taken apart into tensors, its blocks stacked
    # A Keras optimizer knows its slots; of an optax state it is said which of its fields they are.
    "optimizer.py": {"reset", "fields", "with_slots"},
    # What a built Keras optimizer keeps is looked up; of an optax state each entry is put back in its place.
    "optimizer_pair.py": {"own_slots", "own_rest", "with_own_slots", "path_of"},
    # Each framework's kinds of programs, of which pure functions have no modules to be called.
    "program_sight.py": {"seen_of_keras", "seen_of_linen", "seen_of_nnx", "called_and_seen"},
    "predict.py": {"custom_objects", "load_litert", "strange_saved", "strange_litert"},  # formats that TensorFlow reads
    "taps.py": {"tap", "unread", "scope", "named"},  # a Keras layer's name is its place; Flax modules say theirs
    # A Flax module's running statistics, which Keras keeps in variables; and how a state lies on a mesh. What a Keras
    # model computes with is given to it in the order of its variables.
    "train.py": {"running_of", "state_shardings", "at_hand", "forward", "computed", "module_of", "beside"},
    "trace.py": {"named_tensors"},
    # TF-MOT wraps layers, which hold their masks and ranges as variables; here stand functions of tensors.
    "compress/cluster.py": {"Clustered", "clustered", "with_zeros"},
    "compress/distil.py": {"parted"},
    "compress/model.py": {"adopted", "twin_variables", "wrapped_model"},
    "compress/prune.py": {"Pruned", "pruned", "masks_due"},
    "compress/quantize.py": {"of_weights", "quantised", "quantised_images", "on_grid", "quantising", "quotient",
                             "symmetric_range"},
    "compress/train.py": {"model_tensors", "through_places"},
    # What either framework has no stock version of, or a wrong or a slow one.
    # What a ViT is made of too: modules in one room, functions of layers in the other.
    "models/bottleneck.py": {"add_adapters"},  # Flax modules hold theirs
    "models/encoder.py": {"Bias", "Block", "norm", "through_blocks", "dropped"},
    "models/layers.py": {"layers", "dot_general", "Linear", "embedding", "attend", "rotary", "causal_attention",
                         "heads", "Part", "batch_norm", "add_blocks", "through_blocks",
                         "masked_attention", "padding_mask", "mean_over", "unit", "dropout", "in_chunks",
                         "looked_up",
                         "masters", "product",  # which jnp.promote_types and a product of XLA's need not
                         "to_train"},  # a Flax module asks the hooks whether its places are read
}


def public(room, file):
    """The public functions and classes at the top of a file, in order."""
    tree = ast.parse((HERE / room / file).read_text())
    return [node.name for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")]


def asked_for(room, file):
    """The names that other files of a room take from a file: what is not among them may be as the framework likes it.
    (Mutants reach into everything.)"""
    module = ".".join(["twinscale", room, *Path(file).with_suffix("").parts]).removesuffix(".__init__")
    parent, _, own = module.rpartition(".")
    names = set()
    for path in (HERE / room).rglob("*.py"):
        if path.name.startswith(("mutants", "patches")) or path == HERE / room / file:
            continue
        nodes = list(ast.walk(ast.parse(path.read_text())))
        called = {alias.asname or own for node in nodes if isinstance(node, ast.ImportFrom) and node.module == parent
                  for alias in node.names if alias.name == own}
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module == module:
                names |= {alias.name for alias in node.names}
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in called:
                names.add(node.attr)
    return names


@pytest.mark.parametrize("file", FILES)
def test_a_file_has_its_mirror_image(file):
    """The same names in the same order, but for those that only their own file, or only ALONE, knows of."""
    names = [public(room, file) for room in ROOMS]
    shared = set(names[0]) & set(names[1])
    asked = [set(asked_for(room, file)) for room in ROOMS]
    left, right = ([n for n in mine if n in shared or n in wanted and n not in ALONE.get(file, ())]
                   for mine, wanted in zip(names, asked, strict=True))
    assert left == right


def test_every_exception_is_one():
    assert all([room for room in ROOMS if (HERE / room / file).exists()] == [only] for file, only in LONE.items())
    for file, alone in ALONE.items():
        there = [set(public(room, file)) for room in ROOMS]
        assert alone <= there[0] ^ there[1], file


def test_no_two_files_import_each_other():
    """Nor in a ring, nor inside of functions: of every file it is clear which of the others it stands on."""
    paths = {".".join(("twinscale", *path.relative_to(HERE).with_suffix("").parts)).removesuffix(".__init__"): path
             for folder in ("common", *ROOMS, "benchmarks", "kerasjax", "swap")
             for path in (HERE / folder).rglob("*.py")}
    on = {name: imported(path, paths) - {name} for name, path in paths.items()}
    assert all(f"twinscale.{room}.export" in on[f"twinscale.{room}.predict"] for room in ROOMS)
    while free := {name for name, others in on.items() if not others}:  # what stands on nothing that is left
        on = {name: others - free for name, others in on.items() if name not in free}
    assert on == {}


def imported(path, known):
    """The modules of ours, `known`, that a file imports anywhere in it, but for what hints alone name, which no run
    imports."""
    names, tree = set(), ast.parse(path.read_text())
    tree.body = [node for node in tree.body
                 if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            below = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            names |= {below[name] if below[name] in known else node.module for name in below}
    return names & known.keys()


def test_there_is_something_to_mirror():
    assert len(FILES) >= 12 and {"train.py", "optimizer.py", "models/decoder.py"} <= set(FILES)
    asked = asked_for("jaxscale", "train.py") & asked_for("tfscale", "train.py")
    assert {"make_step", "compiled_step", "sum_gradients"} <= asked
    assert asked_for("jaxscale", "models/decoder.py") == {"build"} == asked_for("tfscale", "models/decoder.py")


def test_everything_is_imported_by_the_one_namespace():
    """A room that is imported by its bare name is another module than ours, where one of that name is there at all."""
    bare = {"common", "benchmarks", "kerasjax", "swap", *ROOMS}
    files = [path for folder in (*bare, "twinscale", "tests", "docs") for path in (HERE / folder).rglob("*.py")]
    asked = {(path, name.partition(".")[0]) for path in files for node in ast.walk(ast.parse(path.read_text()))
             for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else
                          [alias.name for alias in node.names] if isinstance(node, ast.Import) else [])}
    assert len(files) > 300 and {(path, name) for path, name in asked if name in bare} == set()
