"""The settings of fused attention."""

from typing import Literal, NamedTuple

from ..._sharding import Shards


class How(NamedTuple):
    """The form of attention on each platform, which is static."""

    size: int
    """The size of blocks, on platforms without a kernel."""
    block_size: int | None
    """The tile size that the user gave, or `None`."""
    asked_for: bool
    """Whether the user gave `"pallas"`. A CPU then interprets the kernel."""
    shards: Shards | None = None
    """The Explicit axes that heads are sharded over."""
    dense: bool = False
    """Whether platforms without a kernel materialize logits. A CPU uses blocks."""
    exact: bool = False
    """Whether the attended values are float32, for a ring to sum."""
    platform: Literal["gpu", "tpu"] = "tpu"
    """The platform of the kernel, whatever platform interprets it."""
    interpret: bool = False
