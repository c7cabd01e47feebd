"""The pairs of this folder, each a module with keras_model(), port(error) and inputs(): {name: (what the place of its
planted error says, what its cause says)}; "" where nothing is to be known."""

PAIRS = {
    "sequential_mlp": ("at dense_2, whose inputs agree and whose outputs do not", "b leaves out the bias."),
    "bert": ("between block_0_intermediate and block_0_output", "a applies the exact GELU, b the tanh GELU"),
    "swiglu": ("between block_0/v and block_0/o, whose inputs differ", ""),
}
