"""A penalty that is a generalized Gaussian of the distance."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .._checks import check_count, check_positive
from .._phase import as_float
from ._abstract import AbstractRelativeBias
from ._alibi import alibi_slopes


# Keeps the derivative of a power finite at zero, as in the authors' code.
_EPSILON = 1e-5


class BAM(AbstractRelativeBias):
    r"""Bayesian attention mechanism (BAM), Bianchessi et al. 2025.

    Positions are a prior over keys, and its logarithm is added to the logits. The prior
    is a generalized Gaussian of the distance $\delta = p_k - p_q$:

    $$b_h(\delta) = -e^{\sigma_h}
      \big(|\delta - 2 \sinh \mu_h| + 10^{-5}\big)^{\beta_h}$$

    for a learned `log_scale` $\sigma$, `shape` $\beta$ and `location` $\mu$ of each
    head $h$. A shape of 1 is [`eqx_posemb.ALiBi`][], and 2 is a Gaussian. A shape of 0
    does not fade, and a shape below 0 favors far keys. A location below 0 favors a
    place before the query.
    [`eqx_posemb.KERPLE`][] has powers between 0 and 2, and the logarithm.

    It starts as ALiBi. The authors combine it with scalable softmax:
    [`eqx_posemb.ScalableSoftmax`][].

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        bias = pe.BAM(heads=8)
        p = jnp.arange(10)
        fixed = pe.ALiBi(heads=8, form="symmetric")
        assert jnp.allclose(bias(p, p), fixed(p, p), atol=1e-4)
        ```

    ??? cite "Reference"

        [Bayesian Attention Mechanism: A Probabilistic Framework for Positional Encoding
        and Context Length Extrapolation](https://arxiv.org/abs/2505.22842), Section 3;
        the parameters are as in the authors' training code.

        ```bibtex
        @misc{bianchessi2025bayesian,
            author={Bianchessi, Arthur S. and Aguirre, Yasmin C. and Barros, Rodrigo C.
                    and Kupssinsk{\"u}, Lucas S.},
            title={Bayesian Attention Mechanism: A Probabilistic Framework for
                   Positional Encoding and Context Length Extrapolation},
            howpublished={arXiv:2505.22842},
            year={2025},
        }
        ```
    """

    # A logarithm keeps the scale positive for every value of an optimizer.
    log_scale: Float[Array, " heads"]
    shape: Float[Array, " heads"]
    location: Float[Array, " heads"]

    def __init__(self, heads: int, *, shape: float = 1.0):
        """**Arguments:**

        - `heads`: The number of heads.
        - `shape`: The shape that all heads start from.

        **Raises:** a `ValueError` if `heads` is less than one, or if `shape` is not
        positive.
        """
        check_count("heads", heads, 1)
        check_positive("shape", shape)
        # The first values are the slopes of ALiBi, which is BAM with a shape
        # of one.
        slopes = jnp.array(alibi_slopes(heads, "symmetric", "power_of_two"))
        self.log_scale = jnp.log(slopes)
        self.shape = jnp.full(heads, float(shape))
        self.location = jnp.zeros(heads)

    def along(self, delta: Num[Array, " distances"]) -> Float[Array, "heads distances"]:
        """**Arguments:**

        - `delta`: distances, key minus query.

        **Returns:**

        The bias of each distance, in JAX's default float dtype.
        """
        parameters = (self.log_scale, self.shape, self.location)
        log_scale, shape, location = (as_float(x)[:, None] for x in parameters)
        # The hyperbolic sine lets a location reach far in few steps of an
        # optimizer.
        far = jnp.abs(as_float(delta)[None] - 2 * jnp.sinh(location)) + _EPSILON
        return -jnp.exp(log_scale) * far**shape
