"""Rotary embeddings that scale all frequencies by one rule."""

from ..._frequencies import DynamicNTK, Linear, NTK
from .._pairing import Layout, Pairing
from .._rotary import Rotary
from ._rope import geometric


def linear_rope(
    dim: int,
    *,
    factor: float,
    theta: float = 10_000.0,
    pairing: Layout | Pairing = "halves",
    rotary_dim: int | None = None,
) -> Rotary:
    r"""Position interpolation, Chen et al. 2023.

    It divides all frequencies of a rotary embedding for a longer context:

    $$\alpha_i = \frac{p}{s}\, \theta^{-2i/d}$$

    for the scaling factor $s$ = `factor`. All angles stay within the trained range.
    Neighbors become more similar, so the model needs some further training. Without
    further training, choose [`eqx_posemb.yarn`][]. It is `linear` in transformers.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        rotation = pe.linear_rope(64, factor=4.0)(jnp.arange(10))
        ```

    **Arguments:**

    - `factor`: How many times longer than in training the context is to be.
    - `dim`, `theta`, `pairing`, `rotary_dim`: as in [`eqx_posemb.rope`][].

    **Returns:** a [`eqx_posemb.Rotary`][].

    **Raises:** a `ValueError` if `factor` is less than one, and as `rope`.

    ??? cite "Reference"

        [Extending Context Window of Large Language Models via Positional
        Interpolation](https://arxiv.org/abs/2306.15595), Section 2.3.

        ```bibtex
        @article{chen2023extending,
            author={Chen, Shouyuan and Wong, Sherman and Chen, Liangjian and Tian,
                    Yuandong},
            title={Extending Context Window of Large Language Models via Positional
                   Interpolation},
            journal={arXiv:2306.15595},
            year={2023},
        }
        ```
    """
    base = geometric(dim, rotary_dim, theta)
    return Rotary(Linear(base, factor), dim=dim, pairing=pairing)


def ntk_rope(
    dim: int,
    *,
    factor: float,
    theta: float = 10_000.0,
    pairing: Layout | Pairing = "halves",
    rotary_dim: int | None = None,
) -> Rotary:
    r"""NTK-aware scaling, bloc97 2023.

    It extends the context of a rotary embedding by a larger base:

    $$\alpha_i = p\, (\theta\, s^{d/(d-2)})^{-2i/d}$$

    for the scaling factor $s$ = `factor`. The highest frequency is kept, and the lowest
    is divided by $s$. Without further training, a model extrapolates beyond its trained
    length, but not to $s$ times the length. [`eqx_posemb.dynamic_ntk_rope`][] has a
    factor that follows the length in use.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        rotation = pe.ntk_rope(64, factor=4.0)(jnp.arange(10))
        ```

    **Arguments:**

    - `factor`: What the slowest frequency is divided by.
    - `dim`, `theta`, `pairing`, `rotary_dim`: as in [`eqx_posemb.rope`][]. At least
        four rotated channels.

    **Returns:** a [`eqx_posemb.Rotary`][].

    **Raises:** a `ValueError` if `factor` is less than one, and as `rope`.

    ??? cite "Reference"

        [YaRN: Efficient Context Window Extension of Large Language
        Models](https://arxiv.org/abs/2309.00071), Section 3.1, where the method, first
        posted by bloc97 in a forum, is written down.

        ```bibtex
        @misc{bloc97ntk2023,
            author={{bloc97}},
            title={{NTK}-Aware Scaled {RoPE} allows {LLaMA} models to have extended
                   (8k+) context size without any fine-tuning and minimal perplexity
                   degradation},
            howpublished={Reddit, r/LocalLLaMA},
            year={2023},
        }
        ```
    """
    base = geometric(dim, rotary_dim, theta)
    return Rotary(NTK(base, factor), dim=dim, pairing=pairing)


def dynamic_ntk_rope(
    dim: int,
    *,
    factor: float,
    original_length: int,
    theta: float = 10_000.0,
    pairing: Layout | Pairing = "halves",
    rotary_dim: int | None = None,
) -> Rotary:
    r"""Dynamic NTK scaling: the context length sets the scaling factor.

    $$\alpha_i = p\, (\theta\, s_L^{d/(d-2)})^{-2i/d}, \qquad
      s_L = s\,\frac{\max(L, L_0)}{L_0} - (s - 1)$$

    for a context of $L$ positions now, $L_0$ in training (`original_length`) and a
    `factor` $s$. Texts within the trained length do not change. Keys rotated at one
    length do not match queries rotated at another. With a key-value cache of rotated
    keys, fix `length`. It is `dynamic` in transformers, without the memory of earlier
    calls.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        rope = pe.dynamic_ntk_rope(64, factor=2.0, original_length=2048)
        rotation = rope(jnp.arange(10), length=8192)
        ```

    **Arguments:**

    - `factor`: How strongly the scaling grows with the length.
    - `original_length`: The context length, in positions, of training.
    - `dim`, `theta`, `pairing`, `rotary_dim`: as in [`eqx_posemb.rope`][]. At least
        four rotated channels.

    **Returns:** a [`eqx_posemb.Rotary`][]. With `length` a Python number its angles
    are exact; otherwise float32, see [`eqx_posemb.frequencies.DynamicNTK`][].

    **Raises:** a `ValueError` if `factor` is less than one or `original_length` not
    positive, and as `rope`.

    ??? cite "Reference"

        [YaRN: Efficient Context Window Extension of Large Language
        Models](https://arxiv.org/abs/2309.00071), Section 3.3, where the method, first
        posted by emozilla in a forum, is written down.

        ```bibtex
        @misc{emozilla2023dynamic,
            author={{emozilla}},
            title={Dynamically Scaled {RoPE} further increases performance of long
                   context {LLaMA} with zero fine-tuning},
            howpublished={Reddit, r/LocalLLaMA},
            year={2023},
        }
        ```
    """
    base = geometric(dim, rotary_dim, theta)
    schedule = DynamicNTK(base, factor, original_length)
    return Rotary(schedule, dim=dim, pairing=pairing)
