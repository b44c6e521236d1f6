"""Sharper attention for queries with more keys."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .._checks import as_number, check_choice, check_count, check_finite, check_positive
from .._given import as_positions, check_sequence, check_tokens, Positions
from .._phase import as_float, computing_dtype
from ._abstract import AbstractRotary, AbstractRotation, AXES


class Temperature(AbstractRotary):
    r"""Attention temperature of Llama 4 and Ministral 3, after Nakanishi 2025.

    It multiplies queries by a number that grows with their position:

    $$q \mapsto \tau(p)\, q, \qquad \tau(p) = \begin{cases}
        1 + \beta \ln\!\big(1 + \lfloor (p + o) / L \rfloor\big) & \text{"stepped"} \\
        1 + \beta \ln\!\big(\max(1, (p + o) / L)\big) & \text{"log"} \\
        \big(1 + (p + o) / L\big)^\beta & \text{"power"} \end{cases}$$

    for the position $p$, a `length` $L$ and an `offset` $o$. The softmax over more keys
    is flatter. Larger logits compensate, so a model that was trained on short contexts
    still attends sharply in long contexts. Within the first `length` positions, the
    first two forms change nothing. Keys do not change, so cached keys stay valid.

    It is not a rotation, but fills the same slot. Llama 4 uses it alone, in layers
    without a rotary embedding. Ministral 3 uses it after a rotary embedding, in a
    [`eqx_posemb.rotations.Chain`][]. Published settings:

    - Llama 4, its layers without rotation: `beta=0.1, length=8192, offset=1`.
    - Ministral 3, Mistral 4: `beta=0.1, length=16384`, the length before YaRN.
    - Inkling: `kind="log", offset=1`.

    Not to be confused with the attention factor of YaRN (`scale` of
    [`eqx_posemb.Rotary`][]), which is one number for all positions.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        temperature = pe.Temperature(beta=0.1, length=8192, offset=1)
        q = jnp.ones((2, 64))
        scaled = temperature(jnp.array([0, 8191])).queries(q)
        assert scaled[0, 0] == 1
        assert jnp.allclose(scaled[1, 0], 1 + 0.1 * jnp.log(2.0))
        ```

    ??? cite "Reference"

        [Scalable-Softmax Is Superior for Attention](https://arxiv.org/abs/2501.19399),
        which the code of the models simplifies; the three forms follow the released
        code.

        ```bibtex
        @article{nakanishi2025scalable,
            author={Nakanishi, Ken M.},
            title={Scalable-Softmax Is Superior for Attention},
            journal={arXiv:2501.19399},
            year={2025},
        }
        ```
    """

    traits = ("absolute",)

    # A setting is static, so no optimizer changes the published values.
    beta: float = eqx.field(static=True, converter=as_number)
    length: float = eqx.field(static=True, converter=as_number)
    offset: int = eqx.field(static=True, default=0)
    kind: Literal["stepped", "log", "power"] = eqx.field(static=True, default="stepped")

    def __check_init__(self):
        check_positive("beta", self.beta)
        check_positive("length", self.length)
        check_finite("offset", self.offset)
        check_choice("kind", self.kind, ("stepped", "log", "power"))

    @jax.named_scope("eqx_posemb.Temperature")
    def __call__(self, positions: Num[Positions, " seq"]) -> "Scaling":
        """**Arguments:**

        - `positions`: the position of each token, from 0 on.

        **Returns:**

        What multiplies queries, and leaves keys.

        **Raises:** a `ValueError` if `positions` is not one-dimensional.
        """
        check_sequence("positions", positions, "to count the keys of a query")
        # Float32 positions suffice, since a logarithm barely changes with their
        # rounding errors.
        ratio = (as_float(as_positions(positions)) + self.offset) / self.length
        if self.kind == "stepped":
            return Scaling(1 + self.beta * jnp.log1p(jnp.floor(ratio)))
        if self.kind == "log":
            return Scaling(1 + self.beta * jnp.log(jnp.maximum(ratio, 1)))
        return Scaling((1 + ratio) ** self.beta)


Temperature.__init__.__doc__ = """**Arguments:**

- `beta`: The rate of growth.
- `length`: The number of positions from which on queries grow. It is mostly the first
    training length.
- `offset`: A number that is added to positions: 1 where the first token counts as one.
- `kind`: `"stepped"`, `"log"` or `"power"`.

**Raises:** a `ValueError` if `beta` or `length` is not positive or `kind` is unknown.
"""


class ScalableSoftmax(AbstractRotary):
    r"""Scalable softmax (SSMax), Nakanishi 2025.

    It multiplies queries by the logarithm of the number of their keys, times a weight:

    $$q_h \mapsto \big(s_h \ln(p + 1) + b_h\big)\, q_h$$

    for the position $p$ of a causal model, whose query has $p + 1$ keys, and learned
    numbers $s_h$ (`weight`) and $b_h$ (`bias`) of each head. The softmax of $n$ equal
    logits gives each key $1 / n$. Logits that are multiplied by $\ln n$ let one key
    have most of the weight at any length. Mistral Large 4 uses it. The first form of
    the paper has no $b$.

    The first token has a single key, so its factor has no effect.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        softmax = pe.ScalableSoftmax(heads=8)
        q = softmax(jnp.arange(10)).queries(jnp.ones((8, 10, 64)))
        ```

    ??? cite "Reference"

        [Scalable-Softmax Is Superior for
        Attention](https://arxiv.org/abs/2501.19399), Section 2.

        ```bibtex
        @article{nakanishi2025scalable,
            author={Nakanishi, Ken M.},
            title={Scalable-Softmax Is Superior for Attention},
            journal={arXiv:2501.19399},
            year={2025},
        }
        ```
    """

    traits = ("absolute", "causal")

    # Both parameters are learned, and their heads are the heads of queries.
    weight: Float[Array, " heads"]
    bias: Float[Array, " heads"]

    def __init__(self, heads: int, *, weight: float = 0.43, bias: float = 0.0):
        """**Arguments:**

        - `heads`: The number of heads.
        - `weight`: The initial value of $s$ in every head. The first figure of the
            paper has 0.43.
        - `bias`: The initial value of $b$.

        **Raises:** a `ValueError` if `heads` is less than one.
        """
        check_count("heads", heads, 1)
        check_finite("weight", weight)
        check_finite("bias", bias)
        self.weight = jnp.full(heads, float(weight))
        self.bias = jnp.full(heads, float(bias))

    @jax.named_scope("eqx_posemb.ScalableSoftmax")
    def __call__(self, positions: Num[Positions, " seq"]) -> "Scaling":
        """**Arguments:**

        - `positions`: the position of each token, from 0 on.

        **Returns:**

        What multiplies queries, head by head, and leaves keys.

        **Raises:** a `ValueError` if `positions` is not one-dimensional.
        """
        check_sequence("positions", positions, "to count the keys of a query")
        # In causal attention, a query at position `p` has `p + 1` keys.
        seen = jnp.log1p(as_float(as_positions(positions)))
        weight, bias = as_float(self.weight), as_float(self.bias)
        return Scaling(weight[:, None] * seen[None] + bias[:, None])


class Scaling(AbstractRotation):
    """Multiplies queries by a number for each position. Keys stay unchanged."""

    factor: Float[Array, "*heads seq"]

    @property
    def heads(self) -> int | None:
        """The number of heads with their own factors, or `None` if all heads share a
        factor."""
        return self.factor.shape[0] if self.factor.ndim == 2 else None

    def queries(self, q: Float[Array, "... dim"]) -> Float[Array, "... dim"]:
        """**Arguments:**

        - `q`: queries, `[..., seq, dim]`; `[..., heads, seq, dim]` where there are
            `heads`.

        **Returns:**

        The scaled queries, in the dtype of `q`; computed in at least float32.

        **Raises:** a `ValueError` if the shape does not fit the positions.
        """
        check_tokens("q", q)
        axes = self.factor.ndim + 1
        # Broadcasting would silently accept heads in place of tokens.
        if q.shape[-axes:-1] != self.factor.shape:
            wanted = "[..., seq, dim]" if axes == 2 else "[..., heads, seq, dim]"
            raise ValueError(
                f"`q` must have shape {wanted} with {wanted[6:-6]} = "
                f"{self.factor.shape}, as the positions have, but got {q.shape}. {AXES}"
            )
        dtype = computing_dtype(q.dtype)
        leading = tuple(range(q.ndim - axes))
        factor = jnp.expand_dims(self.factor, leading)[..., None].astype(dtype)
        return (q.astype(dtype) * factor).astype(q.dtype)

    def keys(self, k: Float[Array, "... dim"]) -> Float[Array, "... dim"]:
        """Returns `k`."""
        return k

    def inverse(self) -> "Scaling":
        """Divides queries by the same numbers."""
        return Scaling(1 / self.factor)
