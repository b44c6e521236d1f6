"""Pairings: which channels of a head rotate together."""

from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import wadler_lindig as wl
from jaxtyping import Array, Float

from .._checks import check_choice, check_even, require
from .._module import Module


Layout = Literal["halves", "adjacent"]
LAYOUTS: tuple[str, ...] = ("halves", "adjacent")


class Pairing(Module):
    r"""A layout of rotated channels: source, partner, sign and angle of each channel.

    $$y_o = x_{\text{source}(o)} \cos a_{\text{pair}(o)}
            + \text{sign}(o)\, x_{\text{partner}(o)} \sin a_{\text{pair}(o)}$$

    for the angles $a$ of a rotary embedding. A channel whose sign is 0 passes through:
    $y_o = x_{\text{source}(o)}$. Every published layout is a value of this class. The
    constructors below build the known layouts, and another layout needs no new code.

    Give the two common layouts, `"halves"` and `"adjacent"`, to [`eqx_posemb.Rotary`][]
    by their names, which have a faster form. Converting a model from one layout to the
    other permutes the rows of its query and key projections. The logits stay the same.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        # Multi-head latent attention as released with DeepSeek-V3.
        pairing = pe.rotations.Pairing.adjacent_to_halves(64)
        rope = pe.rope(64, pairing=pairing)
        rotated = rope(jnp.arange(10)).queries(jnp.ones((10, 64)))
        ```
    """

    # Tuples are hashable, so a layout is a static setting of the compiled program.
    source: tuple[int, ...] = eqx.field(static=True)
    partner: tuple[int, ...] = eqx.field(static=True)
    sign: tuple[int, ...] = eqx.field(static=True)
    pair: tuple[int, ...] = eqx.field(static=True)

    def __check_init__(self):
        lengths = {
            len(row) for row in (self.source, self.partner, self.sign, self.pair)
        }
        if len(lengths) != 1:
            raise ValueError(
                "`source`, `partner`, `sign` and `pair` must have one entry per "
                f"channel each, but got {len(self.source)}, {len(self.partner)}, "
                f"{len(self.sign)} and {len(self.pair)}."
            )
        channels = range(len(self.source))
        # NumPy would count a negative channel from the end.
        if not all(c in channels for c in (*self.source, *self.partner)):
            raise ValueError(
                "`source` and `partner` must be channels, from 0 to "
                f"{len(self.source) - 1}, but got {self.source} and {self.partner}."
            )
        if not all(sign in (-1, 0, 1) for sign in self.sign):
            raise ValueError(f"`sign` must be -1, 0 or 1, but got {self.sign}.")
        if not all(pair >= 0 for pair in self.pair):
            raise ValueError(f"`pair` must not be negative, but got {self.pair}.")

    @property
    def dim(self) -> int:
        """The number of channels of a head."""
        return len(self.source)

    @staticmethod
    def halves(dim: int, rotary_dim: int | None = None, start: int = 0) -> "Pairing":
        """Channel `i` of the first half with channel `i` of the second.

        GPT-NeoX, Llama in transformers, Gemma and Qwen use it. It rotates `rotary_dim`
        channels from `start` on, and the others pass through.
        """
        return Pairing.halves_per_block(dim, 1, rotary_dim, start)

    @staticmethod
    def adjacent(dim: int, rotary_dim: int | None = None, start: int = 0) -> "Pairing":
        """Channel `2i` with channel `2i + 1`.

        The RoFormer paper, GPT-J, Meta's Llama and Cohere use it. It rotates
        `rotary_dim` channels from `start` on, and the others pass through.
        """
        width = _width(dim, rotary_dim, start)
        return _pairing(
            dim, [(start + 2 * i, start + 2 * i + 1, i) for i in range(width // 2)]
        )

    @staticmethod
    def adjacent_to_halves(
        dim: int, rotary_dim: int | None = None, start: int = 0
    ) -> "Pairing":
        """Takes adjacent channels and leaves them as halves.

        DeepSeek-V3 and its successors use it. The logits equal the logits of
        `adjacent`, but rotated keys are permuted, so a key-value cache is not
        interchangeable.
        """
        half = _width(dim, rotary_dim, start) // 2
        adjacent = Pairing.adjacent(dim, rotary_dim, start)
        order = list(range(dim))
        order[start : start + 2 * half] = [
            start + 2 * i + j for j in range(2) for i in range(half)
        ]
        pick = lambda row: tuple(row[channel] for channel in order)
        return Pairing(
            source=pick(adjacent.source),
            partner=pick(adjacent.partner),
            sign=pick(adjacent.sign),
            pair=pick(adjacent.pair),
        )

    @staticmethod
    def halves_per_block(
        dim: int, blocks: int, rotary_dim: int | None = None, start: int = 0
    ) -> "Pairing":
        """Halves within each of `blocks` equal blocks of channels.

        Gemma 4's vision tower uses it, with a block for each axis.
        """
        width = _width(dim, rotary_dim, start)
        if blocks < 1 or width % (2 * blocks):
            raise ValueError(
                "`blocks` must cut the rotated channels into equal, even blocks, but "
                f"got {blocks} blocks of {width} channels."
            )
        half = width // blocks // 2
        return _pairing(
            dim,
            [
                (first + i, first + half + i, block * half + i)
                for block in range(blocks)
                for first in [start + block * 2 * half]
                for i in range(half)
            ],
        )

    def inverse(self) -> "Pairing":
        """The same channels turned the other way.

        By negative angles, as nanochat has it. Weights of one direction do not work
        with the other, unless the second channels of all pairs change their sign.
        """
        turned = tuple(-sign for sign in self.sign)
        return Pairing(self.source, self.partner, turned, self.pair)

    def of_output(self) -> "Pairing":
        """The same rotation for channels in the order of this layout's output, such as
        rotated keys.

        It differs only where the output is permuted, as by `adjacent_to_halves`.
        """
        channels = tuple(range(self.dim))
        place = {channel: output for output, channel in enumerate(self.source)}
        # A layout that drops a channel cannot be inverted.
        rule = "have every channel once, to be undone"
        require(len(place) >= self.dim, "source", rule, self.source)
        partner = tuple(place[channel] for channel in self.partner)
        return Pairing(channels, partner, self.sign, self.pair)

    def undone(self) -> "Pairing":
        """The layout from the output of this layout back to its input. A rotation by
        the opposite angles in this layout is the inverse rotation.

        **Raises:** a `ValueError` as `of_output`.
        """
        there = self.of_output()
        order = sorted(range(self.dim), key=self.source.__getitem__)
        rows = there.source, there.partner, there.sign, there.pair
        return Pairing(*(tuple(row[output] for output in order) for row in rows))

    def __pdoc__(self, **kwargs: Any) -> wl.AbstractDoc:
        """The constructor that makes this layout, or `None`."""
        # A layout prints as a call of its constructor, since four tuples of channels
        # are hard to read.
        rotated = [channel for channel, sign in enumerate(self.sign) if sign]
        if rotated and len(rotated) % 2 == 0:
            # nanochat's layout is the inverse of a common layout.
            for pairing, end in (self, ""), (self.inverse(), ".inverse()"):
                rule = pairing._rule(rotated[0], len(rotated))
                if rule is not None:
                    return wl.TextDoc(f"Pairing.{rule}{end}")
        return super().__pdoc__(**kwargs)

    def _rule(self, start, width) -> str | None:
        where = {} if start + width == self.dim else {"rotary_dim": width}
        where |= {"start": start} if start else {}
        apart = abs(self.partner[start] - start)
        blocks = {"blocks": width // (2 * apart)} if apart else {}
        for name, settings in (
            ("halves", where),
            ("adjacent", where),
            ("adjacent_to_halves", where),
            ("halves_per_block", blocks | where),
        ):
            try:
                made = getattr(Pairing, name)(self.dim, **settings)
            except (TypeError, ValueError):  # Its output has no such layout.
                continue
            if made == self:
                said = "".join(f", {key}={value}" for key, value in settings.items())
                return f"{name}({self.dim}{said})"
        return None

    def apply(
        self,
        x: Float[Array, "*heads seq dim"],
        cos: Float[Array, "*heads_or_ones seq pairs"],
        sin: Float[Array, "*heads_or_ones seq pairs"],
    ) -> Float[Array, "*heads seq dim"]:
        """The formula as it stands, for any layout."""
        # A select passes channels on unchanged. Adding a zero sine would lose the sign
        # of a negative zero.
        source, partner, pair = (
            np.array(row) for row in (self.source, self.partner, self.pair)
        )
        sign = np.array(self.sign, dtype=x.dtype).reshape(*[1] * (x.ndim - 1), -1)
        turned = (
            x[..., source] * cos[..., pair] + sign * x[..., partner] * sin[..., pair]
        )
        return jnp.where(sign == 0, x[..., source], turned)


Pairing.__init__.__doc__ = """**Arguments:**

- `source`: For each output channel, the input channel that the cosine multiplies.
- `partner`: For each output channel, the input channel that the sine multiplies.
- `sign`: The sign of the sine, or 0 for a channel that passes through.
- `pair`: For each output channel, the index of its angle.

**Raises:** a `ValueError` if the four have different lengths or entries out of range.
"""


def check_layout(pairing: Pairing | str, dim: int) -> None:
    if not isinstance(pairing, Pairing):
        check_choice("pairing", pairing, LAYOUTS)
    elif pairing.dim != dim:
        raise ValueError(
            f"`pairing` must cover the {dim} channels of a head, but got a pairing of "
            f"{pairing.dim}."
        )


def _width(dim: int, rotary_dim: int | None, start: int) -> int:
    width = dim - start if rotary_dim is None else rotary_dim
    check_even("rotary_dim", width, "to be rotated in pairs")
    if not 0 <= start <= dim - width:
        raise ValueError(
            f"`rotary_dim` channels from `start` on must fit into `dim`, but got "
            f"{width} from {start} on in {dim}."
        )
    return width


def _pairing(dim: int, pairs: list[tuple[int, int, int]]) -> Pairing:
    """Rotates channels `a` and `b` of each `(a, b, angle)`. Other channels pass
    through."""
    partner, sign, pair = list(range(dim)), [0] * dim, [0] * dim
    for a, b, angle in pairs:
        partner[a], partner[b] = b, a
        sign[a], sign[b] = -1, 1
        pair[a] = pair[b] = angle
    return Pairing(tuple(range(dim)), tuple(partner), tuple(sign), tuple(pair))
