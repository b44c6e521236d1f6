"""PoPE: content as the magnitude and position as the angle of complex numbers."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .._checks import check_count, check_positive
from .._frequencies import Geometric
from .._given import check_sequence, check_tokens, Positions
from .._phase import as_float, computing_dtype, cos_sin
from ._abstract import AbstractRotary, AbstractRotation
from ._rotation import once


class PoPE(AbstractRotary):
    r"""Polar coordinate position embedding (PoPE), Gopalakrishnan et al. 2025.

    It makes every channel a complex number, with the content as magnitude and the
    position as angle:

    $$\langle q, k \rangle = \sum_c \text{sp}(q_c)\, \text{sp}(k_c)
      \cos\big((p_k - p_q)\, \omega_c + \delta_{h, c}\big), \qquad
      \omega_c = \theta^{-c/d}, \qquad c = 0, \dots, d - 1$$

    for the softplus $\text{sp}$, the positions $p$ of query and key, and a learned
    phase $\delta$ (`phase`) of each head $h$. In a rotary embedding, the angle of a
    pair depends on its content and on its position. PoPE separates the two: the content
    is a positive magnitude, and the position is the angle.

    Queries, keys and a cache of rotated keys become twice as wide. Each channel has a
    frequency, which is twice the number of [`eqx_posemb.rope`][].

    The paper keeps the phase between -2π and 0. This class does not, since the cosine
    is periodic.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        pope = pe.PoPE(64, heads=8)
        rotation = pope(jnp.arange(10))
        q = rotation.queries(jnp.ones((8, 10, 64)))
        assert q.shape == (8, 10, 128)
        ```

    ??? cite "Reference"

        [Decoupling the "What" and "Where" With Polar Coordinate Positional
        Embeddings](https://arxiv.org/abs/2509.10534), Section 3.

        ```bibtex
        @article{gopalakrishnan2025decoupling,
            author={Gopalakrishnan, Anand and Csord{\'a}s, R{\'o}bert and Schmidhuber,
                    J{\"u}rgen and Mozer, Michael C.},
            title={Decoupling the ``What'' and ``Where'' With Polar Coordinate
                   Positional Embeddings},
            journal={arXiv:2509.10534},
            year={2025},
        }
        ```
    """

    # Each channel has its own frequency, so the schedule has `2 * dim` channels.
    frequencies: Geometric
    # The phase is in radians. Keys alone have it, since a logit depends on the
    # difference of angles.
    phase: Float[Array, "heads dim"]

    def __init__(self, dim: int, *, heads: int, theta: float = 10_000.0):
        """**Arguments:**

        - `dim`: The number of channels of a head.
        - `heads`: The number of heads. Keys that serve many heads of queries are
            repeated, as every head has its own phase.
        - `theta`: The base of the frequencies.

        The phase starts from zero.

        **Raises:** a `ValueError` if `dim`, `heads` or `theta` is not positive.
        """
        check_count("dim", dim, 1)
        check_count("heads", heads, 1)
        check_positive("theta", theta)
        self.frequencies = Geometric(2 * dim, theta)
        self.phase = jnp.zeros((heads, dim))

    @jax.named_scope("eqx_posemb.PoPE")
    def __call__(self, positions: Num[Positions, " seq"]) -> "PolarRotation":
        """**Arguments:**

        - `positions`: the position of each token: integers, or floats in the same unit.

        **Returns:**

        What makes queries and keys, [heads, seq, dim], twice as wide.

        **Raises:** a `ValueError` if `positions` is not one-dimensional.
        """
        check_sequence("positions", positions, "for one angle to each frequency")
        cos, sin = once(*cos_sin(positions, self.frequencies.turns()))
        return PolarRotation(cos, sin, as_float(self.phase))


class PolarRotation(AbstractRotation):
    """A [`eqx_posemb.PoPE`][] at given positions."""

    cos: Float[Array, "seq dim"]
    sin: Float[Array, "seq dim"]
    phase: Float[Array, "heads dim"]

    @property
    def heads(self) -> int:
        """The number of heads."""
        return self.phase.shape[0]

    def queries(self, q: Float[Array, "heads seq dim"]) -> Float[Array, "heads seq to"]:
        """**Arguments:**

        - `q`: queries of all heads.

        **Returns:**

        Real parts, and then imaginary parts, in the dtype of `q`.

        **Raises:** a `ValueError` if the shape does not fit.
        """
        return self._turn(q, "q", self.cos[None], self.sin[None])

    def keys(self, k: Float[Array, "heads seq dim"]) -> Float[Array, "heads seq to"]:
        """**Arguments:**

        - `k`: keys, one head of them for each of queries.

        **Returns:**

        Real parts, and then imaginary parts, in the dtype of `k`.

        **Raises:** a `ValueError` if the shape does not fit.
        """
        cos, sin = jnp.cos(self.phase)[:, None], jnp.sin(self.phase)[:, None]
        here, there = self.cos[None], self.sin[None]
        return self._turn(k, "k", here * cos - there * sin, there * cos + here * sin)

    def _turn(self, x, name, cos, sin):
        check_tokens(name, x)
        wanted = (self.heads, *self.cos.shape)
        if x.shape != wanted:
            raise ValueError(
                f"`{name}` must have shape [heads, seq, dim] = {wanted}, as the phases "
                f"and the positions have, but got {x.shape}."
            )
        dtype = computing_dtype(x.dtype)
        length = jax.nn.softplus(x.astype(dtype))
        parts = [length * cos.astype(dtype), length * sin.astype(dtype)]
        return jnp.concatenate(parts, axis=-1).astype(x.dtype)
