"""Rotary embeddings that avoid angles that training has not seen."""

from ..._frequencies import Clipped, Resonance
from .._pairing import Layout, Pairing
from .._rotary import Rotary
from ._rope import geometric


def clipped_rope(
    dim: int,
    *,
    clip: int,
    theta: float = 10_000.0,
    pairing: Layout | Pairing = "halves",
    rotary_dim: int | None = None,
) -> Rotary:
    r"""Rotates, and lets the slowest pairs fade to no rotation: clipped RoPE (CoPE).

    $$\alpha_i = p\, \omega_i\, c_i, \qquad c_i = \begin{cases}
      1 & i < n - m \\ \tfrac12 + \tfrac12 \cos \frac{\pi (i - n + m)}{m - 1} &
      \text{otherwise} \end{cases}$$

    for $\omega_i = \theta^{-2i/d}$, $n$ pairs and the slowest $m$ = `clip` of them. The
    angles of slow pairs are not all seen in training, and they weaken far keys with a
    similar meaning. [`eqx_posemb.proportional_rope`][] stops pairs at once, and this
    avoids its ringing.

    Not to be confused with contextual position encoding, [`eqx_posemb.CoPE`][].

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        rope = pe.clipped_rope(128, clip=20, theta=500_000.0)
        rotated = rope(jnp.arange(10)).queries(jnp.ones((10, 128)))
        ```

    **Arguments:**

    - `clip`: How many of the slowest pairs fade, the last of them to zero. The authors
        have 20 of 64 in Llama 3.
    - `dim`, `theta`, `pairing`, `rotary_dim`: as in [`eqx_posemb.rope`][].

    **Returns:** a [`eqx_posemb.Rotary`][].

    **Raises:** a `ValueError` unless `clip` is between 2 and the number of pairs, and
    as `rope`.

    ??? cite "Reference"

        [CoPE: Clipped RoPE as A Scalable Free Lunch for Long Context
        LLMs](https://arxiv.org/abs/2602.05258); the formula is from the authors' code.

        ```bibtex
        @article{li2026cope,
            author={Li, Haoran and Ren, Sucheng and Yuille, Alan and Wang, Feng},
            title={{CoPE}: Clipped {RoPE} as A Scalable Free Lunch for Long Context
                   {LLMs}},
            journal={arXiv:2602.05258},
            year={2026},
        }
        ```
    """
    schedule = Clipped(geometric(dim, rotary_dim, theta), clip)
    return Rotary(schedule, dim=dim, pairing=pairing)


def resonance_rope(
    dim: int,
    *,
    theta: float = 10_000.0,
    pairing: Layout | Pairing = "halves",
    rotary_dim: int | None = None,
) -> Rotary:
    r"""Rotates by whole wavelengths, whose angles repeat exactly: Resonance RoPE.

    $$\alpha_i = p\, \frac{2 \pi}{\lambda_i}, \qquad
      \lambda_i = \big\lfloor 2 \pi\, \theta^{2i/d} \big\rceil$$

    Fast pairs meet all of their angles in training, and longer contexts add none. For
    slow pairs, wrap the schedule of [`eqx_posemb.yarn`][] in
    [`eqx_posemb.frequencies.Resonance`][], as in the example. Train or fine-tune with
    it, as the angles of a trained model change.

    !!! Example

        ```python
        import dataclasses
        import eqx_posemb as pe

        rope = pe.resonance_rope(64)
        yarn = pe.yarn(64, factor=4.0, original_length=2048)
        whole = pe.frequencies.Resonance(yarn.frequencies)
        both = dataclasses.replace(yarn, frequencies=whole)  # Resonance YaRN
        ```

    **Arguments:**

    - `dim`, `theta`, `pairing`, `rotary_dim`: as in [`eqx_posemb.rope`][].

    **Returns:** a [`eqx_posemb.Rotary`][].

    **Raises:** a `ValueError` as `rope`.

    ??? cite "Reference"

        [Resonance RoPE: Improving Context Length Generalization of Large Language
        Models](https://arxiv.org/abs/2403.00071), Section 4.1.

        ```bibtex
        @misc{wang2024resonance,
            author={Wang, Suyuchen and Kobyzev, Ivan and Lu, Peng and Rezagholizadeh,
                    Mehdi and Liu, Bang},
            title={{Resonance RoPE}: Improving Context Length Generalization of Large
                   Language Models},
            howpublished={arXiv:2403.00071},
            year={2024},
        }
        ```
    """
    schedule = Resonance(geometric(dim, rotary_dim, theta))
    return Rotary(schedule, dim=dim, pairing=pairing)
