"""A learned penalty that grows more slowly than distance."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Num, PRNGKeyArray

from .._checks import check_choice, check_count
from .._phase import as_float
from ._abstract import AbstractRelativeBias


class KERPLE(AbstractRelativeBias):
    r"""Kernelized relative positional embedding (KERPLE), Chi et al. 2022.

    It subtracts a learned, concave function of the distance from each logit:

    $$b_h(\delta) = -r_h \ln(1 + a_h |\delta|) \quad \text{(log)}, \qquad
      b_h(\delta) = -a_h |\delta|^{r_h} \quad \text{(power)}$$

    for the distance $\delta = p_k - p_q$, with $a_h, r_h > 0$ learned for each head
    $h$. The power also has $r_h < 2$, which makes it a kernel. [`eqx_posemb.ALiBi`][]
    fixes how fast far keys fade, and KERPLE learns it. The logarithm fades slowest, and
    extrapolated best in the paper.

    The parameters are stored as `raw_a` and `raw_r`, and `a` and `r` are their
    softplus. The exponent of the power is twice the sigmoid of `raw_r`. Both are
    therefore always positive. The authors clip instead, outside of the gradient.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        bias = pe.KERPLE(heads=8, key=jax.random.key(0))
        assert (bias(jnp.array([9]), jnp.arange(9)) < 0).all()
        ```

    ??? cite "Reference"

        [KERPLE: Kernelized Relative Positional Embedding for Length
        Extrapolation](https://arxiv.org/abs/2205.09921), Section 4; initial values as
        in the authors' code.

        ```bibtex
        @inproceedings{chi2022kerple,
            author={Chi, Ta-Chung and Fan, Ting-Han and Ramadge, Peter J. and Rudnicky,
                    Alexander I.},
            title={{KERPLE}: Kernelized Relative Positional Embedding for Length
                   Extrapolation},
            booktitle={Advances in Neural Information Processing Systems},
            year={2022},
        }
        ```
    """

    # Raw values need no constraint, and the properties `a` and `r` are always positive.
    raw_a: Float[Array, " heads"]
    raw_r: Float[Array, " heads"]
    kind: Literal["log", "power"] = eqx.field(static=True)

    def __init__(
        self,
        heads: int,
        *,
        kind: Literal["log", "power"] = "log",
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `heads`: The number of heads.
        - `kind`: `"log"` or `"power"`.
        - `key`: A `jax.random` key. It initializes `a` uniformly on (0, 1) for the
            logarithm, and on (0, 2) for the power. It initializes `r` uniformly on (0,
            2). All values are at least 0.01, as in the authors' code.

        **Raises:** a `ValueError` if `heads` is less than one or `kind` is unknown.
        """
        check_count("heads", heads, 1)
        check_choice("kind", kind, ("log", "power"))
        a_key, r_key = jr.split(key)
        most_a = 1.0 if kind == "log" else 2.0
        a = jr.uniform(a_key, (heads,), minval=0.01, maxval=most_a)
        # An exponent of two would have an infinite inverse of the sigmoid.
        r = jr.uniform(r_key, (heads,), minval=0.01, maxval=1.99)
        self.raw_a = _inverse_softplus(a)
        self.raw_r = jnp.log(r / (2 - r)) if kind == "power" else _inverse_softplus(r)
        self.kind = kind

    @property
    def a(self) -> Float[Array, " heads"]:
        """The rate of each head, which is positive."""
        return jax.nn.softplus(self.raw_a)

    @property
    def r(self) -> Float[Array, " heads"]:
        """The weight of each head's logarithm, or the exponent of its power."""
        if self.kind == "power":
            return 2 * jax.nn.sigmoid(self.raw_r)
        return jax.nn.softplus(self.raw_r)

    def along(self, delta: Num[Array, " distances"]) -> Float[Array, "heads distances"]:
        """**Arguments:**

        - `delta`: distances, key minus query.

        **Returns:**

        The bias of each distance, in JAX's default float dtype.
        """
        far = jnp.abs(as_float(delta))[None]
        a, r = (as_float(x)[:, None] for x in (self.a, self.r))
        if self.kind == "log":
            return -r * jnp.log1p(a * far)
        # The derivative of `0 ** r` is NaN or infinite, so zeros bypass the power.
        away = far > 0
        return jnp.where(away, -a * jnp.where(away, far, 1) ** r, 0)


def _inverse_softplus(x):
    # The direct form `log(expm1(x))` overflows for large `x`.
    return x + jnp.log(-jnp.expm1(-x))
