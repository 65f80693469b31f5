"""The content of a ``.tflite`` file as objects, by the schema that LiteRT's package has."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def parse(model: Path) -> Any:
    """A model as the schema's ``ModelT``."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(model.read_bytes(), 0))


def names(enumeration: str) -> dict[int, str]:
    """The names of an enumeration's values: ``BuiltinOperator``, ``TensorType``."""
    from ai_edge_litert import schema_py_generated as schema

    values = vars(getattr(schema, enumeration)).items()
    return {value: name for name, value in values if isinstance(value, int)}
