"""The optimizers of a recipe as keras.optimizers; the one semantics is written in `common/optimizers/`.

Own code stands only where Keras' semantics cannot be set, and says why.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from twinscale.common.errors import BadInput
from twinscale.common.families.parameters import is_decayed
from twinscale.common.optimizers import described
from twinscale.common.optimizers.factors import factor_of, is_frozen, moves_all_alike
from twinscale.common.registry import resolved
from twinscale.common.schedules import learning_rates
from twinscale.tfscale.bits import Tensor
from twinscale.tfscale.optimizer_pair import own_rest, own_slots

if TYPE_CHECKING:
    from twinscale.common.optimizers import OwnOptions
    from twinscale.common.recipe.schema import Recipe


def make_optimizer(recipe: "Recipe", variables: Mapping[str, keras.Variable]) -> keras.optimizers.Optimizer:
    """An optimizer, built on its variables.

    Args:
      recipe: the recipe.
      variables: {canonical name: variable} of everything trained.
    """
    o, kind = recipe.optimizer, described(recipe.optimizer)
    # Keras casts Python floats through float32: in float64 the constants must come as float64.
    number = np.float64 if recipe.train.precision == "float64" else float
    shared = {"learning_rate": rates(recipe), "weight_decay": number(o.weight_decay)}
    optimizer = resolved(kind.keras)(o, shared, number)
    if not isinstance(optimizer, Summed):
        optimizer.__class__ = type(type(optimizer).__name__, (Summed, type(optimizer)), {})
    if not moves_all_alike(recipe):
        optimizer.__class__ = type(type(optimizer).__name__, (ByFactors, type(optimizer)), {})
        object.__setattr__(optimizer, "factors", [factor_of(recipe, name) for name in variables])
    if not kind.theirs:
        optimizer.exclude_from_weight_decay([v for name, v in variables.items() if not is_decayed(name)])
    optimizer.build(list(variables.values()))
    # By TensorFlow's own way they would be tracked.
    object.__setattr__(optimizer, "held", own_slots(optimizer, len(variables)) if kind.theirs else kind.slots(o))
    object.__setattr__(optimizer, "rest", own_rest(optimizer, variables) if kind.theirs else {})
    begun = [ops.convert_to_numpy(v) for v in optimizer.variables] if kind.theirs else []
    object.__setattr__(optimizer, "begun", begun)
    check_slots(optimizer, len(variables))
    return optimizer


def adamw(o: "OwnOptions", shared: Mapping[str, Any], number: Callable[[float], Any]) -> keras.optimizers.Optimizer:
    """Loshchilov & Hutter 2019, as `common/optimizers/adamw.py` writes it. `shared` holds what every optimizer takes,
    rate and decay; `number` makes a constant that stays float64 where the training is."""
    return AdamW(**shared, beta_1=number(o.beta1), beta_2=number(o.beta2), epsilon=number(o.epsilon))


def sgd(o: "OwnOptions", shared: Mapping[str, Any], number: Callable[[float], Any]) -> keras.optimizers.Optimizer:
    """As `common/optimizers/sgd.py` writes it; Keras makes no slot where the momentum is 0. `number` is not needed:
    `SGD` casts the momentum itself."""
    return SGD(**shared, momentum=float(o.momentum), nesterov=o.nesterov)


def lion(o: "OwnOptions", shared: Mapping[str, Any], number: Callable[[float], Any]) -> keras.optimizers.Optimizer:
    """Chen et al. 2023, as `common/optimizers/lion.py` writes it; arguments as of `adamw`."""
    return Lion(**shared, beta_1=number(o.beta1), beta_2=number(o.beta2))


def lamb(o: "OwnOptions", shared: Mapping[str, Any], number: Callable[[float], Any]) -> keras.optimizers.Optimizer:
    """You et al. 2020, algorithm 2, as `common/optimizers/lamb.py` writes it; arguments as of `adamw`."""
    return Lamb(**shared, beta_1=number(o.beta1), beta_2=number(o.beta2), epsilon=number(o.epsilon))


def check_slots(optimizer: keras.optimizers.Optimizer, count: int) -> None:
    """Raises BadInput unless an optimizer's slots, a variable for each of `count` weights, are all that it keeps."""
    for slot, where in optimizer.held.items():
        if len(getattr(optimizer, where.keras, None) or ()) != count:
            raise BadInput(f"optimizer.name: {type(optimizer).__name__} of Keras has no {where.keras} for each weight, "
                           f"which the description has for the slot {slot}")
    known = {id(v) for variables in slots(optimizer).values() for v in variables} | {id(optimizer.iterations)}
    known |= {id(v) for v in optimizer.rest.values()}
    if others := [v.path for v in optimizer.variables if id(v) not in known]:
        raise BadInput(f"optimizer.name: {type(optimizer).__name__} of Keras keeps {others[0]}, which is in no slot")


def reset(optimizer: keras.optimizers.Optimizer) -> None:
    """Puts the values before the first update into an optimizer's slots."""
    for variable, value in zip(optimizer.variables, optimizer.begun, strict=False):  # of a user's own
        variable.assign(value)
    if optimizer.begun:
        return
    for slot, variables in slots(optimizer).items():
        for variable in variables:
            variable.assign(ops.full(variable.shape, optimizer.held[slot].first, variable.dtype))
    optimizer.iterations.assign(0)


def rates(recipe: "Recipe") -> keras.optimizers.schedules.LearningRateSchedule:
    """The shared table of learning rates as a schedule: updates done (an integer) to the rate of the next."""
    table = learning_rates(recipe)

    class Rates(keras.optimizers.schedules.LearningRateSchedule):
        """Stays float64 until it is used: Keras would keep a bare rate in a float32 variable."""

        def __call__(self, count):
            return ops.take(ops.convert_to_tensor(table), ops.minimum(ops.cast(count, "int32"), len(table) - 1))

    return Rates()


def slots(optimizer: keras.optimizers.Optimizer) -> dict[str, list[keras.Variable]]:
    """{slot: variables in the order of the optimizer's variables}; the names are those of the canonical semantics."""
    return {slot: getattr(optimizer, where.keras) for slot, where in optimizer.held.items()}


def clip(gradients: Sequence[Tensor], limit: float) -> tuple[Sequence[Tensor], Tensor]:
    """Gradients within a global norm of `limit` (0: unclipped), and the norm before. As the semantics has it:
    TensorFlow's own rounds a gradient that needs no clipping, and makes all NaN where the norm overflows."""
    norm = ops.sqrt(sum(ops.sum(ops.square(g)) for g in gradients))
    if limit:
        scale = ops.minimum(ops.ones_like(norm), limit / norm)
        gradients = [g * scale for g in gradients]
    return gradients, norm


def average(averages: Iterable[Any], variables: Iterable[keras.Variable], decay: float) -> None:
    """One step of the weights' moving average. Keras' own starts over at the first update."""
    for a, w in zip(averages, variables, strict=True):
        a.assign(a * ops.convert_to_tensor(decay, a.dtype) + w * ops.convert_to_tensor(1 - decay, w.dtype))


class Summed:
    """For gradients that are summed over replicas before they are clipped: Keras would clip first and sum here."""

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars


class ByFactors:
    """Moves each weight by its own factor of the learning rate, which Keras has one of, and leaves frozen ones and
    their slots where they lie: nothing would come of reading and writing them but time."""

    part = 1.0  # the factor of the weight that is moved
    factors: Sequence[float]  # of all of them, in order
    _get_variable_index: Callable[[Any], int]  # of the optimizer that it stands before

    def _get_current_learning_rate(self):
        return super()._get_current_learning_rate() * self.part

    def _apply_weight_decay(self, variables):
        for variable in variables:  # which all replicas come to one after the other
            object.__setattr__(self, "part", self.factors[self._get_variable_index(variable)])
            if self.part:
                super()._apply_weight_decay([variable])
        object.__setattr__(self, "part", 1.0)

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        if factor := self.factors[self._get_variable_index(variable)]:
            super().update_step(gradient, variable, learning_rate * factor)


def still(recipe: "Recipe", trained: Mapping[str, keras.Variable]) -> list[keras.Variable]:
    """The weights that gradients are taken of: those that are not frozen."""
    return [variable for name, variable in trained.items() if not is_frozen(recipe, name)]


class AdamW(Summed, keras.optimizers.AdamW):
    """Keras folds bias correction into the rate, so its epsilon must shrink by sqrt(1 - beta2^t) to mean the same."""

    def __init__(self, *, epsilon: float, **kwargs: Any) -> None:
        super().__init__(epsilon=epsilon, **kwargs)
        self.epsilon_hat = epsilon

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        t = ops.cast(self.iterations + 1, variable.dtype)
        self.epsilon = self.epsilon_hat * ops.sqrt(1 - ops.cast(self.beta_2, variable.dtype) ** t)
        super().update_step(gradient, variable, learning_rate)


class SGD(Summed, keras.optimizers.SGD):
    """Keras keeps the rate inside the momentum, which differs as soon as the rate moves."""

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        trace = self.momentums[self._get_variable_index(variable)] if self.momentum else None
        momentum = ops.convert_to_tensor(self.momentum, variable.dtype)
        step = gradient
        if trace is not None:
            step = trace * momentum + gradient
            self.assign(trace, step)
            if self.nesterov:
                step = gradient + momentum * step
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * step)


class Lion(Summed, keras.optimizers.Lion):
    """Keras' own Lion: the same semantics."""


class Lamb(Summed, keras.optimizers.Lamb):
    """Keras decays outside the trust ratio; the paper's algorithm 2 decays inside."""

    def _apply_weight_decay(self, variables):
        pass

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        i, kind = self._get_variable_index(variable), variable.dtype
        m, v, t = self._momentums[i], self._velocities[i], ops.cast(self.iterations + 1, kind)
        beta1, beta2 = ops.cast(self.beta_1, kind), ops.cast(self.beta_2, kind)
        self.assign(m, m * beta1 + gradient * (1 - self.beta_1))
        self.assign(v, v * beta2 + ops.square(gradient) * (1 - self.beta_2))
        update = (m / (1 - beta1**t)) / (ops.sqrt(v / (1 - beta2**t)) + self.epsilon)
        if self._use_weight_decay(variable):
            update += ops.cast(self.weight_decay, kind) * variable
        self.assign_sub(variable, ops.cast(learning_rate, kind) * trust(variable, update) * update)


def trust(weight: Tensor, update: Tensor) -> Tensor:
    """LAMB's ratio of a weight's norm to its update's, a scalar; 1 where either is 0."""
    w_norm, u_norm = (ops.sqrt(ops.sum(ops.square(x))) for x in (weight, update))
    return ops.where((w_norm > 0) & (u_norm > 0), w_norm / u_norm, ops.ones_like(u_norm))
