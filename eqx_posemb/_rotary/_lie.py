"""Learned rotations of more than two channels at a time."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Num, PRNGKeyArray

from .._checks import check_count, check_positive
from .._given import as_positions, check_grid, Positions
from .._phase import as_float, computing_dtype
from .._sharding import compiler_sharded, mesh_axes
from ._abstract import AbstractRotary, AbstractRotation, AXES


class LieRE(AbstractRotary):
    r"""Rotates blocks of channels by the exponential of a learned matrix.

    $$R_h(p) = \exp\Big(\sum_k p_k \big(G_{h, k} - G_{h, k}^\top\big)\Big)$$

    for the coordinates $p_k$ of a position and learned matrices $G$ (`generators`) for
    each coordinate and block. Their skew part generates a rotation in any number of
    dimensions, where rotary embedding has planes that are fixed. For images and
    volumes, with positions of a few dozen.

    With several coordinates the generators do not commute, and so
    $R(p)^\top R(p')$ is no function of $p' - p$: logits depend on more than the offset.
    Where they should not, there is [`eqx_posemb.string_rope`][].

    A matrix exponential for each token is expensive, and float32 is inaccurate at far
    positions. Keep positions below about a hundred, or normalize them.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        liere = pe.LieRE(64, block=8, key=jax.random.key(0))
        rotation = liere(pe.positions.grid_positions((14, 14)))
        q = rotation.queries(jnp.ones((8, 196, 64)))
        ```

    ??? cite "Reference"

        [LieRE: Lie Rotational Positional
        Encodings](https://arxiv.org/abs/2406.10322), Section 4.

        ```bibtex
        @inproceedings{ostmeier2025liere,
            author={Ostmeier, Sophie and Axelrod, Brian and Varma, Maya and Moseley,
                    Michael E. and Chaudhari, Akshay and Langlotz, Curtis},
            title={{LieRE}: Lie Rotational Positional Encodings},
            booktitle={International Conference on Machine Learning},
            year={2025},
        }
        ```
    """

    traits = ("absolute",)

    generators: Float[Array, "axes blocks block block"]

    def __init__(
        self,
        dim: int,
        *,
        count: int = 2,
        block: int | None = None,
        scale: float = 1.0,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `dim`: The number of channels of a head.
        - `count`: The number of coordinates of a position.
        - `block`: The number of channels that turn together. By default all of them, as
            in the paper's largest form; 2 is rotary embedding with learned frequencies.
        - `scale`: How fast they turn at the start: entries of the generators are
            uniform from 0 to this, in radians per unit of position.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if `count` is less than one, `scale` is not positive,
        or `block` does not divide `dim`.
        """
        block = dim if block is None else block
        check_count("dim", dim, 2)
        check_count("count", count, 1)
        check_positive("scale", scale)
        if block < 2 or dim % block:
            raise ValueError(
                f"`block` must be at least 2 and divide `dim`, {dim}, but got {block}."
            )
        shape = (count, dim // block, block, block)
        self.generators = jr.uniform(key, shape, maxval=scale)

    @jax.named_scope("eqx_posemb.LieRE")
    def __call__(self, positions: Num[Array, "seq axes"]) -> "MatrixRotation":
        """**Arguments:**

        - `positions`: the coordinates of each token.

        **Returns:**

        What multiplies queries and keys by the rotation of their positions.

        **Raises:** a `ValueError` if `positions` has another shape.
        """
        count = self.generators.shape[0]
        check_grid("positions", positions, count)
        generators = as_float(self.generators)
        skew = generators - jnp.swapaxes(generators, -1, -2)
        sums = jnp.einsum("sk,kbij->sbij", as_float(as_positions(positions)), skew)
        matrices = compiler_sharded(jax.scipy.linalg.expm, mesh_axes(sums), sums)
        return MatrixRotation(matrices)


class MatrixRotation(AbstractRotation):
    """Multiplies each block of channels by a matrix for each position."""

    matrices: Float[Array, "*heads seq blocks block block"]

    @property
    def heads(self) -> int | None:
        """The number of heads with matrices of their own, or `None` if all heads share
        them."""
        return self.matrices.shape[0] if self.matrices.ndim == 5 else None

    def queries(self, q: Float[Array, "... dim"]) -> Float[Array, "... dim"]:
        """**Arguments:**

        - `q`: queries, `[..., seq, dim]`.

        **Returns:**

        The rotated queries, in the dtype of `q`; computed in at least float32.

        **Raises:** a `ValueError` if the shape does not fit.
        """
        return self._turn(q, "q")

    def keys(self, k: Float[Array, "... dim"]) -> Float[Array, "... dim"]:
        """**Arguments:**

        - `k`: keys, `[..., seq, dim]`.

        **Returns:**

        The rotated keys, in the dtype of `k`; computed in at least float32.

        **Raises:** a `ValueError` if the shape does not fit.
        """
        return self._turn(k, "k")

    def inverse(self) -> "MatrixRotation":
        """The transposed matrices, which are orthogonal."""
        return MatrixRotation(jnp.swapaxes(self.matrices, -1, -2))

    def _turn(self, x, name):
        *heads, seq, blocks, block, _ = self.matrices.shape
        wanted = (*heads, seq, blocks * block)
        if x.shape[-len(wanted) :] != wanted:
            names = "heads, seq, dim" if heads else "seq, dim"
            each = f"heads={heads[0]}, seq={seq}" if heads else f"seq={seq}"
            raise ValueError(
                f"`{name}` must have shape [..., {names}] with {each} and "
                f"dim={blocks * block}, as the positions and the rotary embedding "
                f"have, but got {x.shape}. {AXES}"
            )
        dtype = computing_dtype(x.dtype)

        def turned(x, matrices):
            parts = x.astype(dtype).reshape(*x.shape[:-1], blocks, block)
            own = "h" * len(heads)
            rule = f"{own}sbij,...{own}sbj->...{own}sbi"
            parts = jnp.einsum(rule, matrices.astype(dtype), parts)
            return parts.reshape(x.shape).astype(x.dtype)

        return compiler_sharded(turned, mesh_axes(x), x, self.matrices)


class Cayley(AbstractRotary):
    r"""Puts queries and keys into a learned orthogonal basis.

    $$q \mapsto P q, \qquad k \mapsto P k, \qquad
      P = (I - S)(I + S)^{-1}, \qquad S = G - G^\top$$

    for a learned matrix $G$ (`generator`). Alone it changes no logit, as $P$ is
    orthogonal. Before a rotary embedding it says which directions turn, and not only
    how fast: STRING, [`eqx_posemb.string_rope`][].

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        basis = pe.rotations.Cayley(64, key=jax.random.key(0))
        both = pe.rotations.Chain((basis, pe.rope(64)))
        q = both(jnp.arange(10)).queries(jnp.ones((10, 64)))
        ```

    ??? cite "Reference"

        [Learning the RoPEs: Better 2D and 3D Position Encodings with
        STRING](https://arxiv.org/abs/2502.02562), Section 3.
    """

    generator: Float[Array, "dim dim"]

    def __init__(self, dim: int, *, std: float = 0.02, key: PRNGKeyArray):
        """**Arguments:**

        - `dim`: The number of channels of a head.
        - `std`: The standard deviation of the initial matrix: near zero the basis is
            near what it was.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if `dim` or `std` is not positive.
        """
        check_count("dim", dim, 1)
        check_positive("std", std)
        self.generator = std * jr.normal(key, (dim, dim))

    @property
    def basis(self) -> Float[Array, "dim dim"]:
        """The orthogonal matrix, in at least float32."""
        generator = as_float(self.generator)
        skew = generator - generator.T
        one = jnp.eye(len(skew))
        # The two factors commute.
        return jnp.linalg.solve(one + skew, one - skew)

    @jax.named_scope("eqx_posemb.rotations.Cayley")
    def __call__(self, positions: Num[Positions, "seq *axes"]) -> MatrixRotation:
        """**Arguments:**

        - `positions`: ignored but for their number.

        **Returns:**

        What multiplies queries and keys by the basis.
        """
        dim = len(self.generator)
        shape = (positions.shape[0], 1, dim, dim)
        return MatrixRotation(jnp.broadcast_to(self.basis[None, None], shape))
