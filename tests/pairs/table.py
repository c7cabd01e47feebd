"""The pairs of this folder, each a module with keras_model(), port(error) and inputs(): {name: (what the place of its
planted error says, what its cause says)}; "" where nothing is to be known."""

PAIRS = {
    "sequential_mlp": ("at dense_2, whose inputs agree and whose outputs do not", "b leaves out the bias."),
    "bert": ("between block_0_intermediate and block_0_output", "a applies the exact GELU, b the tanh GELU"),
    "swiglu": ("between block_0/v and block_0/o, whose inputs differ", ""),
    "gpt": ("", ""),
    "resnet": ("at stem_bn", "root of the variance and 0.001, b by one with 1e-05"),
    "mobile": ("between dw_bn_0 and pw_0", "a applies ReLU6, b ReLU."),
    "channels_first": ("at conv2d_1", "padding"),
    "two_towers": ("after ", "0.07 times"),
    "lstm": ("at rnn/lstm_cell", ""),
    "autoencoder": ("after up_2", "a applies sigmoid, b no activation."),
    "mixer": ("at mixer_0_norm_1", "axes"),
}
