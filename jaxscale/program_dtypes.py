"""In what a program computes: its modules asked for another format, and where it falls below what came in."""

from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

from twinscale.common.pairs.program import LOWER, is_plain


@contextmanager
def computing(modules: Any, precision: str) -> Any:
    """While open, JAX has the format, and modules whose dtype is float32 compute in it; they are set back.

    Args:
      modules: NNX modules, whose `dtype` can be set.
      precision: float64, float32 or bfloat16.
    """
    chosen = [one for one in modules if precision != "float32" and is_float32(getattr(one, "dtype", None))]
    with jax.enable_x64(precision == "float64"):
        before = [one.dtype for one in chosen]
        for one in chosen:
            one.dtype = jnp.dtype(precision)
        try:
            yield
        finally:
            for one, dtype in zip(chosen, before, strict=True):
                one.dtype = dtype


def first_lower(traced: Any, precision: str) -> str:
    """Where a program first computes in less than a format, in words; "" where it does not. Masks and other numbers
    that float16 holds too are no computation.

    Args:
      traced: what `jax.jit(f).trace(...)` makes.
      precision: what came in.
    """
    return _lower(traced.jaxpr.jaxpr, traced.jaxpr.consts, LOWER[precision], "")


def is_float32(dtype: Any) -> bool:
    """Whether a module's dtype is float32, as a type or in words."""
    try:
        return dtype is not None and jnp.dtype(dtype) == jnp.float32
    except TypeError:
        return False


def _lower(jaxpr, constants, lower, within):
    for variable, value in zip(jaxpr.constvars, constants, strict=False):
        if str(variable.aval.dtype) in lower and not is_plain(value):
            return f"{within or 'a constant of its own'} ({variable.aval.dtype})"
    for equation in jaxpr.eqns:
        words = [within, *str(equation.source_info.name_stack).split("/")]
        place = "/".join(word for word in words if word and "(" not in word)  # without jvp(), vmap()
        for one in equation.invars:
            if hasattr(one, "val") and str(one.aval.dtype) in lower and not is_plain(one.val):
                return f"{place or equation.primitive.name} ({one.aval.dtype})"
        inner = [value for value in equation.params.values() if hasattr(value, "eqns") or hasattr(value, "jaxpr")]
        for one in inner:
            closed = hasattr(one, "jaxpr")
            found = _lower(one.jaxpr if closed else one, getattr(one, "consts", ()), lower, place)
            if found:
                return found
        if not inner and not _only_moves(equation):
            for made in equation.outvars:
                if str(getattr(made.aval, "dtype", "")) in lower:
                    return f"{place or equation.primitive.name} ({made.aval.dtype})"
    return ""


def _only_moves(equation):
    """Whether an equation makes numbers of none, or of whole ones: a mask, a table of zeros."""
    if equation.primitive.name in ("broadcast_in_dim", "reshape", "select_n", "squeeze", "transpose", "iota", "slice",
                                   "concatenate", "stop_gradient"):
        return True
    return equation.primitive.name == "convert_element_type" and not jnp.issubdtype(
        equation.invars[0].aval.dtype, jnp.floating)
