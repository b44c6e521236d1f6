"""Scores with the weights of published checkpoints."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from .._state import array, filled, listed
from ._decomposed import Decomposed
from ._enformer import Enformer
from ._shaw import Shaw
from ._transformer_xl import TransformerXL


def transformer_xl_from_state_dict(
    state: Mapping[str, Any], *, prefix: str = "", clamp: int | None = None
) -> TransformerXL:
    """Builds a [`eqx_posemb.TransformerXL`][] with the weights of a checkpoint.

    The names of one of these must be there, after `prefix`:

    - Transformer-XL: `r_net.weight`, [heads * head_dim, dim], and `r_w_bias` and
        `r_r_bias`, [heads, head_dim]; the biases also without `prefix`, where layers
        share them (`layers.0.dec_attn.`).
    - XLNet in transformers: `r`, [dim, heads, head_dim], and the same biases
        (`layer.0.rel_attn.`).
    - The Conformer in transformers: `linear_pos.weight`, [dim, dim], and `pos_bias_u`
        and `pos_bias_v`, [heads, head_dim] (`encoder.layers.0.self_attn.`). The layout
        is then `"interleaved"`.

    !!! Example

        ```python
        import numpy as np
        import eqx_posemb as pe

        state = {
            "r_net.weight": np.ones((32, 24)),
            "r_w_bias": np.ones((4, 8)),
            "r_r_bias": np.ones((4, 8)),
        }
        score = pe.transformer_xl_from_state_dict(state)
        assert score.weight.shape == (4, 8, 24)
        ```

    **Arguments:**

    - `state`: arrays by name, of NumPy or anything that it understands.
    - `prefix`: what comes before the names.
    - `clamp`: as in [`eqx_posemb.TransformerXL`][]; a checkpoint does not say.

    **Returns:** the score, in JAX's default float dtype.

    **Raises:** a `ValueError` if a name is missing or an array does not fit.
    """
    names = ("r_net.weight", "r", "linear_pos.weight")
    found = [name for name in names if prefix + name in state]
    if len(found) != 1:
        raise ValueError(
            f"`state` must have one of {', '.join(names)} after `prefix` {prefix!r}, "
            f"but got {listed(state)}."
        )
    conformer = found[0] == "linear_pos.weight"
    biases = ("pos_bias_u", "pos_bias_v") if conformer else ("r_w_bias", "r_r_bias")
    u, v = (
        array(state, prefix + name if prefix + name in state else name)
        for name in biases
    )
    weight = array(state, prefix + found[0])
    if found[0] == "r":
        weight = weight.reshape(weight.shape[0], -1).T
    heads, head_dim = u.shape
    made = TransformerXL(
        heads,
        head_dim,
        weight.shape[1],
        layout="interleaved" if conformer else "concatenated",
        clamp=clamp,
        key=jr.key(0),
    )
    return filled(made, u=u, v=v, weight=by_head(weight, heads))


def enformer_from_state_dict(
    state: Mapping[str, Any],
    length: int,
    *,
    prefix: str = "",
    symmetric: bool = False,
) -> Enformer:
    """Builds a [`eqx_posemb.Enformer`][] with the weights of a checkpoint.

    The names of one of these must be there, after `prefix`:

    - DeepMind: `r_k_layer/w`, [features, heads * head_dim], and `r_w_bias` and
        `r_r_bias`, [1, heads, 1, head_dim].
    - enformer-pytorch: `to_rel_k.weight`, [heads * head_dim, features], and
        `rel_content_bias` and `rel_pos_bias`, [1, heads, 1, head_dim]. Weights that
        were trained with it, and not converted, expect its own normalisation of the
        bumps.

    !!! Example

        ```python
        import numpy as np
        import eqx_posemb as pe

        state = {
            "r_k_layer/w": np.ones((12, 32)),
            "r_w_bias": np.ones((1, 4, 1, 8)),
            "r_r_bias": np.ones((1, 4, 1, 8)),
        }
        score = pe.enformer_from_state_dict(state, length=1536)
        assert score.weight.shape == (4, 8, 12)
        ```

    **Arguments:**

    - `state`: arrays by name, of NumPy or anything that it understands.
    - `length`, `symmetric`: as in [`eqx_posemb.Enformer`][]; a checkpoint does not say.
    - `prefix`: what comes before the names.

    **Returns:** the score, in JAX's default float dtype.

    **Raises:** a `ValueError` if a name is missing or an array does not fit.
    """
    if f"{prefix}to_rel_k.weight" in state:
        weight = array(state, f"{prefix}to_rel_k.weight")
        names = ("rel_content_bias", "rel_pos_bias")
    else:
        weight = array(state, f"{prefix}r_k_layer/w").T
        names = ("r_w_bias", "r_r_bias")
    u, v = (array(state, prefix + name)[0, :, 0] for name in names)
    heads, head_dim = u.shape
    made = Enformer(
        heads, head_dim, weight.shape[1], length, symmetric=symmetric, key=jr.key(0)
    )
    return filled(made, u=u, v=v, weight=by_head(weight, heads))


def shaw_from_state_dict(
    state: Mapping[str, Any], back: int, *, prefix: str = ""
) -> Shaw:
    """Builds a [`eqx_posemb.Shaw`][] with the weights of a checkpoint.

    This name must be there, after `prefix`:

    - `distance_embedding.weight`, [rows, head_dim]: Wav2Vec2-BERT and SeamlessM4T v2
        in transformers (`encoder.layers.0.self_attn.`).

    !!! Example

        ```python
        import numpy as np
        import eqx_posemb as pe

        state = {"distance_embedding.weight": np.ones((73, 64))}
        assert pe.shaw_from_state_dict(state, back=64).ahead == 8
        ```

    **Arguments:**

    - `state`: arrays by name, of NumPy or anything that it understands.
    - `back`: as in [`eqx_posemb.Shaw`][] (`left_max_position_embeddings`).
    - `prefix`: what comes before the name.

    **Returns:** the score, in JAX's default float dtype.

    **Raises:** a `ValueError` if the name is missing or `back` not a row of the array.
    """
    weight = array(state, f"{prefix}distance_embedding.weight")
    made = Shaw(
        weight.shape[1], back=back, ahead=weight.shape[0] - back - 1, key=jr.key(0)
    )
    return filled(made, weight=weight)


def sam_from_state_dict(
    state: Mapping[str, Any],
    *,
    prefix: str = "",
    shape: tuple[int, int] | None = None,
) -> Decomposed:
    """Builds a [`eqx_posemb.Decomposed`][] with the weights of a checkpoint.

    These names must be there, after `prefix`:

    - `rel_pos_h` and `rel_pos_w`, [2 * size - 1, head_dim]: SAM, ViTDet and MViTv2, by
        their authors and in transformers (`vision_encoder.layers.0.attn.`).

    !!! Example

        ```python
        import numpy as np
        import eqx_posemb as pe

        state = {"rel_pos_h": np.ones((27, 64)), "rel_pos_w": np.ones((27, 64))}
        assert pe.sam_from_state_dict(state).shape == (14, 14)
        assert pe.sam_from_state_dict(state, shape=(20, 14)).shape == (20, 14)
        ```

    **Arguments:**

    - `state`: arrays by name, of NumPy or anything that it understands.
    - `prefix`: what comes before the names.
    - `shape`: the height and width of the grid in use, if it is not that of the
        checkpoint: the tables are then stretched linearly, as those models do.

    **Returns:** the score, in JAX's default float dtype.

    **Raises:** a `ValueError` if a name is missing.
    """
    tables = [array(state, prefix + name) for name in ("rel_pos_h", "rel_pos_w")]
    if shape is None:
        height, width = ((table.shape[0] + 1) // 2 for table in tables)
        shape = (height, width)
    made = Decomposed(shape, tables[0].shape[1], std=0, key=jr.key(0))
    stretched = [
        _stretched(table, 2 * size - 1)
        for table, size in zip(tables, shape, strict=True)
    ]
    return eqx.tree_at(lambda score: score.tables, made, tuple(stretched))


def by_head(weight: Array, heads: int) -> Array:
    """The rows of a projection by the heads that they belong to."""
    if weight.shape[0] % heads:
        raise ValueError(
            f"`heads` must divide the {weight.shape[0]} rows of a projection, but got "
            f"{heads}."
        )
    return weight.reshape(heads, weight.shape[0] // heads, *weight.shape[1:])


def _stretched(table, rows):
    """The table at so many rows, between the middles of its own."""
    old = table.shape[0]
    where = (np.arange(rows) + 0.5) * (old / rows) - 0.5
    where = np.clip(where, 0, old - 1)
    low = np.minimum(where.astype(np.int32), max(old - 2, 0))
    share = jnp.asarray(where - low, table.dtype)[:, None]
    high = np.minimum(low + 1, old - 1)
    return table[low] * (1 - share) + table[high] * share
