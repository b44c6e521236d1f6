"""The rotation at given positions, as a value."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._given import check_tokens
from .._phase import computing_dtype
from .._symbolic import error_if
from ._abstract import AbstractRotation, AXES
from ._lowering import rotate
from ._pairing import Layout, Pairing


class Rotation(AbstractRotation):
    r"""The rotation of queries and keys at given positions, as a value.

    A call of a [`eqx_posemb.Rotary`][] on positions returns it. Compute it once, and
    reuse it in every layer. For each pair $(a, b)$ of channels, with the angle $\alpha$
    of its position and frequency,

    $$(a, b) \mapsto
      s\, (a \cos \alpha - b \sin \alpha,\; b \cos \alpha + a \sin \alpha)$$

    where `cos` and `sin` contain the scale $s$, which is 1 except for YaRN and
    LongRoPE.

    Tokens are the second axis from the end, and any axes before it are heads and
    batches: `[seq, dim]`, `[heads, seq, dim]`, `[batch, heads, seq, dim]`. With learned
    frequencies of each head, each head has its own tables. `heads` is their number, and
    queries and keys are `[..., heads, seq, dim]`.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        rotation = pe.rope(64)(jnp.arange(10))
        q = jnp.ones((8, 10, 64))  # [heads, seq, dim]
        rotated = rotation.queries(q)

        q = jnp.ones((10, 8, 64))  # [seq, heads, dim], as in Equinox
        rotated = jax.vmap(rotation.queries, in_axes=1, out_axes=1)(q)
        ```
    """

    # Tables are leaves, so a rotation passes through `jit` and `scan` as an argument.
    cos: Float[Array, "*heads seq pairs"]
    sin: Float[Array, "*heads seq pairs"]
    # The growth is a logarithm, and its sign differs between queries and keys.
    growth: Float[Array, "seq pairs"] | None
    dim: int = eqx.field(static=True)
    pairing: Layout | Pairing = eqx.field(static=True)

    @property
    def heads(self) -> int | None:
        """The number of heads with their own tables, or `None` if all heads share a
        table."""
        return self.cos.shape[0] if self.cos.ndim == 3 else None

    def queries(
        self, q: Float[Array, "... {self.dim}"]
    ) -> Float[Array, "... {self.dim}"]:
        """**Arguments:**

        - `q`: queries, `[..., seq, dim]`.

        **Returns:**

        The rotated queries, in the dtype of `q`; computed in at least float32.

        **Raises:** a `ValueError` if the shape does not fit the positions. An error at
        run time if the growth of xPos overflows the dtype of `q`.
        """
        return self._turn(q, "q", self.growth)

    def keys(self, k: Float[Array, "... {self.dim}"]) -> Float[Array, "... {self.dim}"]:
        """**Arguments:**

        - `k`: keys, `[..., seq, dim]`.

        **Returns:**

        The rotated keys, in the dtype of `k`; computed in at least float32.

        **Raises:** as `queries`.
        """
        return self._turn(k, "k", None if self.growth is None else -self.growth)

    def inverse(self) -> "Rotation":
        """The rotation by the opposite angles, with the reciprocals of the scale and
        the growth.

        **Raises:** a `ValueError` if the layout of channels cannot be undone.
        """
        pairing = self.pairing
        if isinstance(pairing, Pairing):
            pairing = pairing.undone()
        # Tables contain the scale, so the reciprocal of their square inverts the scale
        # as well.
        squared = self.cos**2 + self.sin**2
        growth = None if self.growth is None else -self.growth
        cos, sin = self.cos / squared, -self.sin / squared
        return Rotation(cos, sin, growth, self.dim, pairing)

    def _turn(self, x, name, growth):
        check_tokens(name, x)
        self._check_shape(x, name)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"`{name}` must be floating point, but got {x.dtype}.")
        dtype = computing_dtype(x.dtype)
        cos, sin = self.cos.astype(dtype), self.sin.astype(dtype)
        if growth is not None:
            factor = jnp.exp(_bounded(growth, x.dtype)).astype(dtype)
            cos, sin = cos * factor, sin * factor
        # Tables broadcast over all axes before the tokens, or before the heads with
        # tables of their own.
        leading = tuple(range(x.ndim - cos.ndim))
        cos, sin = jnp.expand_dims(cos, leading), jnp.expand_dims(sin, leading)
        if isinstance(self.pairing, Pairing):
            # Only the two common layouts have a fused form for each platform.
            wide = x.astype(dtype)
            return self.pairing.apply(wide, cos, sin).astype(x.dtype)
        return rotate(x, cos, sin, self.pairing)

    def _check_shape(self, x, name):
        *heads, seq, _ = self.cos.shape
        if heads:
            wanted = f"[..., heads, seq, dim] with heads={heads[0]}, seq={seq}"
            fits = x.shape[-3:] == (*heads, seq, self.dim)
            cure = "A head of keys that serves many queries must be repeated."
        else:
            wanted = f"[..., seq, dim] with seq={seq}"
            fits = x.shape[-2:] == (seq, self.dim)
            cure = AXES
        if not fits:
            raise ValueError(
                f"`{name}` must have shape {wanted} and dim={self.dim}, as the "
                f"positions and the rotary embedding have, but got {x.shape}. {cure}"
            )


def _bounded(growth, dtype):
    # The result is rounded to the dtype of the tokens, so the range of that dtype
    # counts.
    limit = math.log(float(jnp.finfo(dtype).max))
    return error_if(
        growth,
        jnp.abs(growth) > limit,
        f"xPos overflows {dtype} this far from its `center`: float32 reaches about "
        "36,000 positions at scale_base=512, float16 4,500. Move `center` to the "
        "middle of the positions, or raise `scale_base`.",
    )


def once(
    cos: Float[Array, "*heads seq pairs"],
    sin: Float[Array, "*heads seq pairs"],
    scale: float = 1.0,
) -> Float[Array, "2 *heads seq pairs"]:
    """The cosines and sines, evaluated once for all uses."""
    # Without the barrier XLA fuses the sines into every use, and computes them again
    # for each head and layer. The barrier applies to single arrays, hence the stack.
    tables = jnp.stack([cos, sin])
    return jax.lax.optimization_barrier(tables if scale == 1 else tables * scale)
