"""Sines and cosines of the coordinates of a grid, added to tokens."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .._checks import as_number, check_choice, check_count, check_positive
from .._frequencies import Geometric
from .._given import check_grid
from .._phase import cos_sin
from ._abstract import AbstractEncoding


class _Layout(NamedTuple):
    """The order of channels. `order` lists the axes, where axis 0 varies slowest.
    `None` keeps their order."""

    name: str
    order: tuple[int, ...] | None
    widths: Callable[[int, int], tuple[int, ...]]
    """From channels and axes to the channels of each axis, in that order."""
    blocks: Literal["concatenated", "interleaved", "across"] = "concatenated"
    endpoint: bool = False


def _equal(dim, axes):
    return (dim // axes,) * axes


def _rounded_up(dim, axes):
    return (2 * math.ceil(dim / (2 * axes)),) * axes


def _half_to_time(dim, axes):
    del axes
    return dim // 2, dim // 4, dim // 4


def _quarter_to_time(dim, axes):
    del axes
    return dim // 4, 3 * dim // 8, 3 * dim // 8


# Models differ in the order of axes, the place of cosines and the spacing, so layouts
# are data.
_LAYOUTS = (
    _Layout("mae", (1, 0), _equal),
    _Layout("moco_v3", (0, 1), _equal),
    _Layout("big_vision", (1, 0), _equal, endpoint=True),
    _Layout("detr", (0, 1), _equal, "interleaved"),
    _Layout("timm", (0, 1), _equal, "across"),
    _Layout("v_jepa_half_time", (0, 1, 2), _half_to_time),
    _Layout("v_jepa", (0, 1, 2), _rounded_up),
    _Layout("cogvideox", (0, 2, 1), _quarter_to_time),
    _Layout("positional_encodings", None, _rounded_up, "interleaved"),
)


class SinusoidalGrid(AbstractEncoding):
    r"""Sinusoidal encoding of grids (MAE), He et al. 2022.

    It adds sines and cosines of each coordinate, in a share of the channels.

    Patches of an image have a row and a column, and tokens of a video also have a
    frame. Each axis has its own channels, which encode it as
    [`eqx_posemb.Sinusoidal`][] encodes a sequence:

    $$e(y, x) = \big(s(x), s(y)\big), \qquad
      s(p) = (\sin \omega_0 p, \sin \omega_1 p, \dots, \cos \omega_0 p, \dots), \qquad
      \omega_m = \theta^{-2m/w}$$

    for a row $y$, a column $x$, the base $\theta$ and the $w$ channels of an axis. This
    is the layout of MAE. Models differ in the order of axes, the place of cosines, and
    the spacing of frequencies. With $t, y, x$ for the coordinates in the order of
    [`eqx_posemb.positions.grid_positions`][]:

    | `layout` | axes | channels, in order | $\omega_m$ |
    |---|---|---|---|
    | `"mae"` | 2 | sines x, cosines x, sines y, cosines y | $\theta^{-2m/w}$ |
    | `"moco_v3"` | 2 | sines y, cosines y, sines x, cosines x | $\theta^{-2m/w}$ |
    | `"big_vision"` | 2 | as `"mae"` | $\theta^{-m/(w/2-1)}$ |
    | `"detr"` | 2 | y: sine, cosine, …; then x alike | $\theta^{-2m/w}$ |
    | `"timm"` | 2 | sines y, sines x, cosines y, cosines x | $\theta^{-2m/w}$ |
    | `"v_jepa"` | 3 | sines t, cosines t, then y alike, x alike | $\theta^{-2m/w}$ |
    | `"v_jepa_half_time"` | 3 | as `"v_jepa"` | $\theta^{-2m/w}$ |
    | `"cogvideox"` | 3 | sines t, cosines t, then x alike, y alike | $\theta^{-2m/w}$ |
    | `"positional_encodings"` | any | t: sine, cosine, …; y, x alike | the same |

    Each axis has an equal share $w$ of the `dim` channels. In `"v_jepa_half_time"` time
    has half of them, and in `"cogvideox"` a quarter. In `"v_jepa"` and
    `"positional_encodings"` a share is rounded up to pairs, and surplus channels are
    cut off at the end. V-JEPA's code has both, and its models use `"v_jepa"`
    (`uniform_power`).

    I-JEPA and ViT-MAE in transformers use `"mae"`, and the simple ViT uses
    `"big_vision"`. The code of big_vision claims to follow MoCo v3, but MoCo's code
    gives the row to its first half. timm's option to interleave sines and cosines is
    `"moco_v3"`. To reverse the coordinates, reverse the coordinates of the positions.
    DETR counts pixels from one, and may scale them by the size of the image: see
    [`eqx_posemb.positions.detr_positions`][].

    It has no parameters, and is defined on grids of any size. As with sequences, a
    model does not extrapolate beyond its trained grid. [`eqx_posemb.LearnedGrid`][] can
    be resized for larger grids.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        encoding = pe.SinusoidalGrid(dim=64)
        x = jnp.ones((14 * 14, 64)) + encoding(pe.positions.grid_positions((14, 14)))
        ```

    ??? cite "Reference"

        [Masked Autoencoders Are Scalable Vision
        Learners](https://arxiv.org/abs/2111.06377), Section 3; the layouts follow the
        released code.

        ```bibtex
        @inproceedings{he2022masked,
            author={He, Kaiming and Chen, Xinlei and Xie, Saining and Li, Yanghao and
                    Doll{\'a}r, Piotr and Girshick, Ross},
            title={Masked Autoencoders Are Scalable Vision Learners},
            booktitle={Conference on Computer Vision and Pattern Recognition},
            year={2022},
        }
        ```
    """

    dim: int = eqx.field(static=True)
    axes: int = eqx.field(static=True, default=2)
    layout: Literal[
        "mae",
        "moco_v3",
        "big_vision",
        "detr",
        "timm",
        "v_jepa",
        "v_jepa_half_time",
        "cogvideox",
        "positional_encodings",
    ] = eqx.field(static=True, default="mae")
    theta: float = eqx.field(static=True, default=10_000.0, converter=as_number)

    def __check_init__(self):
        check_positive("theta", self.theta)
        check_choice("layout", self.layout, tuple(rule.name for rule in _LAYOUTS))
        check_count("dim", self.dim, 2)
        check_count("axes", self.axes, 1)
        rule = self._rule()
        axes = self.axes if rule.order is None else len(rule.order)
        if self.axes != axes:
            raise ValueError(
                f"`axes` must be {axes} for `layout={self.layout!r}`, but got "
                f"{self.axes}."
            )
        widths = rule.widths(self.dim, self.axes)
        least = 4 if rule.endpoint else 2
        short = sum(widths) < self.dim
        if short or any(width % 2 or width < least for width in widths):
            raise ValueError(
                "`dim` must give each axis pairs of channels, at least "
                f"{least // 2} of them, for `layout={self.layout!r}` and {self.axes} "
                f"axes, but got {self.dim}. Take a multiple of {4 * self.axes}."
            )

    def _rule(self):
        (rule,) = (rule for rule in _LAYOUTS if rule.name == self.layout)
        return rule

    @jax.named_scope("eqx_posemb.SinusoidalGrid")
    def __call__(
        self, positions: Num[Array, "seq {self.axes}"]
    ) -> Float[Array, "seq {self.dim}"]:
        """**Arguments:**

        - `positions`: the coordinates of the tokens, integers or floats.

        **Returns:**

        What to add to the tokens, in JAX's default float dtype, exact to 1e-7 at every
        int32 position.

        **Raises:** a `ValueError` if positions have another number of axes.
        """
        check_grid("positions", positions, self.axes)
        rule = self._rule()
        order = range(self.axes) if rule.order is None else rule.order
        sines, cosines = [], []
        for axis, width in zip(order, rule.widths(self.dim, self.axes), strict=True):
            schedule = Geometric(width, self.theta, endpoint=rule.endpoint)
            cos, sin = cos_sin(positions[:, axis], schedule.turns())
            sines.append(sin)
            cosines.append(cos)
        if rule.blocks == "across":
            return jnp.concatenate([*sines, *cosines], axis=-1)
        join = _interleave if rule.blocks == "interleaved" else _concatenate
        waves = [join(sin, cos) for sin, cos in zip(sines, cosines, strict=True)]
        # Shares that are rounded up to pairs leave surplus channels at the end.
        return jnp.concatenate(waves, axis=-1)[:, : self.dim]


SinusoidalGrid.__init__.__doc__ = """**Arguments:**

- `dim`: The number of channels of a token.
- `axes`: The number of coordinates of a position.
- `layout`: Which axis comes first, where sines and cosines go, and how frequencies are
    spaced.
- `theta`: The base. The longest wavelength is about `2π * theta` positions.

**Raises:** a `ValueError` if `layout` is unknown or for another number of `axes`, if
`dim` cannot be divided into pairs, or if `theta` is not positive.
"""


def _concatenate(sin, cos):
    return jnp.concatenate([sin, cos], axis=-1)


def _interleave(sin, cos):
    return jnp.stack([sin, cos], axis=-1).reshape(sin.shape[0], 2 * sin.shape[1])
