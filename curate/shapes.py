"""What a value of a YAML file may be, in the words of who writes it: read from pydantic's core schema of its type.

pydantic says of a value that fits no member of a union why it fits each of them not, in terms of the code. A `Shape`
knows where on the way to such a problem the union is, and describes its members: `first, longest or {highest: ...}`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_WRAPPED = ("default", "nullable", "function-before", "function-after", "function-wrap", "model")
_LISTS = ("list", "tuple", "set", "frozenset")
_FIELDS = ("dataclass-args", "model-fields", "typed-dict")
_MUST = {
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be {le} or less",
    "finite_number": "must be a number that is not infinite",
    "int_parsing_size": "must be a whole number, and not such a large one",
    "literal_error": "must be {expected}",
    "too_long": "must have {max_length} or fewer",
} | {
    problem: f"must be {what}"
    for what, problems in {
        "a whole number": ("int_type", "int_parsing", "int_from_float"),
        "a number": ("float_type", "float_parsing"),
        "true or false": ("bool_type", "bool_parsing"),
        "text": ("string_type",),
    }.items()
    for problem in problems
}
"""What pydantic's commonest problems are called here; the rest keep its words."""
_SCALARS: Mapping[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
_WORDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "none": "null"}


def in_words(problem: Mapping[str, Any]) -> str:
    """A problem that pydantic found, in the words of who writes the file."""
    if isinstance(problem["input"], float) and math.isnan(problem["input"]):
        return "must be a number"  # whichever bound it fails
    if problem["type"] in _MUST:
        bounds = {name: _number(value) for name, value in (problem.get("ctx") or {}).items()}
        return _MUST[problem["type"]].format(**bounds)
    return str(problem["msg"]).removeprefix("Value error, ")


def _number(value: object) -> object:
    whole = isinstance(value, int | float) and value == value // 1
    return f"{value:,.0f}" if whole else value


@dataclass(frozen=True)
class Shape:
    """One type; wrappers (defaults, validators) are taken off."""

    schema: Mapping[str, Any]
    definitions: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, schema: Any, definitions: Mapping[str, Any] | None = None) -> "Shape":
        """The shape of a core schema."""
        known = dict(definitions or {})
        while True:
            if schema["type"] == "definitions":
                known |= {each["ref"]: each for each in schema["definitions"]}
                schema = schema["schema"]
            elif schema["type"] == "definition-ref":
                schema = known[schema["schema_ref"]]
            elif schema["type"] in _WRAPPED:
                schema = schema["schema"]
            else:
                return cls(schema, known)

    @property
    def members(self) -> "list[Shape]":
        """The types of a union; none of what is no union."""
        if self.schema["type"] != "union":
            return []
        return [self._shape(each[0] if isinstance(each, tuple) else each) for each in self.schema["choices"]]

    @property
    def fields(self) -> "dict[str, tuple[Shape, bool]]":
        """Of a class: its fields, and whether each must be given."""
        if self.schema["type"] == "dataclass":
            return self._shape(self.schema["schema"]).fields
        if self.schema["type"] not in _FIELDS:
            return {}
        given = self.schema["fields"]
        pairs = given.items() if isinstance(given, Mapping) else ((each["name"], each) for each in given)
        return {name: (self._shape(each["schema"]), each["schema"]["type"] != "default") for name, each in pairs}

    def inside(self, name: object) -> "Shape | None":
        """The shape of what stands under a key, or at a place of a list; None where that is not known."""
        kind = self.schema["type"]
        if kind == "dict" and "values_schema" in self.schema:
            return self._shape(self.schema["values_schema"])
        if kind in _LISTS and "items_schema" in self.schema:
            items = self.schema["items_schema"]
            return self._shape(items[0] if isinstance(items, list) else items)
        found = self.fields.get(str(name))
        return found[0] if found else None

    def union_on(self, way: Sequence[object]) -> "tuple[int, Shape] | None":
        """The first union on the way to a problem, and how many steps of the way lead to it."""
        shape: Shape | None = self
        for steps in range(len(way) + 1):
            if shape is None or shape.members:
                return (steps, shape) if shape else None
            shape = shape.inside(way[steps]) if steps < len(way) else None
        return None

    def at(self, way: Sequence[object]) -> "Shape | None":
        """The shape of what stands there; None where that is not known."""
        shape: Shape | None = self
        for step in way:
            shape = shape.inside(step) if shape else None
        return shape

    def meant_by(self, given: object) -> int | None:
        """The place of the one member of a union that a value is meant as: a class that has all fields that were given,
        a list for a list, a number for a number; None if no member is, or several are."""
        fit = [place for place, each in enumerate(self.members) if each._is_of_the_kind_of(given)]
        return fit[0] if len(fit) == 1 else None

    def _is_of_the_kind_of(self, given: object) -> bool:
        kind = self.schema["type"]
        if isinstance(given, dict):
            return bool(given) and (kind == "dict" or set(given) <= set(self.fields))
        if isinstance(given, list):
            return kind in _LISTS
        return not isinstance(given, bool) and isinstance(given, _SCALARS.get(kind, ()))

    @property
    def words(self) -> str:
        """The type as people write its values."""
        parts = [part for each in self.members or [self] for part in each._parts()]
        return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"

    def _parts(self) -> list[str]:
        kind = self.schema["type"]
        if kind == "literal":
            return [str(each) for each in self.schema["expected"]]
        if kind in _LISTS:
            return ["a list, [...]"]
        if kind == "dict":
            return ["fields, {...}"]
        if fields := self.fields:
            asked = {name: shape for name, (shape, must) in fields.items() if must}
            named = asked or {name: shape for name, (shape, _) in fields.items()}
            return [f"{{{', '.join(f'{name}: {shape._hint()}' for name, shape in named.items())}}}"]
        return [_WORDS.get(kind, kind)]

    def _hint(self) -> str:
        kind = self.schema["type"]
        return "[...]" if kind in _LISTS else "{...}" if kind == "dict" or self.fields else "..."

    def _shape(self, schema: Any) -> "Shape":
        return Shape.of(schema, self.definitions)
