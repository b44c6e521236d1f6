"""A learned vector for each position, added to tokens."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._checks import check_between, check_count, check_positive
from .._given import as_positions, check_integers, check_sequence, Positions
from .._sharding import rows_of
from .._state_dicts import array, filled, only
from .._symbolic import error_if
from ._abstract import AbstractEncoding


class Learned(AbstractEncoding):
    r"""Learned positional embedding, Gehring et al. 2017.

    It adds a learned vector for each position:

    $$e(p) = W_{p + o}$$

    for the table $W$ (`weight`) and an `offset` $o$. GPT-2, BERT, OPT and ViT use it.
    It can learn any pattern over the trained positions, and has no vector for other
    positions. A position beyond `length` raises an error. Other libraries silently
    return the last row.

    `normalized` divides each row by its length, and `scale` then multiplies the row.
    x-transformers has both.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        encoding = pe.Learned(length=512, dim=64, key=jax.random.key(0))
        x = jnp.ones((10, 64)) + encoding(jnp.arange(10))
        ```

    ??? cite "Reference"

        [Convolutional Sequence to Sequence
        Learning](https://arxiv.org/abs/1705.03122), Section 3.1.

        ```bibtex
        @inproceedings{gehring2017convolutional,
            author={Gehring, Jonas and Auli, Michael and Grangier, David and Yarats,
                    Denis and Dauphin, Yann N.},
            title={Convolutional Sequence to Sequence Learning},
            booktitle={International Conference on Machine Learning},
            year={2017},
        }
        ```
    """

    traits = ("bounded",)

    weight: Float[Array, "rows dim"]
    # Row `offset` is the vector of position zero.
    offset: int = eqx.field(static=True)
    padding_idx: int | None = eqx.field(static=True)
    scale: float = eqx.field(static=True)
    normalized: bool = eqx.field(static=True)

    def __init__(
        self,
        length: int,
        dim: int,
        *,
        offset: int = 0,
        padding_idx: int | None = None,
        scale: float = 1.0,
        normalized: bool = False,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `length`: The number of positions, from 0 on.
        - `dim`: The number of channels of a token.
        - `offset`: The number of rows before the row of position 0. OPT and BART have
            2. RoBERTa's positions start at `padding_idx + 1`, so its offset is 0.
        - `padding_idx`: The row, counted with `offset`, that stands for padding: it
            gives zeros and is not trained.
        - `scale`: What to multiply the vectors by.
        - `normalized`: Whether to divide each vector by its length first.
        - `std`: The standard deviation of the initial weights.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if `length`, `dim`, `scale` or `std` is not positive,
        `offset` is negative or `padding_idx` not a row.
        """
        check_count("length", length, 1)
        check_count("dim", dim, 1)
        check_positive("scale", scale)
        check_positive("std", std)
        check_count("offset", offset, 0)
        rows = length + offset
        if padding_idx is not None:
            check_count("padding_idx", padding_idx, 0)
            last = "the last row of the table"
            check_between("padding_idx", padding_idx, 0, rows - 1, last)
        self.weight = std * jr.normal(key, (rows, dim))
        self.offset = offset
        self.padding_idx = padding_idx
        self.scale = float(scale)
        self.normalized = normalized

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Any],
        *,
        prefix: str = "",
        offset: int = 0,
        padding_idx: int | None = None,
    ) -> "Learned":
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
            encoding = pe.Learned.from_state_dict(state, prefix="transformer.")
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
        made = cls(
            rows - offset, dim, offset=offset, padding_idx=padding_idx, key=jr.key(0)
        )
        return filled(made, weight=weight)

    @property
    def length(self) -> int:
        """The number of positions from 0 on."""
        return self.weight.shape[0] - self.offset

    @jax.named_scope("eqx_posemb.Learned")
    def __call__(self, positions: Int[Positions, " seq"]) -> Float[Array, "seq dim"]:
        """**Arguments:**

        - `positions`: the positions of the tokens: integers from `-offset` up to, and
            without, `length`.

        **Returns:**

        What to add to the tokens, in the dtype of `weight`.

        **Raises:** a `ValueError` if positions are not integers; an error at run time
        if a position has no row.
        """
        positions = as_positions(positions)
        check_sequence("positions", positions, "for one row to each token")
        check_integers("positions", positions, "to look rows up with")
        rows = positions + self.offset
        encoding = error_if(
            rows_of(self.weight, rows),
            (positions < -self.offset) | (positions >= self.length),
            f"`positions` must be between {-self.offset} and {self.length - 1}, to "
            "have a row in the table of this `Learned`. Build it with a larger "
            "`length`, or choose an embedding without a table.",
        )
        if self.normalized:
            squares = jnp.sum(encoding**2, axis=1, keepdims=True)
            # PyTorch divides by a norm of at least 1e-12, whose square is 1e-24.
            encoding = encoding * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))
        encoding = self.scale * encoding
        if self.padding_idx is None:
            return encoding
        # The select also stops the gradient of the padding row, as `torch.nn.Embedding`
        # does.
        return jnp.where((rows == self.padding_idx)[:, None], 0, encoding)
