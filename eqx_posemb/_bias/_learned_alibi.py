"""A linear penalty whose slopes are trained."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .._checks import check_count
from .._given import Positions
from .._low_rank import Factors
from ._abstract import AbstractRelativeBias
from ._alibi import alibi_slopes, check_form, Form, linear, linear_factors


class LearnedALiBi(AbstractRelativeBias):
    r"""Linear biases with learned slopes, after Press et al. 2022.

    It subtracts a learned multiple of the distance from each logit:

    $$b_h(\delta) = -e^{\lambda_h} |\delta|$$

    for the distance $\delta = p_k - p_q$ and a parameter $\lambda_h$ (`log_slopes`) of
    each head $h$. It starts at the logarithm of the slope of [`eqx_posemb.ALiBi`][],
    and supports the same forms. The logarithm keeps every slope positive. Choose it if
    the model runs at its trained length. The authors of ALiBi found that trained slopes
    extrapolate less well.

    A forget gate that ignores the content, $\delta \ln \sigma(\beta_h)$, equals this
    bias with $\lambda_h = \ln(-\ln \sigma(\beta_h))$. [`eqx_posemb.Forgetting`][]
    computes gates from the content.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        bias = pe.LearnedALiBi(heads=8)
        fixed = pe.ALiBi(heads=8)
        p = jnp.arange(10)
        assert jnp.allclose(bias(p, p), fixed(p, p), rtol=1e-5)
        ```

    ??? cite "Reference"

        [Train Short, Test Long: Attention with Linear Biases Enables Input Length
        Extrapolation](https://arxiv.org/abs/2108.12409), Section 3, which tries trained
        slopes. The logarithm is a choice of this library.

        ```bibtex
        @inproceedings{press2022train,
            author={Press, Ofir and Smith, Noah A. and Lewis, Mike},
            title={Train Short, Test Long: Attention with Linear Biases Enables Input
                   Length Extrapolation},
            booktitle={International Conference on Learning Representations},
            year={2022},
        }
        ```
    """

    # Weight decay pulls the logarithm to zero, which is a slope of one.
    log_slopes: Float[Array, " heads"]
    form: Form = eqx.field(static=True)

    def __init__(self, heads: int, form: Form = "causal"):
        """**Arguments:**

        - `heads`: The number of heads.
        - `form`: As in [`eqx_posemb.ALiBi`][].

        **Raises:** a `ValueError` if `heads` is less than one, or odd where it is to be
        halved, or if `form` is unknown.
        """
        check_count("heads", heads, 1)
        check_form(form, heads)
        slopes = alibi_slopes(heads, form, "power_of_two")
        self.log_slopes = jnp.log(jnp.array(slopes))
        self.form = form

    @property
    def slopes(self) -> Float[Array, " heads"]:
        """The slope of each head, in logits per unit of position."""
        return jnp.exp(self.log_slopes)

    def along(self, delta: Num[Array, " distances"]) -> Float[Array, "heads distances"]:
        """**Arguments:**

        - `delta`: distances, key minus query.

        **Returns:**

        The bias of each distance, in JAX's default float dtype.
        """
        return linear(delta, self.slopes, self.form)

    def low_rank(
        self, q_positions: Num[Positions, " q"], k_positions: Num[Positions, " k"]
    ) -> Factors:
        """As [`eqx_posemb.ALiBi.low_rank`][].

        **Raises:** a `ValueError` for any form but the causal one.
        """
        return linear_factors(q_positions, k_positions, self.slopes, self.form)
