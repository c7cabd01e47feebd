"""What is seen of a JAX program at work: what its modules are given and make; and of two pure functions, which have
none, the places at which tensors meet data, of which their jaxpr tells."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest.mock import patch

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from twinscale.common.pairs.dataflow import Place, Step, places
from twinscale.common.pairs.program import Fed, Seen

# How operations begin that call others.
CALLS = ("jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "custom_jvp", "custom_vjp")


# ---- modules

def floats(tree: Any) -> tuple[Any, ...]:
    """The float arrays of a tree, in order."""
    return tuple(x for x in jax.tree.leaves(tree) if _is_float(x))


def _is_float(x):
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)


def _fed(tree, values):
    """A tree with other values in place of its floats; as it is where there are none."""
    left = list(values)
    return jax.tree.map(lambda x: jnp.asarray(left.pop(0), x.dtype) if _is_float(x) else x, tree) if left else tree


def _called(function, name, given, named, seen):
    """What a module makes in a call, which fills `seen`; `function` takes its arguments."""
    values = (seen.next(name) if isinstance(seen, Fed) else None) or Seen(name, (), ())
    others, more = _fed((given, named), values.inputs)
    made = function(*others, **more)
    seen.append(Seen(name, floats((given, named)), floats(made)))
    return _fed(made, values.outputs)


@contextmanager
def _once(within, at):
    """While open, a module is being called: what it calls of itself, as its parent's `__call__`, is no other call."""
    within.add(at)
    try:
        yield
    finally:
        within.discard(at)


@contextmanager
def seen_of_linen(seen: list[Seen] | None) -> Iterator[None]:
    """While open, Linen's modules fill `seen`, as `Program.call` has it."""
    if seen is None:
        yield
        return

    within: set[int] = set()

    def intercept(function, given, named, context):
        at = id(context.module)
        if context.method_name != "__call__" or "params" not in context.module.scope.root._variables or at in within:
            return function(*given, **named)
        with _once(within, at):
            return _called(function, "/".join(context.module.path), given, named, seen)

    with linen.intercept_methods(intercept):
        yield


@contextmanager
def seen_of_nnx(module: nnx.Module, seen: list[Seen] | None, named: bool = False) -> Iterator[None]:
    """While open, modules fill `seen`, and operations have their modules' names, as Linen's have."""
    if seen is None and not named:
        yield
        return
    names = {id(one): "/".join(map(str, path)) for path, one in nnx.iter_modules(module)}
    within: set[int] = set()

    def watched(function):
        def __call__(self, *given, **named):
            with jax.named_scope(names.get(id(self), "").rpartition("/")[2] or type(self).__name__):
                if seen is None or id(self) not in names or id(self) in within:
                    return function(self, *given, **named)
                with _once(within, id(self)):
                    return _called(partial(function, self), names[id(self)], given, named, seen)

        return __call__

    with ExitStack() as stack:
        for kind in {type(one) for _, one in nnx.iter_modules(module) if "__call__" in dir(type(one))}:
            stack.enter_context(patch.object(kind, "__call__", watched(kind.__call__)))
        yield


# ---- pure functions

class Flat(NamedTuple):
    """A jaxpr whose calls are written out: its equations, the values that each reads and makes by their numbers, or
    Literals, what is given, and what it makes."""

    equations: list[tuple[JaxprEqn, tuple[Any, ...], tuple[int, ...]]]
    constants: dict[int, Any]
    given: list[int]
    results: list[Any]


def called_and_seen(function: Callable, tensors: Mapping[str, Any], inputs: Any, seen: list[Seen],
                    changes: Mapping[str, Callable[[jax.Array], jax.Array]] = MappingProxyType({})) -> Any:
    """What a pure function of (tensors {path: array}, inputs) makes, each operation by itself.

    Args:
      seen: is filled with a Seen of each place at which tensors meet data; one that is a Fed says what these are given.
      changes: {module: a function of what its places make, which goes on in its stead}.
    """
    names = sorted(tensors)
    leaves, tree = jax.tree.flatten(inputs)

    def of_leaves(*values):
        return function(dict(zip(names, values, strict=False)), jax.tree.unflatten(tree, values[len(names):]))

    arguments = [*(tensors[name] for name in names), *leaves]
    closed, shapes = jax.make_jaxpr(of_leaves, return_shape=True)(*arguments)
    flat = _written_out(closed)
    whole = {x for equation, reads, _ in flat.equations for one, x in zip(equation.invars, reads, strict=True)
             if not (isinstance(x, Literal) or _is_float(one.aval))}
    steps = [Step(equation.primitive.name, tuple(None if isinstance(x, Literal) else x for x in reads), makes)
             for equation, reads, makes in flat.equations]
    found = places(steps, dict(zip(flat.given, names, strict=False)), flat.given[len(names):], whole)
    return jax.tree.unflatten(jax.tree.structure(shapes), _run(flat, found, arguments, seen, changes))


def _written_out(closed: ClosedJaxpr) -> Flat:
    """A jaxpr with all its calls written out, but for loops and branches."""
    numbers = count()
    flat = Flat([], {}, [next(numbers) for _ in closed.jaxpr.invars], [])

    def walk(jaxpr, constants, arguments):
        known = dict(zip(jaxpr.invars, arguments, strict=True))
        for variable, value in zip(jaxpr.constvars, constants, strict=True):
            known[variable] = next(numbers)
            flat.constants[known[variable]] = value
        for equation in jaxpr.eqns:
            reads = tuple(x if isinstance(x, Literal) else known[x] for x in equation.invars)
            within = _within(equation)
            made = walk(within.jaxpr, within.consts, reads) if within else tuple(
                next(numbers) for _ in equation.outvars)
            if not within:
                flat.equations.append((equation, reads, made))
            known |= zip(equation.outvars, made, strict=True)
        return [x if isinstance(x, Literal) else known[x] for x in jaxpr.outvars]

    flat.results.extend(walk(closed.jaxpr, closed.consts, flat.given))
    return flat


def _within(equation):
    """The ClosedJaxpr that an equation calls with its own inputs; None where it is an operation."""
    if not equation.primitive.name.startswith(CALLS):
        return None
    found = next((equation.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in equation.params), None)
    found = ClosedJaxpr(found, ()) if isinstance(found, Jaxpr) else found
    return found if found and len(found.jaxpr.invars) == len(equation.invars) else None


def _run(flat: Flat, found: list[Place], arguments, seen, changes):
    """The results of a jaxpr, and what is seen at its places."""
    values = dict(flat.constants) | dict(zip(flat.given, arguments, strict=True))
    fed = [(seen.next(place.module) if isinstance(seen, Fed) else None) or Seen(place.module, (), ())
           for place in found]
    within = {(step, place.input): number for number, place in enumerate(found) for step in place.steps
              if fed[number].inputs}
    ends: dict[int, list[int]] = {}
    for number, place in enumerate(found):
        ends.setdefault(place.steps[-1], []).append(number)

    last = {x: index for index, (_, reads, _) in enumerate(flat.equations) for x in reads if not isinstance(x, Literal)}
    last |= {place.input: max(last[place.input], place.steps[-1]) for place in found if place.input is not None}
    done: dict[int, list[int]] = {}  # by the step that reads them last
    for x in last.keys() - {x for x in flat.results if not isinstance(x, Literal)}:
        done.setdefault(last[x], []).append(x)

    def given(index, x):
        if isinstance(x, Literal):
            return x.val
        number = within.get((index, x))
        return values[x] if number is None else _like(fed[number].inputs[0], values[x])

    for index, (equation, reads, makes) in enumerate(flat.equations):
        values |= zip(makes, _computed(equation, [given(index, x) for x in reads]), strict=True)
        for number in ends.get(index, ()):
            place = found[number]
            if place.module in changes:
                values[place.output] = changes[place.module](values[place.output])
            inputs = () if place.input is None else (values[place.input],)
            seen.append(Seen(place.module, inputs, (values[place.output],)))
            if fed[number].outputs:
                values[place.output] = _like(fed[number].outputs[0], values[place.output])
        for x in done.get(index, ()):
            del values[x]
    return [x.val if isinstance(x, Literal) else values[x] for x in flat.results]


def _computed(equation, values):
    made = equation.primitive.bind(*values, **equation.primitive.get_bind_params(equation.params))
    return made if equation.primitive.multiple_results else [made]


def _like(value, x):
    """A value in the shape and the dtype of x."""
    return jnp.asarray(value, x.dtype).reshape(x.shape)
