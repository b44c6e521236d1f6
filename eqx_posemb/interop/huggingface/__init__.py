"""Positional embeddings of transformers' models, from their configurations."""

from ._dump import dump as dump
from ._load import layer_types as layer_types, load as load
