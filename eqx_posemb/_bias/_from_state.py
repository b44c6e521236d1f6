"""Biases with the weights of published checkpoints."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr

from .._checks import check_count
from .._state import array, listed
from ._reset import ResetBias
from ._sum import SumBias
from ._t5 import T5Bias
from ._tupe import TUPE


def t5_from_state_dict(
    state: Mapping[str, Any],
    *,
    prefix: str = "",
    max_distance: int = 128,
    bidirectional: bool = True,
) -> T5Bias:
    """Builds a [`eqx_posemb.T5Bias`][] with the weights of a checkpoint.

    One of these names must be there, after `prefix`:

    - `relative_attention_bias.weight`, [buckets, heads]: transformers, in the first
        layer of each stack (`encoder.block.0.layer.0.SelfAttention.`,
        `decoder.block.0.layer.0.SelfAttention.`).
    - `relative_attention_bias`, [heads, buckets]: the original checkpoints
        (`encoder/block_000/layer_000/SelfAttention/`).
    - `rel_embedding`, [heads, buckets]: T5X (`encoder/relpos_bias/`).

    !!! Example

        ```python
        import numpy as np
        import eqx_posemb as pe

        state = {"SelfAttention.relative_attention_bias.weight": np.ones((32, 8))}
        bias = pe.t5_from_state_dict(state, prefix="SelfAttention.")
        assert bias.weight.shape == (32, 8)
        ```

    **Arguments:**

    - `state`: arrays by name, of NumPy or anything that it understands.
    - `prefix`: what comes before the name.
    - `max_distance`, `bidirectional`: as in [`eqx_posemb.T5Bias`][]; a checkpoint does
        not say. A decoder has `bidirectional=False`.

    **Returns:** the bias, in JAX's default float dtype. T5's own models attend with
    `PositionalEmbedding(bias=bias, scale=1)`.

    **Raises:** a `ValueError` if there is none of the names or more than one.
    """
    names = ("relative_attention_bias.weight", "relative_attention_bias")
    found = [name for name in (*names, "rel_embedding") if prefix + name in state]
    if len(found) != 1:
        raise ValueError(
            f"`state` must have one of {', '.join(names)} and rel_embedding after "
            f"`prefix` {prefix!r}, but got {listed(state)}."
        )
    weight = array(state, prefix + found[0])
    if found[0] != names[0]:
        weight = weight.T
    buckets, heads = weight.shape
    made = T5Bias(
        heads,
        num_buckets=buckets,
        max_distance=max_distance,
        bidirectional=bidirectional,
        key=jr.key(0),
    )
    return eqx.tree_at(lambda bias: bias.weight, made, weight)


def tupe_from_state_dict(
    state: Mapping[str, Any],
    heads: int,
    *,
    prefix: str = "",
    max_distance: int = 128,
) -> ResetBias:
    """Builds a [`eqx_posemb.tupe`][] with the weights of a checkpoint of its authors.

    These names must be there, after `prefix` (`encoder.sentence_encoder.`):

    - `pos.weight`, [1 + length, dim]: position $p$ has row $p + 1$.
    - `pos_ln.weight` and `pos_ln.bias`, [dim].
    - `pos_q_linear.weight` and `pos_k_linear.weight`, [dim, dim], and `.bias`, [dim];
        or `pos_proj.weight`, [2 dim, dim], and `.bias`, with the queries first.
    - `relative_attention_bias.weight`, [buckets + 1, heads]: TUPE-R alone.

    In that code the numbers of [CLS] are products of rows 0 and 1 with themselves, plus
    the buckets that distances do not use: the last one, and the first of the future.

    !!! Example

        ```python
        import numpy as np
        import eqx_posemb as pe

        state = {
            "pos.weight": np.ones((129, 64)),
            "pos_ln.weight": np.ones(64),
            "pos_ln.bias": np.zeros(64),
            "pos_proj.weight": np.ones((128, 64)),
            "pos_proj.bias": np.ones(128),
        }
        bias = pe.tupe_from_state_dict(state, heads=4)
        assert bias.bias.length == 128
        ```

    **Arguments:**

    - `state`: arrays by name, of NumPy or anything that it understands.
    - `heads`: the number of heads, which must divide `dim`.
    - `prefix`: what comes before the names.
    - `max_distance`: as in [`eqx_posemb.T5Bias`][].

    **Returns:** the bias, in JAX's default float dtype. Attend with
    `scale=(2 * dim / heads)**-0.5`.

    **Raises:** a `ValueError` if a name is missing or `heads` does not divide `dim`.
    """
    check_count("heads", heads, 1)
    rows = array(state, prefix + "pos.weight")
    dim = rows.shape[1]
    if dim % heads:
        raise ValueError(
            f"`heads` must divide the {dim} channels of `pos.weight`, but got {heads}."
        )
    shape = (heads, dim // heads)
    projections = []
    for kind in "weight", "bias":
        if f"{prefix}pos_proj.{kind}" in state:
            both = array(state, f"{prefix}pos_proj.{kind}")
            q, k = both[:dim], both[dim:]
        else:
            q = array(state, f"{prefix}pos_q_linear.{kind}")
            k = array(state, f"{prefix}pos_k_linear.{kind}")
        projections += [
            q.reshape(*shape, *q.shape[1:]),
            k.reshape(*shape, *k.shape[1:]),
        ]
    norm = [array(state, f"{prefix}pos_ln.{kind}") for kind in ("weight", "bias")]

    def absolute(rows):
        made = TUPE(rows.shape[0], dim, *shape, key=jr.key(0))
        where = lambda m: (
            m.weight,
            m.norm_weight,
            m.norm_bias,
            m.q_weight,
            m.k_weight,
            m.q_bias,
            m.k_bias,
        )
        return eqx.tree_at(where, made, (rows, *norm, *projections))

    two = jnp.arange(2)
    special = jnp.diagonal(absolute(rows[:2])(two, two), axis1=1, axis2=2)
    bias = absolute(rows[1:])
    if f"{prefix}relative_attention_bias.weight" in state:
        table = array(state, f"{prefix}relative_attention_bias.weight")
        buckets = table.shape[0] - 1
        relative = T5Bias(
            heads, num_buckets=buckets, max_distance=max_distance, key=jr.key(0)
        )
        relative = eqx.tree_at(lambda bias: bias.weight, relative, table[:buckets])
        bias = SumBias(bias, relative)
        special = special + jnp.stack([table[buckets // 2], table[buckets]], axis=1)
    where = lambda m: (m.from_special, m.to_special)
    return eqx.tree_at(where, ResetBias(bias, heads), (special[:, 0], special[:, 1]))
