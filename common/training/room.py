"""What a backend gives to `common`: a `Room`. `tfscale.room.ROOM` and `jaxscale.room.ROOM` are those there are; nobody
here asks a backend for anything that does not stand here."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from twinscale.common.data import Dataset
from twinscale.common.recipe.schema import Recipe

State = Any  # the backend's own: all that a step reads and moves; its `step` is the number of updates done
Tensors = dict[str, np.ndarray]  # by name
Batch = Mapping[str, Any]  # NumPy arrays (rows, ...), as `common.data.training_batches` gives them


class Devices(Protocol):
    """What a training runs on, seen from this process."""

    @property
    def names(self) -> list[str]:
        """Of the devices of all hosts."""

    @property
    def kind(self) -> str:
        """The maker's name of the devices, for their peak rate."""

    @property
    def host(self) -> int:
        """The number of this host among `hosts`."""

    @property
    def hosts(self) -> int:
        """How many processes train together."""

    @property
    def reader(self) -> int:
        """The number among `readers` of the hosts that read this one's rows."""

    @property
    def readers(self) -> int:
        """How many parts of a batch the hosts read, each its own."""

    @property
    def libraries(self) -> Iterable[tuple[str, Callable]]:
        """What multiplies matrices here besides NumPy: its name, and what `common.machine.flops.product_rate` takes."""


class Store(Protocol):
    """A run's checkpoints in a backend's format. `common/training/checkpoints.py` knows which of them are whole."""

    NAMES: str  # a pattern of all that is written of a step, whose first group is the step

    def write(self, step: int, state: State) -> None:
        """Begins to save a state under its step, and returns when the state may move on. Raises OSError."""

    def wait(self) -> None:
        """Until what was begun is on disk; raises what went wrong with it."""

    def read(self, step: int, state: State) -> State:
        """The state of a step, lying as `state` does; what it raises says that the files are none of it."""

    def files(self, step: int) -> list[Path]:
        """The files that hold a step, in order: none where it is missing."""

    def delete(self, step: int) -> None:
        """Removes a step, whole or half written."""

    def close(self) -> None:
        """Ends what writes in the background."""


class Stores(Protocol):
    """A class of `Store`s."""

    NAMES: str

    def __call__(self, path: Any, state: State, devices: Any) -> Store:
        """The store in a directory, for states such as `state`."""


class Step(Protocol):
    """One update, or several in one call: of a list of batches, up to `devices.steps_per_call`, it takes the steps from
    `number` on, each as it is alone, and every metric has a first axis, a row a step."""

    def __call__(self, state: State, number: int, batch: Batch | Sequence[Batch], signals: Sequence[int] = (0, 0, 0)
                 ) -> tuple[State, Mapping[str, Any]]:
        """(the state after it, metrics still being computed: "loss", of classes "accuracy", "gradient_norm",
        "learning_rate" and "signals", the sums over the hosts of numbers that each gives)."""


class StepTaps(Protocol):
    """A step place by place, without its update."""

    def __call__(self, state: State, number: int, batch: Batch, teacher: Tensors | None = None) -> Tensors:
        """{"forward/PLACE", "backward/PLACE", "loss/SUM", "gradients/NAME", "running/NAME": array} of the summed loss;
        with a `teacher`, such tensors of another backend, every place goes on with the teacher's."""


class Room(Protocol):
    """A backend. What compiles does so when it is first called; arrays that are given back are NumPy's."""

    @property
    def backend(self) -> str:
        """ "keras", "keras-jax" or "jax"."""

    @property
    def Store(self) -> Stores:
        """The class of its checkpoints."""

    @property
    def compressing(self) -> "Room":
        """The room of compression's stages: the same functions of a stage's recipe."""

    def numerics(self, recipe: Recipe) -> AbstractContextManager:
        """A context in which the recipe's precision holds; all else is called in it."""

    def open_devices(self, recipe: Recipe) -> Devices:
        """The devices that a recipe trains on. Raises BadInput or MissingEnvironment where they are not there."""

    def place(self, devices: Any, batch: Batch) -> Any:
        """A batch on the devices, as a step reads it."""

    def new_state(self, recipe: Recipe, dataset: Dataset, devices: Any, dither: float = 0.0, old: State | None = None
                  ) -> State:
        """The state before the first step, of dithered weights for a twin; what is compiled for `old`, a state of the
        same recipe whose memory it may take, goes on with it."""

    def make_step(self, recipe: Recipe, state: State, devices: Any) -> Step:
        """The update of states such as `state`, in whose memory it may leave the next."""

    def make_evaluate(self, recipe: Recipe, state: State, devices: Any) -> Callable[..., dict[str, float]]:
        """(state, batches, keep=None) to the summed statistics of an evaluation. Where a metric is of classes, `keep`
        is called with what is predicted of each batch, `common.metrics.rows.rows_of` as NumPy arrays; on one device."""

    def make_step_tensors(self, recipe: Recipe, state: State, devices: Any) -> Callable[[State, int, Batch], Tensors]:
        """(state, number, batch) to {"logits", "loss", "gradients/NAME": array} of a step before its update."""

    def make_sketch(self, recipe: Recipe, state: State, devices: Any) -> Callable[[State], Tensors]:
        """(state) to {"weights/NAME", "m/NAME", ...: sketch}, as `common.numbers.sketch.sketch` has it."""

    def make_step_taps(self, recipe: Recipe, dataset: Dataset, state: State, devices: Any) -> StepTaps:
        """What every place makes of a step."""

    def state_tensors(self, state: State) -> Tensors:
        """{"weights/NAME", "m/NAME", ...: array} of a state, on every host all of them."""

    def shared_tensors(self, recipe: Recipe) -> Tensors:
        """{what: array} of what the backends make by themselves and must share bit for bit."""

    def clip_gradients(self, recipe: Recipe, gradients: Tensors) -> Tensors:
        """Gradients by canonical name as the trainer clips them."""

    def apply_gradients(self, recipe: Recipe, state: State, devices: Any, updates: Iterable[Tensors]
                        ) -> Iterator[State]:
        """The state after each of `updates`, gradients by canonical name."""

    def with_tensors(self, recipe: Recipe, state: State, devices: Any, tensors: Tensors, step: int) -> State:
        """The state with tensors as `state_tensors` has them, and `step` updates done. Raises BadInput where names or
        shapes are others."""

    def agree(self, devices: Any, values: Sequence[int] | np.ndarray) -> np.ndarray:
        """The integers (n,) of every host, int64 (hosts, n); hosts wait here for each other."""

    def is_lost(self, error: BaseException) -> bool:
        """Whether an error says that another host is gone."""

    def extremes(self, recipe: Recipe, dataset: Dataset, devices: Any, tensors: Tensors, batches: Iterable[Batch]
                 ) -> dict[str, tuple[float, float]]:
        """{place: (min, max)}, zero included, of what a model that is not yet quantised computes over the batches."""

    def make_masks(self, stage: Any, update: int, tensors: Tensors) -> Tensors:
        """{name: mask} that a pruning stage makes of a model's tensors at an update, from 1."""

    def fake_quantise(self, x: np.ndarray, low: Any, high: Any, narrow: bool) -> np.ndarray:
        """Values as 8 bits have them under a range, float32; `narrow` leaves the lowest level out."""
