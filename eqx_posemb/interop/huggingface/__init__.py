"""Positional embeddings of transformers' models, from their configurations."""

from ._load import layer_types as layer_types, load as load
