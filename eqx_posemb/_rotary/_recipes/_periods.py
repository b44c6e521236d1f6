"""Rotary embeddings that avoid angles that training has not seen."""

import math

import numpy as np

from ..._checks import check_even, check_positive, require
from ..._frequencies import Clipped, Listed, Resonance
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


def rope_id(
    dim: int,
    *,
    length: float,
    fraction: float = 0.5,
    shortest: float = 32.0,
    turns: float = 2.0,
    pairing: Layout | Pairing = "halves",
) -> Rotary:
    r"""RoPE-ID, Wertheimer et al. 2026: rotates half of the pairs, all of them fast.

    $$\alpha_i = \begin{cases} 2 \pi p / \lambda_i & i < n \\ 0 & \text{otherwise}
      \end{cases} \qquad \lambda_i = \lambda_0 \left( \frac{L / t}{\lambda_0}
      \right)^{i / (n - 1)}$$

    for the `length` $L$ in training, the wavelength $\lambda_0$ = `shortest`, and $n$
    of $d / 2$ pairs by `fraction`. Wavelengths are spaced evenly on a logarithmic scale
    up to $L / t$, so the slowest pair makes $t$ = `turns` turns in training. Longer
    contexts then have no new angles. The other pairs do not rotate, and keep the logits
    of tokens that every query attends to (attention sinks). In
    [`eqx_posemb.proportional_rope`][], the slowest rotated pairs may reach new angles.

    Train with it from the start, as it has no frequencies in common with `rope`. The
    paper also sharpens attention beyond $L$, as YaRN does. A
    [`eqx_posemb.Temperature`][] does so in the example, with a rate to choose.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        rope = pe.rope_id(128, length=8192)
        sharper = pe.Temperature(beta=0.1, length=8192, kind="log")
        both = pe.rotations.Chain((rope, sharper))
        rotated = both(jnp.arange(10)).queries(jnp.ones((10, 128)))
        ```

    **Arguments:**

    - `dim`: The number of channels of a head.
    - `length`: The number of positions in training.
    - `fraction`: The share of the pairs that rotate.
    - `shortest`: The shortest wavelength, in positions.
    - `turns`: The number of turns of the slowest pair in `length` positions.
    - `pairing`: as in [`eqx_posemb.rope`][]. The authors have `"halves"`, and rotate
        the first and the third quarter of the channels.

    **Returns:** a [`eqx_posemb.Rotary`][].

    **Raises:** a `ValueError` if `dim` is odd, unless `fraction` gives at least one
    pair and at most all, or if `length` has fewer than `turns` of the shortest
    wavelength. The same if `shortest` or `turns` is not positive.

    ??? cite "Reference"

        [Frayed RoPE and Long Inputs: A Geometric
        Perspective](https://arxiv.org/abs/2603.18017). Its code is not public, and the
        formula follows published notes on the paper. The notes state both ends of the
        wavelengths. The even spacing between them is an assumption.

        ```bibtex
        @inproceedings{wertheimer2026frayed,
            author={Wertheimer, Davis and Zhang, Aozhong and Liu, Derrick and Yin,
                    Penghang and Wang, Naigang},
            title={Frayed {RoPE} and Long Inputs: A Geometric Perspective},
            booktitle={International Conference on Learning Representations},
            year={2026},
        }
        ```
    """
    check_even("dim", dim, "to be rotated in pairs")
    check_positive("shortest", shortest)
    check_positive("turns", turns)
    check_positive("length", length)
    pairs = dim // 2
    check_positive("fraction", fraction)
    count = math.floor(fraction * pairs)
    rule = f"give between 1 and {pairs} of {pairs} pairs"
    require(1 <= count <= pairs, "fraction", rule, fraction)
    longest = length / turns
    rule = f"be at least `turns` times `shortest`, {turns * shortest}"
    require(longest >= shortest, "length", rule, length, "Make `shortest` smaller.")
    fast = 2 * math.pi / np.geomspace(shortest, longest, count)
    schedule = Listed((*fast, *[0.0] * (pairs - count)))
    return Rotary(schedule, dim=dim, pairing=pairing)
