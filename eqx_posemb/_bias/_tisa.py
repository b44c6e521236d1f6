"""A learned sum of bumps along the distance."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Num, PRNGKeyArray

from .._checks import check_count
from .._phase import as_float
from ._abstract import AbstractRelativeBias


class TISA(AbstractRelativeBias):
    r"""Translation-invariant self-attention (TISA), Wennberg and Henter 2021.

    It adds a sum of a few bumps over the distance for each head:

    $$b_h(\delta) = \sum_{s=1}^{S} a_{hs} \exp\big(-|b_{hs}| (\delta - c_{hs})^2\big)$$

    for the distance $\delta = p_k - p_q$, with height $a$, sharpness $b$ and center $c$
    learned for each head $h$ and bump $s$ (`a`, `b`, `c`). It models trained position
    embeddings, which favor a few near distances on both sides, with $3S$ numbers per
    head. It is smooth, so it takes fractional distances, and it vanishes far away.

    This class follows the formula of the paper. The released code uses $p_q - p_k - 1$
    as $\delta$, so its centers are $-1 - c$ here.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        bias = pe.TISA(heads=8, key=jax.random.key(0))
        assert bias(jnp.arange(5), jnp.arange(7)).shape == (8, 5, 7)
        ```

    ??? cite "Reference"

        [The Case for Translation-Invariant Self-Attention in Transformer-Based Language
        Models](https://arxiv.org/abs/2106.01950), Section 4; initial values as in the
        authors' code.

        ```bibtex
        @inproceedings{wennberg2021case,
            author={Wennberg, Ulme and Henter, Gustav Eje},
            title={The Case for Translation-Invariant Self-Attention in
                   Transformer-Based Language Models},
            booktitle={Annual Meeting of the Association for Computational Linguistics},
            year={2021},
        }
        ```
    """

    # A bump has a height, a sharpness, and a center in positions.
    a: Float[Array, "heads bumps"]
    b: Float[Array, "heads bumps"]
    c: Float[Array, "heads bumps"]

    def __init__(self, heads: int, *, bumps: int = 5, key: PRNGKeyArray):
        """**Arguments:**

        - `heads`: The number of heads.
        - `bumps`: The number of bumps of a head.
        - `key`: A `jax.random` key: heights and sharpnesses start normal about 0.1,
            with a standard deviation of 0.01, and centers about 0 with one of 5.

        **Raises:** a `ValueError` if `heads` or `bumps` is less than one.
        """
        check_count("heads", heads, 1)
        check_count("bumps", bumps, 1)
        a_key, b_key, c_key = jr.split(key, 3)
        shape = (heads, bumps)
        self.a = 0.1 + 0.01 * jr.normal(a_key, shape)
        self.b = 0.1 + 0.01 * jr.normal(b_key, shape)
        self.c = 5.0 * jr.normal(c_key, shape)

    def along(self, delta: Num[Array, " distances"]) -> Float[Array, "heads distances"]:
        """**Arguments:**

        - `delta`: distances, key minus query.

        **Returns:**

        The bias of each distance, in JAX's default float dtype.
        """
        a, b, c = (as_float(x)[:, :, None] for x in (self.a, self.b, self.c))
        away = as_float(delta)[None, None] - c
        # A negative sharpness would grow without bound at far distances.
        return jnp.sum(a * jnp.exp(-jnp.abs(b) * away**2), axis=1)
