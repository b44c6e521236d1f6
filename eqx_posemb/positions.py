"""Builders of positions, the values that state where each token is.

Packing, padding, cached decoding, sharding and grids change the positions of tokens,
and not the embedding. These functions build such positions.
"""

from ._given import Consecutive as Consecutive
from ._positions._consecutive import consecutive as consecutive
from ._positions._detr import detr_positions as detr_positions
from ._positions._digits import (
    abacus_positions as abacus_positions,
    coupled_positions as coupled_positions,
)
from ._positions._distance import distance as distance
from ._positions._grid import grid_positions as grid_positions
from ._positions._multimodal import (
    circle_positions as circle_positions,
    mrope_positions as mrope_positions,
    v2pe_positions as v2pe_positions,
)
from ._positions._patches import (
    centered_positions as centered_positions,
    merged_patch_positions as merged_patch_positions,
    normalized_positions as normalized_positions,
    resized_positions as resized_positions,
    zero_prefixed as zero_prefixed,
)
from ._positions._pose import (
    cream_positions as cream_positions,
    pose_positions as pose_positions,
)
from ._positions._prefix import prefixed as prefixed
from ._positions._random import (
    cape_positions as cape_positions,
    randomized_positions as randomized_positions,
    shifted_positions as shifted_positions,
)
from ._positions._sequence import (
    bilevel_positions as bilevel_positions,
    left_padded_positions as left_padded_positions,
    segment_positions as segment_positions,
)
from ._positions._zigzag import zigzag as zigzag, zigzag_inverse as zigzag_inverse
