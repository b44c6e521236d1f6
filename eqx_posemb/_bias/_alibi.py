"""ALiBi: a penalty that grows linearly with distance."""

import math
from collections.abc import Sequence
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Num

from .._checks import check_between, check_choice, check_count, check_positive, require
from .._given import Positions
from .._low_rank import centered, Factors
from .._phase import as_float
from ._abstract import AbstractRelativeBias


Form = Literal["causal", "symmetric", "asymmetric", "one_sided"]

# The bias of excluded keys in the one-sided form. The softmax turns it into a weight of
# zero. With -inf, a block without other keys would give NaN.
NEVER = -1e9


class ALiBi(AbstractRelativeBias):
    r"""Attention with linear biases (ALiBi), Press et al. 2022.

    It subtracts a multiple of the distance from each logit:

    $$b_h(\delta) = m_h\, \delta \quad \text{(causal)}, \qquad
      b_h(\delta) = -m_h\, |\delta| \quad \text{(symmetric)}$$

    for the distance $\delta = p_k - p_q$ and a fixed slope $m_h$ for each head $h$.
    Heads with steep slopes attend to near keys, and heads with small slopes attend to
    far keys. It has no parameters, and extrapolates well beyond the trained length,
    since far keys fade at every length. The drawback: distant information is hard to
    retrieve.

    The causal form rewards future keys, so a causal mask must exclude them. Bloom adds
    $m_h p_k$ alone, which is equal after the softmax. In an encoder, the symmetric form
    does not distinguish past from future. Two other forms do:

    - `"asymmetric"`: $-m_h (|\delta| - \tfrac12 [\delta < 0])$. A past key is half a
        position nearer. DeepMind's benchmarks of length generalization use this form.
    - `"one_sided"`: the first half of the heads attends to past keys, the other half to
        future keys, with equal slopes. ALiBi's author proposed it for encoders. The
        bias of all other keys is -1e9.

    For $H$ heads, the slopes are a geometric sequence from $2^{-8/H}$ to $2^{-8}$, or
    to $2^{-m}$ for another `bias_max` $m$, which MPT calls `alibi_bias_max`. If
    $H$ is not a power of two, two conventions exist. A checkpoint needs the convention
    of its training:

    - `"power_of_two"`: the slopes for the power of two below $H$, then every second one
        for twice that power. The authors' code, Bloom, MPT and Falcon use it.
    - `"geometric"`: $2^{-mh/H}$ for $h = 1, \dots, H$. The text of the paper has it.

    Falcon adds its bias before it scales by $1/\sqrt{d}$: give `factor=head_dim**-0.5`.
    It also rounds the slopes to bfloat16. [`eqx_posemb.LearnedALiBi`][] trains the
    slopes. In tensor-parallel attention, each device passes the slopes of its heads as
    `slopes`.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        bias = pe.ALiBi(heads=8)
        assert bias.slopes[0] == 0.5
        assert bias(jnp.array([9]), jnp.arange(10))[0, 0, 0] == -4.5

        encoder = pe.ALiBi(heads=8, form="one_sided")
        ahead = encoder(jnp.array([0]), jnp.arange(2))[:, 0, 1]
        assert (ahead[:4] < -1e8).all() and (ahead[4:] > -1).all()
        ```

    ??? cite "Reference"

        [Train Short, Test Long: Attention with Linear Biases Enables Input Length
        Extrapolation](https://arxiv.org/abs/2108.12409), Section 3; slopes as in the
        authors' code. The asymmetric form follows the code of [Randomized Positional
        Encodings Boost Length Generalization of
        Transformers](https://arxiv.org/abs/2305.16843).

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

    heads: int = eqx.field(static=True)
    form: Form = eqx.field(static=True)
    convention: Literal["power_of_two", "geometric"] = eqx.field(static=True)
    biased_heads: int | None = eqx.field(static=True)
    factor: float = eqx.field(static=True)
    bias_max: float = eqx.field(static=True)
    # An array is a leaf, so that devices can hold the slopes of their own heads.
    given: Float[Array, " heads"] | None = eqx.field(repr=False)
    # Python numbers are static, so no optimizer trains the slopes.
    numbers: tuple[float, ...] | None = eqx.field(static=True, repr=False)

    def __init__(
        self,
        heads: int | None = None,
        form: Form = "causal",
        convention: Literal["power_of_two", "geometric"] = "power_of_two",
        biased_heads: int | None = None,
        factor: float = 1.0,
        *,
        slopes: Array | np.ndarray | Sequence[float] | None = None,
        bias_max: float = 8.0,
    ):
        """**Arguments:**

        - `heads`: The number of heads. With `slopes` it may be left out.
        - `form`: `"causal"`, or for encoders `"symmetric"`, `"asymmetric"` or
            `"one_sided"`.
        - `convention`: Which slopes to use if `heads` is no power of two.
        - `biased_heads`: How many heads have a bias, counted from the first. The slopes
            are computed for this number, and the other heads add zero. By default all
            heads have a bias. x-transformers calls it `alibi_num_heads`.
        - `factor`: The slopes are multiplied by it.
        - `slopes`: The slope of each head, which replaces the formula. Slopes must be
            positive or zero. Python numbers are constants. A JAX array is a leaf, for
            example the shard of one device. An optimizer would train it, so build the
            bias inside of the function.
        - `bias_max`: The exponent $m$ of the smallest slope, $2^{-m}$.

        **Raises:** a `ValueError` if `heads` is less than one or differs from the
        number of `slopes`. The same if `biased_heads` is not between one and `heads`,
        or is odd in the one-sided form. The same if `factor` or `bias_max` is not
        positive, or `form` or `convention` is unknown. `slopes` must be finite, must
        not be negative, and exclude `biased_heads`, `convention`, `bias_max` and
        `form="one_sided"`.
        """
        if slopes is not None:
            chosen = convention != "power_of_two" or biased_heads or bias_max != 8
            if form == "one_sided" or chosen:
                raise ValueError(
                    "`slopes` must be None with `form='one_sided'`, which has a side "
                    "for each half of all heads, and with `convention`, "
                    "`biased_heads` or `bias_max`, "
                    f"which choose slopes, but got {form!r}, {convention!r}, "
                    f"{biased_heads} and {bias_max}. Give the slopes alone."
                )
            slopes = _checked(slopes)
            rule = f"be the number of `slopes`, {len(slopes)}"
            require(heads in (None, len(slopes)), "heads", rule, heads, "Leave it out.")
            heads = len(slopes)
        if heads is None:
            raise ValueError(
                "`heads` must be a number, or `slopes` be given, but got None."
            )
        check_count("heads", heads, 1)
        check_choice("convention", convention, ("power_of_two", "geometric"))
        check_positive("factor", factor)
        check_positive("bias_max", bias_max)
        biased = heads if biased_heads is None else biased_heads
        check_between("biased_heads", biased, 1, heads, "the number of heads")
        check_form(form, biased)
        self.heads = heads
        self.form = form
        self.convention = convention
        self.biased_heads = biased_heads
        self.factor = float(factor)
        self.bias_max = float(bias_max)
        self.given = slopes if isinstance(slopes, jax.Array) else None
        self.numbers = slopes if isinstance(slopes, tuple) else None

    @property
    def slopes(self) -> tuple[float, ...] | Float[Array, " heads"]:
        """The slope of each head, in logits per unit of position."""
        if self.given is not None:
            return self.factor * self.given
        if self.numbers is not None:
            return tuple(self.factor * slope for slope in self.numbers)
        heads = self.heads if self.biased_heads is None else self.biased_heads
        slopes = alibi_slopes(heads, self.form, self.convention, self.bias_max)
        scaled = tuple(self.factor * slope for slope in slopes)
        # Heads without a bias have the slope zero, so all heads share one program.
        return scaled + (0.0,) * (self.heads - heads)

    def along(self, delta: Num[Array, " distances"]) -> Float[Array, "heads distances"]:
        """**Arguments:**

        - `delta`: distances, key minus query.

        **Returns:**

        The bias of each distance, in JAX's default float dtype.
        """
        return linear(delta, jnp.array(self.slopes), self.form, self.biased_heads)

    def low_rank(
        self, q_positions: Num[Positions, " q"], k_positions: Num[Positions, " k"]
    ) -> Factors:
        r"""The causal form as products, $-m_h p_i \cdot 1 + m_h \cdot p_j$: two
        channels for queries and keys, whatever the length.

        Positions are counted from the middle of the queries. Both products are
        therefore at most half of the largest bias between two queries. The sum of the
        products is as accurate as the bias.

        !!! Example

            ```python
            import jax.numpy as jnp
            import eqx_posemb as pe

            bias, p = pe.ALiBi(heads=8), jnp.arange(5) + 10**9
            q, k = bias.low_rank(p, p)
            assert q.shape == (8, 5, 2) and k.shape == (1, 5, 2)
            assert (q @ k.swapaxes(1, 2) == bias(p, p)).all()
            ```

        **Arguments:**

        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.

        **Returns:**

        Channels of queries `[heads, q, 2]` and of keys `[1, k, 2]`. See
        [`eqx_posemb.PositionalEmbedding.for_kernel`][].

        **Raises:** a `ValueError` for the other forms, which are no such products.
        """
        slopes = jnp.array(self.slopes)
        return linear_factors(q_positions, k_positions, slopes, self.form)


def _checked(slopes):
    """The slopes, after checks, as a JAX array or as numbers."""
    shape = np.shape(slopes)
    rule = "have shape [heads], a number for each"
    require(len(shape) == 1 and shape[0], "slopes", rule, shape)
    if isinstance(slopes, jax.Array) and not jnp.issubdtype(slopes.dtype, jnp.floating):
        raise ValueError(
            f"`slopes` must be floating point, but got {slopes.dtype}. Cast them to "
            "jnp.float32."
        )
    # The values of a tracer are unknown, so their range cannot be checked.
    if isinstance(slopes, Tracer):
        return slopes
    for slope in np.asarray(slopes, float).tolist():
        rule = "be finite and not negative, as `form` says where the bias falls"
        require(0 <= slope < math.inf, "slopes", rule, slope)
    is_array = isinstance(slopes, jax.Array)
    return slopes if is_array else tuple(np.asarray(slopes, float).tolist())


def check_form(form: str, heads: int) -> None:
    check_choice("form", form, ("causal", "symmetric", "asymmetric", "one_sided"))
    rule = "be even for `form='one_sided'`, half of them for each side"
    require(form != "one_sided" or heads % 2 == 0, "heads", rule, heads)


def alibi_slopes(
    heads: int, form: Form, convention: str, most: float = 8.0
) -> tuple[float, ...]:
    if form == "one_sided":
        return 2 * alibi_slopes(heads // 2, "symmetric", convention, most)
    if convention == "geometric":
        return _geometric_slopes(heads, most)
    power = 2 ** math.floor(math.log2(heads))
    between = _geometric_slopes(2 * power, most)[::2]
    return _geometric_slopes(power, most) + between[: heads - power]


def linear(
    delta: Num[Array, " distances"],
    slopes: Float[Array, " heads"],
    form: Form,
    biased_heads: int | None = None,
) -> Float[Array, "heads distances"]:
    """The bias of each distance, for slopes that are fixed or learned."""
    delta, slopes = as_float(delta)[None], as_float(slopes)[:, None]
    if form == "causal":
        return slopes * delta
    if form == "asymmetric":
        return -slopes * (jnp.abs(delta) - jnp.where(delta < 0, 0.5, 0.0))
    bias = -slopes * jnp.abs(delta)
    if form == "symmetric":
        return bias
    heads = slopes.shape[0]
    half = (heads if biased_heads is None else biased_heads) // 2
    # Heads without a bias attend to both sides, so their side is zero.
    side = jnp.array([-1] * half + [1] * half + [0] * (heads - 2 * half))[:, None]
    return jnp.where(side * jnp.sign(delta).astype(side.dtype) < 0, NEVER, bias)


def _geometric_slopes(heads: int, most: float) -> tuple[float, ...]:
    return tuple(2 ** (-most * (h + 1) / heads) for h in range(heads))


def linear_factors(
    q_positions: Num[Positions, " q"],
    k_positions: Num[Positions, " k"],
    slopes: Float[Array, " heads"],
    form: Form,
) -> Factors:
    if form != "causal":
        raise ValueError(
            "`form` must be 'causal' for `low_rank`, as what bends at distance zero is "
            f"no sum of few products, but got {form!r}. Use `attend`, which takes any, "
            "in as little memory."
        )
    q, k = (as_float(p) for p in centered(q_positions, k_positions))
    slopes = jnp.broadcast_to(as_float(slopes)[:, None], (slopes.size, q.size))
    of_q = jnp.stack([-slopes * q[None], slopes], axis=-1)
    # The slopes are factors of the queries, so all heads share the channels of keys.
    return of_q, jnp.stack([jnp.ones_like(k), k], axis=-1)[None]
