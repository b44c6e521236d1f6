"""Positions are data: values that say where each token is.

Packing, padding, cached decoding, sharding and grids are all a matter of which
positions the tokens have, and not of the embedding. Here are the usual ways to make
them.
"""

from ._distance import distance as distance
from ._grid import grid_positions as grid_positions
