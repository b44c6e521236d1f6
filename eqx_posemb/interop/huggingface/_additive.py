"""Biases and tables, for models that do not rotate."""

from typing import Any


ADDITIVE: dict[str, Any] = {}
