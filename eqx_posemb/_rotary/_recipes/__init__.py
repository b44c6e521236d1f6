"""Published rotary embeddings, named after their papers and models."""

from ._axes import (
    axial_rope as axial_rope,
    mixed_rope as mixed_rope,
    mrope as mrope,
    string_rope as string_rope,
)
from ._by_parts import (
    llama3_rope as llama3_rope,
    longrope as longrope,
    magnitude as magnitude,
    yarn as yarn,
)
from ._rope import proportional_rope as proportional_rope, rope as rope, xpos as xpos
from ._scaling import (
    dynamic_ntk_rope as dynamic_ntk_rope,
    linear_rope as linear_rope,
    ntk_rope as ntk_rope,
)
