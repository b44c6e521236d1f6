"""Rotary embeddings of images and videos, with and without text."""

import functools
import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PRNGKeyArray

from ..._checks import check_count, check_key, check_shape, require
from ..._frequencies import (
    AbstractFrequencies,
    Concatenated,
    Geometric,
    LearnedFrequencies,
)
from .._axes import Mixed, Sections
from .._chain import Chain
from .._lie import Cayley
from .._pairing import Layout, Pairing
from .._rotary import Rotary
from ._rope import geometric


def axial_rope(
    dim: int,
    *,
    widths: Sequence[int] | None = None,
    theta: float = 10_000.0,
    pairing: Layout | Pairing = "halves",
) -> Rotary:
    r"""Axial rotary embedding of images and videos, Heo et al. 2024.

    It rotates some channels by the row, some by the column, and some by the time:

    $$\alpha_{k, i} = p_k\, \theta^{-2i/d_k}, \qquad i = 0, \dots, d_k/2 - 1$$

    for each coordinate $p_k$ of a position and its number of channels $d_k$ (`widths`).
    Vision transformers have equal widths. Flux and HunyuanVideo have `(16, 56, 56)` for
    time, height and width.

    Logits depend on the offset along each axis, and each angle reads a single axis.
    [`eqx_posemb.mixed_rope`][] also models diagonals. For models that read text as
    well, choose [`eqx_posemb.mrope`][].

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        rope = pe.axial_rope(64)
        rotation = rope(pe.positions.grid_positions((14, 14)))
        q = rotation.queries(jnp.ones((8, 196, 64)))
        ```

    **Arguments:**

    - `dim`: The number of channels of a head. What `widths` leave passes through.
    - `widths`: The number of channels that each coordinate rotates. By default there
        are two, and each has half.
    - `theta`: The base. 10,000 is usual, 100 in DINOv3 and Gemma 4, 256 in
        HunyuanVideo.
    - `pairing`: `"halves"` has the pairs of all coordinates in the first half and their
        partners in the second, as Qwen2-VL; `"adjacent"` is of Flux and SAM 2; a block
        for each axis is [`eqx_posemb.rotations.Pairing.halves_per_block`][].

    **Returns:** a [`eqx_posemb.Rotary`][] over positions [seq, len(widths)].

    **Raises:** a `ValueError` if a width is odd, the widths are more than `dim`, or
    `theta` is not positive.

    ??? cite "Reference"

        [Rotary Position Embedding for Vision
        Transformer](https://arxiv.org/abs/2403.13298), Section 3.2.

        ```bibtex
        @inproceedings{heo2024rotary,
            author={Heo, Byeongho and Park, Song and Han, Dongyoon and Yun, Sangdoo},
            title={Rotary Position Embedding for Vision Transformer},
            booktitle={European Conference on Computer Vision},
            year={2024},
        }
        ```
    """
    check_count("dim", dim, 2)
    widths = (dim // 2, dim // 2) if widths is None else check_shape("widths", widths)
    return axial(dim, [Geometric(width, theta) for width in widths], pairing)


def thirds(dim: int) -> tuple[int, int, int]:
    """The channels of time, rows and columns, with the rest for the time."""
    check_count("dim", dim, 1)
    space = 2 * (dim // 6)
    return dim - 2 * space, space, space


def axial(
    dim: int, schedules: Sequence[AbstractFrequencies], pairing: Layout | Pairing
) -> Rotary:
    """Rotates by each coordinate with a schedule of its own."""
    # M-RoPE divides one schedule among the axes instead.
    axes = Sections([schedule.pairs for schedule in schedules])
    return Rotary(Concatenated(schedules), axes=axes, dim=dim, pairing=pairing)


def mrope(
    dim: int,
    *,
    sizes: Sequence[int],
    order: Literal["chunked", "interleaved", "tail"] = "chunked",
    theta: float = 10_000.0,
    pairing: Layout | Pairing = "halves",
    rotary_dim: int | None = None,
) -> Rotary:
    r"""Multimodal rotary embedding (M-RoPE), Wang et al. 2024.

    It rotates by time, height and width, and equals an ordinary rotary embedding on
    text:

    $$\alpha_i = p_{\text{axis}(i)}\, \theta^{-2i/d}, \qquad i = 0, \dots, d/2 - 1$$

    Each pair of channels keeps its frequency from the language model, and reads one
    coordinate, as [`eqx_posemb.axes.Sections`][] assigns it. Text tokens have three
    equal coordinates, so a trained language model does not change on text.
    [`eqx_posemb.positions.mrope_positions`][] makes the positions.

    | model | `sizes` | `order` | `pairing` |
    |---|---|---|---|
    | Qwen2-VL, Qwen2.5-VL | 16, 24, 24 | `"chunked"` | `"halves"` |
    | GLM-4V, GLM-OCR | 8, 12, 12 | `"chunked"` | `"adjacent"` |
    | Qwen3-VL | 24, 20, 20 | `"interleaved"` | `"halves"` |
    | Ernie 4.5-VL | 20, 22, 22 | `"tail"` | `"adjacent"` |

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        rope = pe.mrope(128, sizes=(16, 24, 24), theta=1e6)  # Qwen2-VL
        text = jnp.tile(jnp.arange(10)[:, None], 3)
        plain = pe.rope(128, theta=1e6)
        assert (rope(text).cos == plain(jnp.arange(10)).cos).all()
        ```

    **Arguments:**

    - `sizes`: The number of pairs of each coordinate, time first: `mrope_section` in
        transformers.
    - `order`: How pairs are assigned to coordinates: `"chunked"`, `"interleaved"` or
        `"tail"`.
    - `theta`: The base of the frequencies. Qwen2-VL has 1,000,000.
    - `dim`, `pairing`, `rotary_dim`: as in [`eqx_posemb.rope`][].

    **Returns:** a [`eqx_posemb.Rotary`][] over positions [seq, len(sizes)].

    **Raises:** a `ValueError` if `sizes` do not add up to the number of pairs or
    `order` is unknown, and as `rope`.

    ??? cite "Reference"

        [Qwen2-VL: Enhancing Vision-Language Model's Perception of the World at Any
        Resolution](https://arxiv.org/abs/2409.12191), Section 2.1.

        ```bibtex
        @article{wang2024qwen2vl,
            author={Wang, Peng and Bai, Shuai and Tan, Sinan and others},
            title={{Qwen2-VL}: Enhancing Vision-Language Model's Perception of the World
                   at Any Resolution},
            journal={arXiv:2409.12191},
            year={2024},
        }
        ```
    """
    base = geometric(dim, rotary_dim, theta)
    return Rotary(base, axes=Sections(sizes, order), dim=dim, pairing=pairing)


def mixed_rope(
    dim: int,
    *,
    heads: int,
    theta: float = 10.0,
    pairing: Layout | Pairing = "adjacent",
    key: PRNGKeyArray,
) -> Rotary:
    r"""Mixed rotary embedding of images (RoPE-Mixed), Heo et al. 2024.

    It rotates by a mix of both coordinates, at learned frequencies:

    $$\alpha_{h, i} = x\, \omega^x_{h, i} + y\, \omega^y_{h, i}, \qquad
      i = 0, \dots, d/2 - 1$$

    RoPE-Mixed learns a direction of the image for each pair of channels and head $h$,
    so it also models diagonals. Each head starts with $d/4$ geometric frequencies along
    a random direction, and $d/4$ perpendicular to it. In the paper it is more accurate
    than [`eqx_posemb.axial_rope`][] at resolutions beyond training. It needs $d$
    parameters and a table for each head.

    Queries and keys must have equal numbers of heads, as every head has its own
    frequencies.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        rope = pe.mixed_rope(64, heads=8, key=jax.random.key(0))
        rotation = rope(pe.positions.grid_positions((14, 14)))
        q = rotation.queries(jnp.ones((8, 196, 64)))  # All heads at once.
        ```

    **Arguments:**

    - `dim`: The number of channels of a head: a multiple of 4.
    - `heads`: The number of heads.
    - `theta`: The base of the frequencies to start from. The paper has 10, as a grid of
        patches is small.
    - `pairing`: as in [`eqx_posemb.rope`][]; the authors' is `"adjacent"`.
    - `key`: A `jax.random` key for the directions.

    **Returns:** a [`eqx_posemb.Rotary`][] over positions [seq, 2], whose
    `frequencies.weight` [heads, dim] starts with the first coordinate.

    **Raises:** a `ValueError` if `dim` is no multiple of 4, `heads` is less than one or
    `theta` not positive.

    ??? cite "Reference"

        [Rotary Position Embedding for Vision
        Transformer](https://arxiv.org/abs/2403.13298), Section 3.3; the start as in the
        released code.

        ```bibtex
        @inproceedings{heo2024rotary,
            author={Heo, Byeongho and Park, Song and Han, Dongyoon and Yun, Sangdoo},
            title={Rotary Position Embedding for Vision Transformer},
            booktitle={European Conference on Computer Vision},
            year={2024},
        }
        ```
    """
    check_count("heads", heads, 1)
    check_count("dim", dim, 4)
    rule = "be a multiple of 4, for pairs along a direction and across it"
    require(dim % 4 == 0, "dim", rule, dim)
    check_key(key)
    start = _directions(Geometric(dim // 2, theta)(), heads, key)
    return Rotary(LearnedFrequencies(start), axes=Mixed(2), pairing=pairing)


def string_rope(
    dim: int,
    *,
    widths: Sequence[int] | None = None,
    theta: float = 10_000.0,
    std: float = 0.02,
    key: PRNGKeyArray,
) -> Chain:
    r"""STRING in its Cayley form, Schenck et al. 2025.

    It rotates by the coordinates of an image in a learned basis:

    $$q \mapsto R(p)\, P q, \qquad k \mapsto R(p)\, P k$$

    for the rotation $R$ of [`eqx_posemb.axial_rope`][] and the orthogonal matrix $P$ of
    [`eqx_posemb.rotations.Cayley`][]. Every rotation whose logits depend on offsets
    alone has this form, for some basis and some frequencies.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        string = pe.string_rope(64, key=jax.random.key(0))
        rotation = string(pe.positions.grid_positions((14, 14)))
        q = rotation.queries(jnp.ones((8, 196, 64)))
        ```

    **Arguments:**

    - `dim`, `widths`, `theta`: as in [`eqx_posemb.axial_rope`][].
    - `std`: The standard deviation of the matrix that the basis starts from.
    - `key`: A `jax.random` key. It initializes the weights.

    **Returns:** a [`eqx_posemb.rotations.Chain`][] of the basis and a
    [`eqx_posemb.Rotary`][].

    **Raises:** as [`eqx_posemb.axial_rope`][] and [`eqx_posemb.rotations.Cayley`][].

    ??? cite "Reference"

        [Learning the RoPEs: Better 2D and 3D Position Encodings with
        STRING](https://arxiv.org/abs/2502.02562), Section 3.

        ```bibtex
        @inproceedings{schenck2025learning,
            author={Schenck, Connor and Reid, Isaac and Jacob, Mithun George and
                    Bewley, Alex and others},
            title={Learning the {RoPEs}: Better {2D} and {3D} Position Encodings with
                   {STRING}},
            booktitle={International Conference on Machine Learning},
            year={2025},
        }
        ```
    """
    rope = axial_rope(dim, widths=widths, theta=theta)
    # The basis comes first, since a rotation and a change of basis do not commute.
    return Chain((Cayley(dim, std=std, key=key), rope))


# One program makes all directions, in place of one dispatch for each operation.
@functools.partial(jax.jit, static_argnames="heads")
def _directions(sizes, heads, key):
    along = jr.uniform(key, (heads, 1), maxval=2 * math.pi)
    both = jnp.concatenate([along, along + math.pi / 2], axis=1)
    parts = jnp.stack([jnp.cos(both), jnp.sin(both)], axis=1)  # [heads, axes, 2]
    return (parts[..., None] * sizes[None, None, None]).reshape(heads, -1)
