"""Rotary embeddings that scale each frequency by its own factor."""

import math
from collections.abc import Sequence

from ..._checks import check_at_least, check_positive
from ..._frequencies import Divided, LongRoPEFrequencies, NTKByParts, YaRNFrequencies
from .._pairing import Layout, Pairing
from .._rotary import Rotary
from ._rope import geometric


def yarn(
    dim: int,
    *,
    factor: float,
    original_length: int,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
    extrapolation_factor: float = 1.0,
    attention_factor: float | None = None,
    mscale: float | None = None,
    mscale_all_dim: float | None = None,
    truncate: bool = True,
    theta: float = 10_000.0,
    pairing: Layout | Pairing = "halves",
    rotary_dim: int | None = None,
) -> Rotary:
    r"""Yet another RoPE extension (YaRN), Peng et al. 2024.

    It keeps high frequencies, divides low frequencies, and sharpens attention.

    It keeps frequencies with more than `beta_fast` turns in the original context. It
    divides frequencies with fewer than `beta_slow` turns by `factor`, and blends the
    others: see [`eqx_posemb.frequencies.YaRNFrequencies`][]. Queries and keys are both
    multiplied by

    $$m(s) = 0.1 \ln s + 1$$

    for the scaling factor $s$ = `factor`. The logits are therefore multiplied by
    $m(s)^2$, which sharpens attention over more keys. Choose it to extend a trained
    model, with little further training or none.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        rope = pe.yarn(64, factor=4.0, original_length=2048)
        rotation = rope(jnp.arange(10))
        ```

    **Arguments:**

    - `factor`: The ratio of the longer context to `original_length`.
    - `original_length`: The context length, in positions, of training.
    - `beta_fast`, `beta_slow`: The numbers of turns between which to blend.
    - `extrapolation_factor`: The kept share of high frequencies. With 0, all
        frequencies are interpolated.
    - `attention_factor`: The final value of $m$, which replaces the formula.
    - `mscale`, `mscale_all_dim`: The numbers $a$ and $b$ of DeepSeek's factor, $(0.1\,a
        \ln s + 1) / (0.1\,b \ln s + 1)$, which replaces $m$. Give both or neither.
        Equal numbers give 1, and DeepSeek then scales its logits elsewhere.
    - `truncate`: Whether the ends of the blend are rounded outwards to whole pairs, as
        the authors' code has it. gpt-oss has `False`.
    - `dim`, `theta`, `pairing`, `rotary_dim`: as in [`eqx_posemb.rope`][].

    **Returns:** a [`eqx_posemb.Rotary`][].

    **Raises:** a `ValueError` for settings out of range, if one of `mscale` and
    `mscale_all_dim` is missing, or if they come together with `attention_factor`.

    ??? cite "Reference"

        [YaRN: Efficient Context Window Extension of Large Language
        Models](https://arxiv.org/abs/2309.00071), Sections 3.2 to 3.4; where paper and
        released code differ, in the ramp, this is the code.

        ```bibtex
        @inproceedings{peng2024yarn,
            author={Peng, Bowen and Quesnelle, Jeffrey and Fan, Honglu and
                    Shippole, Enrico},
            title={{YaRN}: Efficient Context Window Extension of Large Language
                   Models},
            booktitle={International Conference on Learning Representations},
            year={2024},
        }
        ```
    """
    schedule = YaRNFrequencies(
        geometric(dim, rotary_dim, theta),
        factor=factor,
        original_length=original_length,
        slow=beta_slow,
        fast=beta_fast,
        extrapolation_factor=extrapolation_factor,
        truncate=truncate,
    )
    scale = _yarn_scale(factor, attention_factor, mscale, mscale_all_dim)
    return Rotary(schedule, dim=dim, scale=scale, pairing=pairing)


def llama3_rope(
    dim: int,
    *,
    factor: float,
    original_length: int,
    low_freq_factor: float = 1.0,
    high_freq_factor: float = 4.0,
    theta: float = 10_000.0,
    pairing: Layout | Pairing = "halves",
    rotary_dim: int | None = None,
) -> Rotary:
    r"""The context extension of Llama 3.1, Meta 2024.

    It keeps high frequencies and divides low frequencies of a rotary embedding:

    $$\alpha_i = p\,\omega_i \Big(\frac{1 - \gamma_i}{s} + \gamma_i\Big), \qquad
      \gamma_i = \mathrm{clip}\Big(\frac{L_0\,\omega_i / 2\pi - r_\text{low}}
                                     {r_\text{high} - r_\text{low}}, 0, 1\Big)$$

    for $\omega_i = \theta^{-2i/d}$, the scaling factor $s$ = `factor`, $L_0$ =
    `original_length`, and $r$ the two frequency factors, in turns per original context.
    The schedule is [`eqx_posemb.frequencies.NTKByParts`][], the printed formula of
    Section 3.2 of the YaRN paper. It has no temperature. Llama 3.1 has `factor=8`,
    Llama 3.2 has `factor=32`, both `original_length=8192` and `theta=500_000`.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        rope = pe.llama3_rope(
            128, factor=8.0, original_length=8192, theta=500_000.0
        )
        rotation = rope(jnp.arange(10))
        ```

    **Arguments:**

    - `factor`: What slow frequencies are divided by.
    - `original_length`: The context length of training, in positions.
    - `low_freq_factor`: Pairs with fewer turns per original context are slowed.
    - `high_freq_factor`: Pairs with more turns are kept.
    - `dim`, `theta`, `pairing`, `rotary_dim`: as in [`eqx_posemb.rope`][].

    **Returns:** a [`eqx_posemb.Rotary`][].

    **Raises:** a `ValueError` for settings out of range, and as `rope`.

    ??? cite "Reference"

        [The Llama 3 Herd of Models](https://arxiv.org/abs/2407.21783), Section 3.4.2;
        the formula is in the released code.

        ```bibtex
        @article{llama2024herd,
            author={{Llama Team, AI at Meta}},
            title={The {Llama} 3 Herd of Models},
            journal={arXiv:2407.21783},
            year={2024},
        }
        ```
    """
    schedule = NTKByParts(
        geometric(dim, rotary_dim, theta),
        factor=factor,
        original_length=original_length,
        slow=low_freq_factor,
        fast=high_freq_factor,
    )
    return Rotary(schedule, dim=dim, pairing=pairing)


def longrope(
    dim: int,
    *,
    short_factor: Sequence[float],
    long_factor: Sequence[float],
    original_length: int,
    factor: float,
    attention_factor: float | None = None,
    theta: float = 10_000.0,
    pairing: Layout | Pairing = "halves",
    rotary_dim: int | None = None,
) -> Rotary:
    r"""LongRoPE, Ding et al. 2024.

    It divides each frequency of a rotary embedding by its own number, which a search
    has found:

    $$\alpha_i = p\, \frac{\theta^{-2i/d}}{\lambda_i}$$

    with $\lambda$ from `short_factor` up to the original length, and from `long_factor`
    for longer contexts. Queries and keys are both multiplied by

    $$m = \sqrt{1 + \ln s / \ln L_0}$$

    at every length, for a scaling factor $s$ (`factor`) and $L_0$ = `original_length`.
    Phi-3 and its successors use it. The divisors belong to a checkpoint, and have no
    default. Keys rotated below the switch do not match queries above it: see
    [`eqx_posemb.frequencies.LongRoPEFrequencies`][].

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        rope = pe.longrope(
            8,
            short_factor=(1.0, 1.0, 1.0, 1.1),
            long_factor=(1.0, 1.5, 3.0, 6.0),
            original_length=4096,
            factor=32.0,
        )
        rotation = rope(jnp.arange(10), length=131_072)
        ```

    **Arguments:**

    - `short_factor`, `long_factor`: A divisor for each frequency.
    - `original_length`: The context length, in positions, of training.
    - `factor`: How many times longer than that the context is to be; for $m$ only.
    - `attention_factor`: What to use for $m$ instead, as a final value.
    - `dim`, `theta`, `pairing`, `rotary_dim`: as in [`eqx_posemb.rope`][].

    **Returns:** a [`eqx_posemb.Rotary`][].

    **Raises:** a `ValueError` for settings out of range, unless there is a divisor for
    each frequency, and as `rope`.

    ??? cite "Reference"

        [LongRoPE: Extending LLM Context Window Beyond 2 Million
        Tokens](https://arxiv.org/abs/2402.13753), Section 3, as released with Phi-3.

        ```bibtex
        @inproceedings{ding2024longrope,
            author={Ding, Yiran and Zhang, Li Lyna and Zhang, Chengruidong and Xu,
                    Yuanyuan and Shang, Ning and Xu, Jiahang and Yang, Fan and Yang,
                    Mao},
            title={{LongRoPE}: Extending {LLM} Context Window Beyond 2 Million Tokens},
            booktitle={International Conference on Machine Learning},
            year={2024},
        }
        ```
    """
    check_at_least("factor", factor, 1)
    check_at_least("original_length", original_length, 2)
    base = geometric(dim, rotary_dim, theta)
    schedule = LongRoPEFrequencies(
        Divided(base, short_factor), Divided(base, long_factor), original_length
    )
    if attention_factor is None:
        # Released models have the factor at every length, also within the original
        # context.
        attention_factor = long_magnitude(factor, original_length)
    check_positive("attention_factor", attention_factor)
    return Rotary(schedule, dim=dim, scale=attention_factor, pairing=pairing)


def _yarn_scale(
    factor: float,
    attention_factor: float | None,
    mscale: float | None,
    mscale_all_dim: float | None,
) -> float:
    if (mscale is None) != (mscale_all_dim is None):
        raise ValueError(
            "`mscale` and `mscale_all_dim` go together, as the two ends of a ratio, "
            f"but got mscale={mscale} and mscale_all_dim={mscale_all_dim}."
        )
    # A factor of a checkpoint is final, so `mscale` would have no effect.
    if attention_factor is not None:
        if mscale is not None:
            raise ValueError(
                "`attention_factor` replaces `mscale` and `mscale_all_dim`, but got "
                f"all three: {attention_factor}, {mscale} and {mscale_all_dim}. Give "
                "either the factor or the other two."
            )
        check_positive("attention_factor", attention_factor)
        return attention_factor
    if mscale is None or mscale_all_dim is None:
        return magnitude(factor)
    check_positive("mscale", mscale)
    check_positive("mscale_all_dim", mscale_all_dim)
    return magnitude(factor, mscale) / magnitude(factor, mscale_all_dim)


def magnitude(factor: float, slope: float = 1.0) -> float:
    """The factor of queries and keys in YaRN, for a scaling factor."""
    return 0.1 * slope * math.log(factor) + 1 if factor > 1 else 1.0


def long_magnitude(factor: float, original_length: int) -> float:
    """The factor of queries and keys in LongRoPE, for a scaling factor."""
    return math.sqrt(1 + math.log(factor) / math.log(original_length))
