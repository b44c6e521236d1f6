"""A penalty that grows linearly with the distance on a grid."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .._checks import check_choice, check_count
from .._given import check_array
from .._phase import as_float
from .._positions import distance
from .._sharding import sharded_as_pairs
from ._abstract import AbstractBias
from ._alibi import ALiBi


class GridALiBi(AbstractBias):
    r"""Linear biases on a grid (2D ALiBi of data2vec 2.0), Baevski et al. 2023.

    It subtracts a multiple of the distance between two patches from each logit:

    $$b_h = -m_h\, \big(|\Delta y| + |\Delta x|\big) \quad \text{or} \quad
      b_h = -m_h \sqrt{\Delta y^2 + \Delta x^2}$$

    for the differences in rows and columns and the fixed slopes $m_h$ of
    [`eqx_posemb.ALiBi`][]. All directions are equal. It has no parameters and no
    maximum image size, and takes any number of axes.

    data2vec 2.0 uses both forms. It also learns a factor for each layer, which a model
    can multiply into the bias. Its class tokens have no penalty, so a model must mask
    their bias.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        bias = pe.GridALiBi(heads=8, metric="euclidean")
        corner, far = jnp.array([[0, 0]]), jnp.array([[3, 4]])
        assert bias(corner, far)[0, 0, 0] == -2.5
        ```

    ??? cite "Reference"

        [Efficient Self-supervised Learning with Contextualized Target Representations
        for Vision, Speech and Language](https://arxiv.org/abs/2212.07525), Section 3,
        as its code has it.

        ```bibtex
        @inproceedings{baevski2023efficient,
            author={Baevski, Alexei and Babu, Arun and Hsu, Wei-Ning and Auli, Michael},
            title={Efficient Self-supervised Learning with Contextualized Target
                   Representations for Vision, Speech and Language},
            booktitle={International Conference on Machine Learning},
            year={2023},
        }
        ```
    """

    heads: int = eqx.field(static=True)
    metric: Literal["manhattan", "euclidean"] = eqx.field(
        static=True, default="manhattan"
    )

    def __check_init__(self):
        check_count("heads", self.heads, 1)
        check_choice("metric", self.metric, ("manhattan", "euclidean"))

    @sharded_as_pairs
    @jax.named_scope("eqx_posemb.GridALiBi")
    def __call__(
        self, q_positions: Num[Array, "q axes"], k_positions: Num[Array, "k axes"]
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q_positions`: the coordinates of the queries, integers or floats.
        - `k_positions`: the coordinates of the keys.

        **Returns:**

        The bias of each pair, in JAX's default float dtype.

        **Raises:** a `ValueError` if positions have no axes, or different numbers of
        axes.
        """
        for name, positions in ("q", q_positions), ("k", k_positions):
            check_array(f"{name}_positions", positions)
            if positions.ndim != 2 or positions.shape[1:] != q_positions.shape[1:]:
                raise ValueError(
                    f"`{name}_positions` must have shape [seq, axes], with the same "
                    f"axes for queries and keys, but got shape {positions.shape}."
                )
        delta = as_float(distance(q_positions, k_positions))
        if self.metric == "manhattan":
            far = jnp.abs(delta).sum(axis=-1)
        else:
            # The square root has no derivative at zero, so zeros bypass it.
            squares = jnp.sum(delta**2, axis=-1)
            away = squares > 0
            far = jnp.where(away, jnp.sqrt(jnp.where(away, squares, 1)), 0)
        slopes = jnp.array(ALiBi(self.heads).slopes)[:, None, None]
        return -slopes * far[None]


GridALiBi.__init__.__doc__ = """**Arguments:**

- `heads`: The number of heads.
- `metric`: `"manhattan"`, which counts steps along the axes, or `"euclidean"`.

**Raises:** a `ValueError` if `heads` is less than one or `metric` is unknown.
"""
