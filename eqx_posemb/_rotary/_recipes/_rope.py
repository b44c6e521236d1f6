"""Rotary embeddings for the training length."""

from ..._checks import check_even, check_positive, require
from ..._frequencies import Geometric, Linear, LogShifted, Truncated
from .._decay import XPosDecay
from .._pairing import Layout, Pairing
from .._rotary import Rotary


def rope(
    dim: int,
    *,
    theta: float = 10_000.0,
    pairing: Layout | Pairing = "halves",
    rotary_dim: int | None = None,
) -> Rotary:
    r"""Rotary position embedding (RoPE), Su et al. 2021.

    It rotates each pair of channels of queries and keys by an angle proportional to the
    position:

    $$\alpha_i = p\, \theta^{-2i/d}, \qquad i = 0, \dots, d/2 - 1$$

    for the position $p$ and $d$ rotated channels. It is the default of today's language
    models. It has no parameters, costs one pass over queries and keys, and its logits
    depend on relative positions alone. It does not extrapolate beyond the trained
    length, and other recipes extend it.

    !!! Example

        ```python
        import equinox as eqx
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        rope = pe.rope(64, theta=500_000.0)
        q = jnp.ones((8, 10, 64))  # [heads, seq, dim]
        rotation = rope(jnp.arange(10))
        q = rotation.queries(q)
        ```

    **Arguments:**

    - `dim`: The number of channels of a head.
    - `theta`: The base. 10,000 in the paper, 500,000 in Llama 3, 1,000,000 in Qwen 2.
    - `pairing`: Which channels form a pair: `"halves"` (transformers' Llama, GPT-NeoX),
        `"adjacent"` (the paper, GPT-J, Meta's Llama) or a
        [`eqx_posemb.rotations.Pairing`][]. Weights trained with one do not work with
        another.
    - `rotary_dim`: The number of rotated channels, from the first on. The others pass
        through. By default all channels rotate.

    **Returns:** a [`eqx_posemb.Rotary`][].

    **Raises:** a `ValueError` if `dim` or `rotary_dim` is odd, or `theta` not positive.

    ??? cite "Reference"

        [RoFormer: Enhanced Transformer with Rotary Position
        Embedding](https://arxiv.org/abs/2104.09864), Section 3.2.

        ```bibtex
        @article{su2024roformer,
            author={Su, Jianlin and Ahmed, Murtadha and Lu, Yu and Pan, Shengfeng and
                    Bo, Wen and Liu, Yunfeng},
            title={{RoFormer}: Enhanced Transformer with Rotary Position Embedding},
            journal={Neurocomputing},
            volume={568},
            year={2024},
        }
        ```
    """
    base = geometric(dim, rotary_dim, theta)
    return Rotary(base, dim=dim, pairing=pairing)


def proportional_rope(
    dim: int,
    *,
    fraction: float,
    factor: float = 1.0,
    theta: float = 10_000.0,
    pairing: Layout | Pairing = "halves",
    rotary_dim: int | None = None,
) -> Rotary:
    r"""Proportional rotary embedding (p-RoPE), Barbero et al. 2025.

    It rotates the fastest pairs only, and the others pass through:

    $$\alpha_i = \begin{cases}
        p\, \theta^{-2i/d} / s & i < \lfloor f d / 2 \rfloor \\ 0 & \text{else}
      \end{cases}$$

    for a `fraction` $f$ and a `factor` $s$. Slow pairs hardly distinguish positions.
    Models use them for content, which rotation disturbs in long contexts. It is
    `proportional` in transformers, and Gemma 4 has `fraction=0.25`.

    Not to be confused with `rotary_dim`, which spaces the frequencies over the rotated
    channels alone.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        rotation = pe.proportional_rope(64, fraction=0.25)(jnp.arange(10))
        ```

    **Arguments:**

    - `fraction`: The share of the pairs to rotate, from the fastest on.
    - `factor`: What the frequencies are divided by.
    - `dim`, `theta`, `pairing`, `rotary_dim`: as in [`eqx_posemb.rope`][].

    **Returns:** a [`eqx_posemb.Rotary`][].

    **Raises:** a `ValueError` unless `fraction` is above 0 and at most 1, if `factor`
    is less than one, and as `rope`.

    ??? cite "Reference"

        [Round and Round We Go! What makes Rotary Positional Encodings
        useful?](https://arxiv.org/abs/2410.06205), Section 6.

        ```bibtex
        @inproceedings{barbero2025round,
            author={Barbero, Federico and Vitvitskyi, Alex and Perivolaropoulos,
                    Christos and Pascanu, Razvan and Veli{\v{c}}kovi{\'c}, Petar},
            title={Round and Round We Go! What makes Rotary Positional Encodings
                   useful?},
            booktitle={International Conference on Learning Representations},
            year={2025},
        }
        ```
    """
    check_positive("fraction", fraction)
    require(fraction <= 1, "fraction", "be above 0 and at most 1", fraction)
    base = geometric(dim, rotary_dim, theta)
    # The product is rounded in the same order as in transformers, so both keep the same
    # pairs.
    schedule = Truncated(Linear(base, factor), keep=int(fraction * base.dim // 2))
    return Rotary(schedule, dim=dim, pairing=pairing)


def xpos(
    dim: int,
    *,
    scale_base: float = 512.0,
    center: int = 0,
    theta: float = 10_000.0,
    pairing: Layout | Pairing = "halves",
    rotary_dim: int | None = None,
) -> Rotary:
    r"""Extrapolatable position embedding (xPos), Sun et al. 2023.

    It rotates, and lets logits fade with the distance.

    Queries grow with the position and keys shrink. Each pair of channels has its own
    rate, and the product fades with the distance:

    $$\langle q_i, k_i \rangle \mapsto \zeta_i^{(p_q - p_k) / B}
      \langle R(\alpha_i(p_q))\, q_i, R(\alpha_i(p_k))\, k_i \rangle$$

    for the pair $i$, the angles $\alpha$ of [`eqx_posemb.rope`][], the rates $\zeta_i <
    1$ of [`eqx_posemb.rotations.XPosDecay`][] and `scale_base` $B$. Logits then
    oscillate less at long range. It is for causal attention only, since the factor
    grows towards the future.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        rotation = pe.xpos(64, scale_base=512.0)(jnp.arange(10))
        q = rotation.queries(jnp.ones((10, 64)))
        k = rotation.keys(jnp.ones((10, 64)))
        ```

    **Arguments:**

    - `scale_base`: The number of positions over which logits fade. A larger number
        fades less.
    - `center`: The position at which queries and keys keep their size: one constant for
        a model. The authors' code moves it with the length, which makes cached keys
        wrong; logits are the same.
    - `dim`, `theta`, `pairing`, `rotary_dim`: as in [`eqx_posemb.rope`][]. The authors'
        pairing is `"adjacent"`.

    **Returns:** a [`eqx_posemb.Rotary`][]. Applying its rotation raises at run time
    where the growth overflows: about 36,000 positions from `center` in float32.

    **Raises:** a `ValueError` if `scale_base` is not positive, and as `rope`.

    ??? cite "Reference"

        [A Length-Extrapolatable Transformer](https://arxiv.org/abs/2212.10554),
        Section 3.2, with the rates of the released code.

        ```bibtex
        @inproceedings{sun2023length,
            author={Sun, Yutao and Dong, Li and Patra, Barun and Ma, Shuming and Huang,
                    Shaohan and Benhaim, Alon and Chaudhary, Vishrav and Song, Xia and
                    Wei, Furu},
            title={A Length-Extrapolatable Transformer},
            booktitle={Annual Meeting of the Association for Computational Linguistics},
            year={2023},
        }
        ```
    """
    base = geometric(dim, rotary_dim, theta)
    decay = XPosDecay(base.dim, scale_base, center)
    return Rotary(base, decay=decay, dim=dim, pairing=pairing)


def grape_rope(
    dim: int,
    *,
    theta: float = 10_000.0,
    pairing: Layout | Pairing = "halves",
    rotary_dim: int | None = None,
) -> Rotary:
    r"""Rotates at learned frequencies, which start from a schedule: GRAPE-M.

    $$\alpha_i = p\, \theta^{-2i/d}\, e^{w_i}, \qquad i = 0, \dots, d/2 - 1$$

    for a learned weight $w$, zero at first. Multiplicative GRAPE describes rotations by
    generators that commute, and this is its form with fixed planes, shared by all
    heads. Frequencies stay positive. [`eqx_posemb.string_rope`][] learns the planes as
    well, and the additive form of GRAPE includes [`eqx_posemb.ALiBi`][] and
    [`eqx_posemb.Forgetting`][].

    Angles are float32 products, which are off by about `6e-8 * position * frequency`.
    The authors' code turns the other way: give
    `pairing=Pairing.halves(dim).inverse()` for their weights.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        rope = pe.grape_rope(64)
        plain = pe.rope(64)
        p = jnp.arange(10)
        assert jnp.allclose(rope(p).cos, plain(p).cos, atol=1e-5)
        ```

    **Arguments:**

    - `dim`, `theta`, `pairing`, `rotary_dim`: as in [`eqx_posemb.rope`][].

    **Returns:** a [`eqx_posemb.Rotary`][], whose `frequencies.weight` is $w$.

    **Raises:** a `ValueError` as `rope`.

    ??? cite "Reference"

        [Group Representational Position Encoding](https://arxiv.org/abs/2512.07805),
        Section 3.1, as in the authors' code.

        ```bibtex
        @article{zhang2025group,
            author={Zhang, Yifan and Chen, Zixiang and Liu, Yifeng and Qin, Zhen and
                    Yuan, Huizhuo and Xu, Kangping and Gu, Quanquan and Yao, Andrew
                    Chi-Chih},
            title={Group Representational Position Encoding},
            journal={arXiv:2512.07805},
            year={2025},
        }
        ```
    """
    schedule = LogShifted(geometric(dim, rotary_dim, theta))
    return Rotary(schedule, dim=dim, pairing=pairing)


def geometric(dim: int, rotary_dim: int | None, theta: float) -> Geometric:
    if rotary_dim is None:
        return Geometric(dim, theta)
    check_even("rotary_dim", rotary_dim, "to be rotated in pairs")
    require(rotary_dim <= dim, "rotary_dim", f"be at most `dim`, {dim}", rotary_dim)
    return Geometric(rotary_dim, theta)
