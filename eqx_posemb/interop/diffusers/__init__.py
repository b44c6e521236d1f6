"""Positional embeddings of diffusers' models, from their configurations."""

from ._load import load as load
from ._positions import positions as positions
