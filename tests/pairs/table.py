"""The pairs of this folder, each a module with keras_model(), port(error) and inputs(): {name: (what the place of its
planted error says, what its cause says)}; "" where nothing is to be known."""

PAIRS = {
    "autoencoder": ("after up_2", "a applies sigmoid, b no activation."),
    "bert": ("between block_0_intermediate and block_0_output", "a applies the exact GELU, b the tanh GELU."),
    "causal_conv": ("at conv_1, whose inputs agree", "Of zeros before each axis of the image a pads 2, b 1."),
    "channels_first": ("at conv2d_1, whose inputs agree", "Of zeros before each axis of the image a pads 0, b 1."),
    "experts": ("between gate and mixer", "a takes a softmax over axis 2, b over axis 0."),
    "gpt": ("between block_0/multi_head_attention/query and block_0/multi_head_attention/attention_output", ""),
    "gru": ("between the inputs and read", ""),  # a loop of a pure function is one operation
    "highway": ("between highway_1/dense and highway_2/dense", ""),
    "lstm": ("at rnn/lstm_cell, whose inputs agree", ""),
    "masked_mean": ("between dense and dense_1", "What b passes on is 1, 0.6, 0.2 times what a does, by row."),
    "mixer": ("at mixer_0_norm_1, whose inputs agree", "a takes a norm over axes 2, b over axes 1 and 2."),
    "mobile": ("between dw_bn_0 and pw_0", "a applies ReLU6, b ReLU."),
    "old_batch_norm": ("at bn, in training alone", "a keeps 0.99 of a running statistic in each step"),
    "padded_vocabulary": ("between shared and mix", "What b passes on is 0.353553 times what a does."),
    "pooled_attention": ("and merge, whose inputs differ", "that present masks in part: how the mask is applied."),
    "resnet": ("at stem_bn, whose inputs agree", "a divides by a root of the variance and 0.001, b by one with 1e-05."),
    "sequential_mlp": ("at dense_2, whose inputs agree", "b leaves out the bias."),
    "swiglu": ("between block_0/v and block_0/o", ""),
    "two_towers": ("after user_tower, the last", "What b passes on is 0.07 times what a does."),
    "unet": ("between mid and dec", "b has the first 4 of a's 8 channels last."),
    "vision": ("and encoder_0_norm2, whose inputs differ", "a calls encoder_0_norm2 right before encoder_0_mlp1"),
}

# At how many places else a port parts, fed with what the original has: where a block that errs is there again, a norm
# stands elsewhere, or, of channels_first, the match is that of the port that errs and turns the dense layer's rows.
ELSEWHERE = {"bert": 1, "channels_first": 1, "gpt": 1, "highway": 2, "mixer": 3, "resnet": 5, "swiglu": 1, "vision": 5}

# Of a port that errs: it is caught, but no match brings the outputs to agree, and that of the names is a wrong one.
MISLED = {
    "highway": "two square kernels of one name: outputs that differ anyway do not say which is which, nor how they lie",
    "pooled_attention": "keys and values by head or beside each other: outputs that differ anyway do not say",
}
# All but a few, which the whole suite has too.
QUICK = ("padded_vocabulary", "sequential_mlp")
SLOW = tuple(name for name in PAIRS if name not in QUICK)
