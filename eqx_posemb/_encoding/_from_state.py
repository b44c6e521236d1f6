"""Encodings with the weights of published checkpoints."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.random as jr

from .._state import array, filled, only, square
from ._learned import Learned
from ._learned_grid import LearnedGrid


def learned_from_state_dict(
    state: Mapping[str, Any],
    *,
    prefix: str = "",
    offset: int = 0,
    padding_idx: int | None = None,
) -> Learned:
    """Builds a [`eqx_posemb.Learned`][] with the weights of a checkpoint.

    One of these names must be there, after `prefix`, with shape [rows, dim]:

    - `wpe.weight`: GPT-2 (`transformer.`).
    - `position_embeddings.weight`: BERT and RoBERTa (`embeddings.`).
    - `embed_positions.weight`: BART and OPT (`decoder.`), with `offset=2`.
    - `position_embedding.weight`: the text of CLIP (`text_model.embeddings.`).

    !!! Example

        ```python
        import numpy as np
        import eqx_posemb as pe

        state = {"transformer.wpe.weight": np.ones((1024, 64))}
        encoding = pe.learned_from_state_dict(state, prefix="transformer.")
        assert encoding.length == 1024
        ```

    **Arguments:**

    - `state`: arrays by name, of NumPy or anything that it understands.
    - `prefix`: what comes before the name.
    - `offset`, `padding_idx`: as in `Learned`; a checkpoint does not say.

    **Returns:** the encoding, in JAX's default float dtype.

    **Raises:** a `ValueError` if there is none of the names or more than one, or as
    `Learned`.
    """
    name = only(
        state,
        prefix,
        "wpe.weight",
        "position_embeddings.weight",
        "embed_positions.weight",
        "position_embedding.weight",
    )
    weight = array(state, name)
    rows, dim = weight.shape
    made = Learned(
        rows - offset, dim, offset=offset, padding_idx=padding_idx, key=jr.key(0)
    )
    return filled(made, weight=weight)


def learned_grid_from_state_dict(
    state: Mapping[str, Any],
    *,
    prefix: str = "",
    tokens: int = 1,
    shape: Sequence[int] | None = None,
) -> LearnedGrid:
    """Builds a [`eqx_posemb.LearnedGrid`][] with the weights of a checkpoint.

    One of these names must be there, after `prefix`, with shape
    [1, tokens + cells, dim] or [tokens + cells, dim]:

    - `position_embeddings`: ViT, DeiT, DINOv2 in transformers (`embeddings.`).
    - `pos_embed`: timm, and the original DINO, DINOv2 and MAE.
    - `position_embedding.weight`: the images of CLIP (`vision_model.embeddings.`), and
        of SigLIP, with `tokens=0`.

    !!! Example

        ```python
        import numpy as np
        import eqx_posemb as pe

        state = {"pos_embed": np.ones((1, 197, 64))}
        encoding = pe.learned_grid_from_state_dict(state)
        assert encoding.shape == (14, 14)
        ```

    **Arguments:**

    - `state`: arrays by name, of NumPy or anything that it understands.
    - `prefix`: what comes before the name.
    - `tokens`: how many rows come before those of the grid: 1 for [CLS], 2 with DeiT's
        distillation token.
    - `shape`: the height and the width of the grid; by default it is square.

    **Returns:** the encoding, in JAX's default float dtype.

    **Raises:** a `ValueError` if there is none of the names or more than one, or if the
    rows do not fill the grid.
    """
    name = only(
        state, prefix, "position_embeddings", "pos_embed", "position_embedding.weight"
    )
    rows = array(state, name)
    rows = rows.reshape(-1, rows.shape[-1])
    cells = rows.shape[0] - tokens
    shape = square(name, cells) if shape is None else tuple(shape)
    made = LearnedGrid(shape, rows.shape[1], prefix=tokens, key=jr.key(0))
    if math.prod(shape) != cells:
        raise ValueError(
            f"`shape` must have as many cells as `{name}` has rows for, {cells}, but "
            f"got {shape}."
        )
    weight = rows[tokens:].reshape(made.weight.shape)
    made = filled(made, weight=weight)
    if not tokens:
        return made
    return filled(made, prefix=rows[:tokens])
