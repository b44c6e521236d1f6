"""Builders of positions, the values that state where each token is.

Packing, padding, cached decoding, sharding and grids change the positions of tokens,
and not the embedding. These functions build such positions.
"""

from ._distance import distance as distance
from ._grid import grid_positions as grid_positions
