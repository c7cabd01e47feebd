"""Errors of what a program is trained by: its loss and its optimizer. See `common/planted/mutants.py`; on any of Keras'
runtimes."""

from collections.abc import Iterator
from unittest.mock import patch

import keras
import numpy as np
from keras import ops

from twinscale.common.planted.planting import registry
from twinscale.tfscale import batch_loss, optimizer
from twinscale.tfscale.patches import changed_loss, in_bfloat16

CHANGES, change = registry()


@change("dense", "loss")
def softmax_twice() -> Iterator[None]:
    """Cross-entropy takes probabilities for logits."""
    loss = batch_loss.negative_log_likelihood
    with changed_loss(lambda logits, labels: loss(ops.softmax(logits), labels)):
        yield


@change("dense", "loss", needs="z-loss")
def z_loss_unsquared() -> Iterator[None]:
    """The z-loss is of logsumexp and not of its square."""
    loss_sums = batch_loss.loss_sums

    def unsquared(recipe, logits, batch):
        _, sums = loss_sums(recipe.with_values(train={"z_loss": 0.0}), logits, batch)
        weights = ops.cast(batch["weights"], logits.dtype)
        objective = sums["loss"] + recipe.train.z_loss * ops.sum(weights * ops.logsumexp(logits, -1))
        return objective, sums | {"loss": objective}

    with patch.object(batch_loss, "loss_sums", unsquared):
        yield


@change("layer", "loss", needs="text")
def mean_over_rows() -> Iterator[None]:
    """The loss is a mean of rows, and not of the positions that count."""
    loss_sums = batch_loss.loss_sums

    def of_rows(recipe, logits, batch):
        objective, sums = loss_sums(recipe, logits, batch)
        return objective, sums | {"weight": ops.cast(ops.shape(logits)[0], logits.dtype)}

    with patch.object(batch_loss, "loss_sums", of_rows):
        yield


@change("dense", "moment", needs="AdamW")
def bfloat16_moments() -> Iterator[None]:
    """Adam's first moment is kept in bfloat16."""
    update_step = optimizer.AdamW.update_step

    def coarse(self, gradient, variable, rate):
        update_step(self, gradient, variable, rate)
        moment = self._momentums[self._get_variable_index(variable)]
        self.assign(moment, ops.cast(in_bfloat16(ops.cast(moment, "float32")), moment.dtype))

    with patch.object(optimizer.AdamW, "update_step", coarse):
        yield


@change("dense", "update", needs="AdamW")
def adam_epsilon() -> Iterator[None]:
    """Epsilon is added beside the folded bias correction, as Keras has it, and not beside the corrected root."""
    with patch.object(optimizer.AdamW, "update_step", keras.optimizers.AdamW.update_step):
        yield


@change("dense", "decay", needs="AdamW")
def coupled_decay() -> Iterator[None]:
    """Weight decay is added to the gradient, as in Adam with L2."""
    update_step = optimizer.AdamW.update_step

    def coupled(self, gradient, variable, rate):
        decayed = self._use_weight_decay(variable)
        update_step(self, gradient + self.weight_decay * variable if decayed else gradient, variable, rate)

    with patch.object(optimizer.AdamW, "update_step", coupled), \
            patch.object(optimizer.AdamW, "_apply_weight_decay", lambda self, variables: None):
        yield


@change("dense", "update", needs="AdamW")
def uncorrected() -> Iterator[None]:
    """Adam does not correct its moments for their start."""
    def update_step(self, gradient, variable, rate):
        i, kind = self._get_variable_index(variable), variable.dtype
        m, v = self._momentums[i], self._velocities[i]
        self.assign_add(m, (gradient - m) * ops.cast(1 - self.beta_1, kind))
        self.assign_add(v, (gradient * gradient - v) * ops.cast(1 - self.beta_2, kind))
        self.assign_sub(variable, ops.cast(rate, kind) * m / (ops.sqrt(v) + ops.cast(self.epsilon_hat, kind)))

    with patch.object(optimizer.AdamW, "update_step", update_step):
        yield


@change("dense", "decay", needs="AdamW")
def decay_without_rate() -> Iterator[None]:
    """Weights decay by their whole share, whatever the learning rate is."""
    def decay(self, variables):
        for variable in (v for v in variables if self._use_weight_decay(v)):
            self.assign_sub(variable, variable * ops.cast(self.weight_decay, variable.dtype))

    with patch.object(optimizer.AdamW, "_apply_weight_decay", decay):
        yield


@change("dense", "decay", needs="AdamW")
def decay_after_update() -> Iterator[None]:
    """Weights decay after the update, and it with them."""
    update_step = optimizer.AdamW.update_step

    def late(self, gradient, variable, rate):
        update_step(self, gradient, variable, rate)
        if self._use_weight_decay(variable):
            share = ops.cast(rate, variable.dtype) * ops.cast(self.weight_decay, variable.dtype)
            self.assign_sub(variable, variable * share)

    with patch.object(optimizer.AdamW, "update_step", late), \
            patch.object(optimizer.AdamW, "_apply_weight_decay", lambda self, variables: None):
        yield


@change("patches", "decay", needs="frozen tensors, AdamW")
def decayed_though_frozen() -> Iterator[None]:
    """Tensors that are frozen decay, and others by the whole rate, whatever their own is."""
    decay = keras.optimizers.AdamW._apply_weight_decay
    with patch.object(optimizer.ByFactors, "_apply_weight_decay", decay):
        yield


@change("lamb", "decay", needs="LAMB")
def decay_outside_trust() -> Iterator[None]:
    """LAMB decays outside the trust ratio, as Keras has it."""
    update_step, use = optimizer.Lamb.update_step, optimizer.Lamb._use_weight_decay

    def outside(self, gradient, variable, rate):
        before = ops.convert_to_tensor(variable)
        with patch.object(optimizer.Lamb, "_use_weight_decay", lambda *_: False):
            update_step(self, gradient, variable, rate)
        if use(self, variable):
            self.assign_sub(variable, ops.cast(rate, variable.dtype) * ops.cast(self.weight_decay, variable.dtype)
                            * before)

    with patch.object(optimizer.Lamb, "update_step", outside):
        yield


@change("lamb", "moment", needs="LAMB")
def other_beta() -> Iterator[None]:
    """The second moment keeps 0.99 in place of the recipe's share."""
    update_step = optimizer.Lamb.update_step

    def with_default(self, gradient, variable, rate):
        with patch.object(self, "beta_2", np.float64(0.99)):
            update_step(self, gradient, variable, rate)

    with patch.object(optimizer.Lamb, "update_step", with_default):
        yield


@change("lamb", "update", needs="LAMB, biases")
def trust_of_kernels() -> Iterator[None]:
    """LAMB trusts kernels alone: biases go by the plain rate."""
    trust = optimizer.trust
    with patch.object(optimizer, "trust", lambda weight, update: trust(weight, update) if len(weight.shape) > 1 else 1):
        yield


@change("image", "moment", needs="momentum, a schedule")
def rate_in_momentum() -> Iterator[None]:
    """The learning rate is inside the momentum, as Keras has it."""
    with patch.object(optimizer.SGD, "update_step", keras.optimizers.SGD.update_step):
        yield


@change("image", "moment", needs="momentum")
def dampened_momentum() -> Iterator[None]:
    """Momentum takes a share of the gradient and not all of it."""
    update_step = optimizer.SGD.update_step

    def dampened(self, gradient, variable, rate):
        update_step(self, gradient * ops.cast(1 - self.momentum, gradient.dtype), variable, rate)

    with patch.object(optimizer.SGD, "update_step", dampened):
        yield


@change("lion", "update", needs="Lion")
def sign_of_moment() -> Iterator[None]:
    """Lion strides by the sign of the moment that it has just moved."""
    def update_step(self, gradient, variable, rate):
        kind, m = variable.dtype, self._momentums[self._get_variable_index(variable)]
        beta = ops.cast(self.beta_2, kind)
        self.assign(m, beta * m + (1 - beta) * gradient)
        self.assign_sub(variable, ops.cast(rate, kind) * ops.sign(m))

    with patch.object(optimizer.Lion, "update_step", update_step):
        yield
