"""Learned rotations of more than two channels at a time."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Num, PRNGKeyArray

from .._checks import check_count, check_positive, is_integer, require
from .._given import as_positions, check_grid, check_positions, check_tokens, Positions
from .._phase import as_float, computing_dtype
from .._sharding import compiler_sharded, mesh_axes
from ._abstract import AbstractRotary, AbstractRotation, AXES


class LieRE(AbstractRotary):
    r"""Lie rotational position encodings (LieRE), Ostmeier et al. 2025.

    It rotates blocks of channels by the exponential of a learned matrix:

    $$R_h(p) = \exp\Big(\sum_k p_k \big(G_{h, k} - G_{h, k}^\top\big)\Big)$$

    for the coordinates $p_k$ of a position and learned matrices $G$ (`generators`) for
    each coordinate and block. Their skew part generates a rotation in any number of
    dimensions, where a rotary embedding has fixed planes. It is for images and volumes
    with a few dozen positions per axis.

    With several coordinates the generators do not commute, and $R(p)^\top R(p')$ is no
    function of $p' - p$. Logits therefore depend on more than the offset. In
    [`eqx_posemb.string_rope`][] they depend on the offset alone.

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

    # Generators are in radians per unit of position, and only their skew parts are
    # read.
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
        - `block`: The number of channels that turn together. By default all channels,
            as in the largest form of the paper. With 2, it is a rotary embedding with
            learned frequencies.
        - `scale`: The range of initial entries of the generators, which are uniform
            from 0 to `scale`, in radians per unit of position.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if `count` is less than one, `scale` is not positive,
        or `block` does not divide `dim`.
        """
        check_count("count", count, 1)
        check_positive("scale", scale)
        shape = (count, *blocks_of(dim, dim if block is None else block))
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
        at = as_float(as_positions(positions))
        return rotation_of(jnp.einsum("sk,kbij->sbij", at, skew(self.generators)))


def blocks_of(dim: int, block: int) -> tuple[int, int, int]:
    """The number of blocks of channels, and the shape of the matrix of each block."""
    check_count("dim", dim, 2)
    rule = f"be an integer of at least 2 that divides `dim`, {dim}"
    require(is_integer(block) and block >= 2 and dim % block == 0, "block", rule, block)
    return dim // block, block, block


def skew(generators: Float[Array, "*batch block block"]) -> Array:
    """The skew parts, in at least float32, whose exponentials are rotations."""
    generators = as_float(generators)
    return generators - jnp.swapaxes(generators, -1, -2)


def rotation_of(
    exponents: Float[Array, "*heads seq blocks block block"],
) -> "MatrixRotation":
    """The rotation by the exponentials of skew matrices."""
    # With Explicit axes of a mesh, the inner operations of `expm` would have to state
    # their shardings.
    matrices = compiler_sharded(jax.scipy.linalg.expm, mesh_axes(exponents), exponents)
    return MatrixRotation(matrices)


class MatrixRotation(AbstractRotation):
    """Multiplies each block of channels by a matrix for each position."""

    # Each token has its own matrices, so memory grows with the square of `block`.
    matrices: Float[Array, "*heads seq blocks block block"]

    @property
    def heads(self) -> int | None:
        """The number of heads with matrices of their own, or `None`."""
        return None if self.matrices.ndim == 4 else len(self.matrices)

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
        check_tokens(name, x)
        *heads, seq, blocks, block, _ = self.matrices.shape
        wanted = (*heads, seq, blocks * block)
        if x.shape[-len(wanted) :] != wanted:
            axes, having = (
                "heads, " * len(heads),
                f"heads={heads[0]}, " if heads else "",
            )
            raise ValueError(
                f"`{name}` must have shape [..., {axes}seq, dim] with {having}"
                f"seq={seq} and dim={blocks * block}, as the positions and the rotary "
                f"embedding have, but got {x.shape}. {AXES}"
            )
        dtype, of = computing_dtype(x.dtype), "h" * len(heads)
        product = f"{of}sbij,...{of}sbj->...{of}sbi"

        def turned(x, matrices):
            parts = x.astype(dtype).reshape(*x.shape[:-1], blocks, block)
            # Half precision would round each of the products of a block.
            parts = jnp.einsum(product, matrices.astype(dtype), parts)
            return parts.reshape(x.shape).astype(x.dtype)

        return compiler_sharded(turned, mesh_axes(x), x, self.matrices)


class Cayley(AbstractRotary):
    r"""The learned orthogonal basis of STRING, Schenck et al. 2025.

    It multiplies queries and keys by an orthogonal matrix:

    $$q \mapsto P q, \qquad k \mapsto P k, \qquad
      P = (I - S)(I + S)^{-1}, \qquad S = G - G^\top$$

    for a learned matrix $G$ (`generator`). Alone it changes no logit, since $P$ is
    orthogonal. Before a rotary embedding it chooses the directions that turn, as in
    [`eqx_posemb.string_rope`][].

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
        - `std`: The standard deviation of the initial matrix. Near zero, the basis is
            near the identity.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if `dim` or `std` is not positive.
        """
        check_count("dim", dim, 1)
        check_positive("std", std)
        self.generator = std * jr.normal(key, (dim, dim))

    @property
    def basis(self) -> Float[Array, "dim dim"]:
        """The orthogonal matrix, in at least float32."""
        # A skew part of any matrix is skew, so optimizers need no constraint.
        s = skew(self.generator)
        one = jnp.eye(len(s))
        # The two factors commute.
        return jnp.linalg.solve(one + s, one - s)

    @jax.named_scope("eqx_posemb.rotations.Cayley")
    def __call__(self, positions: Num[Positions, "seq *axes"]) -> MatrixRotation:
        """**Arguments:**

        - `positions`: ignored but for their number.

        **Returns:**

        What multiplies queries and keys by the basis.
        """
        check_positions("positions", positions)
        dim = len(self.generator)
        shape = (positions.shape[0], 1, dim, dim)
        return MatrixRotation(jnp.broadcast_to(self.basis[None, None], shape))
