"""What the tables of a recipe are made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticKnownError, core_schema

from twinscale.common.registry import Registry, is_reference, load, names, pinned

Fraction = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A table of the recipe: unknown keys are refused, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class FreeTable(dict):
    """A table of free keys, hashed by its items, as all of a recipe can be."""

    def __hash__(self):
        return hash(frozenset(self.items()))


def an_entry(registry: Registry) -> AfterValidator:
    """In an annotation of a text: the name of an entry of a registry, or a reference, whose FILE is then `pinned`."""
    def found(name):
        if name not in registry.builtin and not is_reference(name) and name not in (known := names(registry)):
            raise PydanticKnownError("literal_error", {"expected": " or ".join(f"'{name}'" for name in known)})
        load(registry, name)
        return pinned(name)

    return AfterValidator(found)


def any_of(registry: Registry) -> dict[str, Any]:
    """What a JSON schema says of a key that names an entry of a registry."""
    return {"anyOf": [{"enum": list(registry.builtin)}, {"type": "string"}]}


@dataclass(frozen=True)
class ByName:
    """In an annotation of a table: its `key` names an entry of a registry, and it is of the entry's own `options`, a
    Section. `default`: the name where none is given; "": there has to be one."""

    registry: Registry
    key: str
    default: str = ""

    def __get_pydantic_core_schema__(self, source, handler):
        own = dict.fromkeys(load(self.registry, name).options for name in self.registry.builtin)
        return core_schema.no_info_before_validator_function(
            self.chosen, handler(source), json_schema_input_schema=handler.generate_schema(Union[*own]))

    def chosen(self, values: Any) -> Any:
        """The table that a dict of values makes. Raises as pydantic has it, or as `registry.load` does."""
        if not isinstance(values, dict):
            return values
        name, known = values.get(self.key, self.default), [*self.registry.builtin]
        if self.key not in values and not name:
            raise self._problem("missing", values)
        if name not in known and not (isinstance(name, str) and is_reference(name)):
            known = names(self.registry)
            if name not in known:
                raise self._problem("literal_error", name, expected=" or ".join(f"'{name}'" for name in known))
        return self.options(values).model_validate(values | {self.key: pinned(name)})

    def options(self, values: Mapping[str, Any]) -> type[Section]:
        """The options of the entry that a table names. Raises as `registry.load` does."""
        return load(self.registry, values.get(self.key, self.default)).options

    def _problem(self, kind, value, **context):
        return ValidationError.from_exception_data(self.registry.key, [
            InitErrorDetails(type=kind, loc=(self.key,), input=value, ctx=context)])
