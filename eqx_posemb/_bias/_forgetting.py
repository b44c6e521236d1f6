"""Forgetting attention: gates of the tokens lower the logits of earlier keys."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num, PRNGKeyArray

from .._checks import check_count, check_finite, require
from .._given import check_sums
from .._layers import linear_layer, uniform
from .._low_rank import centered, Factors
from .._module import Module
from .._phase import as_float
from .._positions import distance
from ._abstract import AbstractBias


class Forgetting(AbstractBias):
    r"""Forgetting attention (FoX), Lin et al. 2025.

    It subtracts the gates between key and query from each logit:

    $$b_h(i, j) = \sum_{l=j+1}^{i} \ln f_{lh} = p_{jh} - p_{ih}, \qquad
      p_{ih} = -\sum_{l \le i} \ln f_{lh}$$

    for a gate $0 < f_{lh} < 1$ of each token $l$ and head $h$. It equals
    [`eqx_posemb.ALiBi`][] with a slope of one, over positions computed from the tokens.
    A small gate makes a long step between two positions. [`eqx_posemb.ForgetGate`][]
    computes these positions from hidden states, as floats of shape [seq, heads]. Future
    keys would be rewarded, so a mask must exclude them.

    With `bidirectional`, keys on both sides are forgotten, for encoders. Then each head
    $h$ has a second gate $g_{lh}$, and a future key has the bias

    $$b_h(i, j) = \sum_{l=i+1}^{j} \ln g_{lh} = p'_{ih} - p'_{jh}, \qquad
      p'_{ih} = -\sum_{l \le i} \ln g_{lh}$$

    Build the gate for twice as many heads. The first half of its positions is for past
    keys, and the second half for future keys, as in x-transformers.

    In the paper it replaces rotary embeddings. These positions have no order, so
    `causal` and `window` of [`eqx_posemb.PositionalEmbedding.attend`][] need `q_order`
    and `k_order`, or a `mask`. For packed documents give segments.

    To decode, cache the positions together with the keys, and pass the last position to
    [`eqx_posemb.ForgetGate`][] as `start`. Only differences of positions matter. Where
    sums grow beyond 10⁴, subtract a number from all positions of a head to keep float32
    accurate.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        gate = pe.ForgetGate(dim=16, heads=2, key=jax.random.key(0))
        embedding = pe.PositionalEmbedding(bias=pe.Forgetting(heads=2))
        x = jnp.ones((5, 16))  # hidden states
        q = k = v = jnp.ones((2, 5, 8))
        p = gate(x)
        causal = jnp.tril(jnp.ones((5, 5), bool))
        out = embedding.attend(q, k, v, p, p, mask=causal)

        more = gate(x[:1], start=p[-1])  # the next token
        p = jnp.concatenate([p, more])
        ```

    ??? cite "Reference"

        [Forgetting Transformer: Softmax Attention with a Forget
        Gate](https://arxiv.org/abs/2503.02130), Section 3.

        ```bibtex
        @inproceedings{lin2025forgetting,
            author={Lin, Zhixuan and Nikishin, Evgenii and He, Xu Owen and Courville,
                    Aaron},
            title={Forgetting Transformer: Softmax Attention with a Forget Gate},
            booktitle={International Conference on Learning Representations},
            year={2025},
        }
        ```
    """

    traits = ("causal",)

    # The gate of each layer has all parameters, so the bias has none and layers share
    # it.
    heads: int = eqx.field(static=True)
    bidirectional: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        check_count("heads", self.heads, 1)

    @jax.named_scope("eqx_posemb.Forgetting")
    def __call__(
        self, q_positions: Num[Array, "q axes"], k_positions: Num[Array, "k axes"]
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q_positions`: the cumulative sums of the queries' tokens, for each head.
        - `k_positions`: the cumulative sums of the keys' tokens.

        **Returns:**

        The bias of each pair, in JAX's default float dtype.

        **Raises:** a `ValueError` if positions have no number for each head.
        """
        self._check(q_positions, k_positions)
        delta = jnp.moveaxis(as_float(distance(q_positions, k_positions)), -1, 0)
        if not self.bidirectional:
            return delta
        past, future = jnp.split(delta, 2)
        # Both sums grow with every token, so their sign is the order of the tokens.
        return jnp.where(past + future <= 0, past, -future)

    def low_rank(
        self, q_positions: Num[Array, "q axes"], k_positions: Num[Array, "k axes"]
    ) -> Factors:
        r"""The bias as products, $-p_{ih} \cdot 1 + 1 \cdot p_{jh}$: two channels for
        queries and keys, counted from the middle of the queries' positions.

        !!! Example

            ```python
            import jax.numpy as jnp
            import eqx_posemb as pe

            bias = pe.Forgetting(heads=2)
            p = jnp.array([[0.5, 0.1], [1.0, 0.2], [2.0, 0.7]])
            q, k = bias.low_rank(p, p)
            assert jnp.allclose(q @ k.swapaxes(1, 2), bias(p, p))
            ```

        **Arguments:**

        - `q_positions`, `k_positions`: as in `__call__`.

        **Returns:**

        Channels of queries `[heads, q, 2]` and of keys `[heads, k, 2]`. See
        [`eqx_posemb.PositionalEmbedding.for_kernel`][].

        **Raises:** a `ValueError` as `__call__`, or if the bias is `bidirectional`.
        """
        rule = (
            "be False for channels, as a product of a query and a key has no other side"
        )
        require(not self.bidirectional, "bidirectional", rule, True, "Use `attend`.")
        self._check(q_positions, k_positions)
        q, k = (as_float(p).T for p in centered(q_positions, k_positions))
        of_q = jnp.stack([-q, jnp.ones_like(q)], axis=-1)
        return of_q, jnp.stack([jnp.ones_like(k), k], axis=-1)

    def _check(self, q_positions, k_positions):
        numbers = self.heads * (2 if self.bidirectional else 1)
        check_sums(q_positions, k_positions, numbers, "gate")


Forgetting.__init__.__doc__ = """**Arguments:**

- `heads`: The number of heads.
- `bidirectional`: Whether future keys are forgotten as well. Positions then have two
    numbers for each head: first all sums for past keys, then all sums for future keys.

**Raises:** a `ValueError` if `heads` is less than one.
"""


class ForgetGate(Module):
    r"""The gate of forgetting attention: computes positions from hidden states.

    $$p_{ih} = p_{0h} - \sum_{l \le i} \ln \sigma(w_h \cdot x_l + \beta_h)$$

    for hidden states $x$, and weights $w$ (`weight`) and $\beta$ (`bias`) of each head
    $h$. [`eqx_posemb.Forgetting`][] reads these positions. Each layer has its own gate.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        gate = pe.ForgetGate(dim=16, heads=2, key=jax.random.key(0))
        x = jax.random.normal(jax.random.key(1), (5, 16))
        p = gate(x)
        assert (p[1:] > p[:-1]).all()
        # In two parts it is the same.
        assert jnp.allclose(gate(x[3:], start=p[2]), p[3:], rtol=1e-5)
        ```
    """

    weight: Float[Array, "heads dim"]
    bias: Float[Array, " heads"]

    def __init__(
        self, dim: int, heads: int, *, start_bias: float = 0.0, key: PRNGKeyArray
    ):
        """**Arguments:**

        - `dim`: The number of channels of a hidden state.
        - `heads`: The number of heads.
        - `start_bias`: The initial $\\beta$. With zero, as in the authors' code, each
            gate starts near one half. Wall attention starts at 8, where gates are near
            one.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if `dim` or `heads` is less than one.
        """
        check_count("dim", dim, 1)
        check_count("heads", heads, 1)
        check_finite("start_bias", start_bias)
        self.weight = uniform(key, (heads, dim), dim)
        self.bias = jnp.full(heads, float(start_bias))

    @jax.named_scope("eqx_posemb.ForgetGate")
    def __call__(
        self,
        x: Float[Array, "seq dim"],
        *,
        start: Float[Array, " heads"] | None = None,
    ) -> Float[Array, "seq heads"]:
        """**Arguments:**

        - `x`: the hidden states of consecutive tokens.
        - `start`: the position of the token before the first; zero by default.

        **Returns:**

        The positions, in JAX's default float dtype.
        """
        gates = linear_layer(self.weight, self.bias, as_float(x).T)
        # The logarithm of a sigmoid that underflows would be infinite. `log_sigmoid`
        # stays finite.
        positions = jnp.cumsum(-jax.nn.log_sigmoid(gates), axis=1).T
        return positions if start is None else positions + as_float(start)[None]
