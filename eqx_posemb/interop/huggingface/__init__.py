"""Positional embeddings of transformers' models, from their configurations."""

from ._deberta import deberta_from_state_dict as deberta_from_state_dict
from ._dump import dump as dump
from ._load import layer_types as layer_types, load as load
from ._sinks import sinks_from_state_dict as sinks_from_state_dict
