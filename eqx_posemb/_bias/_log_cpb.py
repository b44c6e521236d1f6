"""A bias of differences between cells that a small network computes."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import check_choice, check_count
from .._layers import linear_layer, uniform
from .._phase import as_float
from .._spread import Window
from .._state_dicts import array, filled, only
from ._window import AbstractWindowBias, check_window


Form = Literal["swin", "cr", "rw"]


class LogCPB(AbstractWindowBias):
    r"""Log-spaced continuous position bias (Swin V2), Liu et al. 2022.

    A small network maps the logarithms of row and column differences to a bias:

    $$b(\Delta y, \Delta x) = 16\, \sigma\big(W_2\, \mathrm{ReLU}(W_1 g + c)\big),
      \qquad g_a = \frac{\mathrm{sign}(r_a) \log_2 (1 + |r_a|)}{3}, \quad
      r_a = \frac{8 \Delta_a}{N_a - 1}$$

    for the differences $\Delta_a$, query minus key, along both axes, and the size $N_a$
    of the window in training. [`eqx_posemb.SwinBias`][] has a table of differences.
    This network is a function of the difference, and serves windows of any size.
    `for_window` keeps the network and $N_a$, so near cells keep their bias.

    That is the form `"swin"`. timm's `RelPosMlp` has two more forms. Their last layer
    has a bias, the `bias` of each head:

    - `"cr"` returns the output of the network, for the coordinates $g_a =
        \mathrm{sign}(\Delta_a) \ln (1 + |\Delta_a|)$ without a window.
    - `"rw"` returns four times its hyperbolic tangent, and has $\log_2 9$ in place of
        3.

    Swin V2 combines it with cosine attention. It normalizes queries and keys, and
    replaces $1 / \sqrt{d}$ by a learned factor of at most 100 per head. The model
    computes both. Multiply the factor into the queries, and attend with `scale=1`,
    which [`eqx_posemb.make`][] does not set.

    !!! Example

        ```python
        import jax
        import eqx_posemb as pe

        bias = pe.LogCPB((8, 8), heads=3, key=jax.random.key(0))
        larger = bias.for_window((16, 16))
        cells = pe.positions.grid_positions((16, 16))
        assert larger(cells, cells).shape == (3, 256, 256)
        ```

    ??? cite "Reference"

        [Swin Transformer V2: Scaling Up Capacity and
        Resolution](https://arxiv.org/abs/2111.09883), Section 3.3; 16σ, the factor 8
        and the base of the logarithm follow the released code.

        ```bibtex
        @inproceedings{liu2022swin,
            author={Liu, Ze and Hu, Han and Lin, Yutong and Yao, Zhuliang and Xie,
                    Zhenda and Wei, Yixuan and Ning, Jia and Cao, Yue and Zhang, Zheng
                    and Dong, Li and Wei, Furu and Guo, Baining},
            title={Swin Transformer {V2}: Scaling Up Capacity and Resolution},
            booktitle={Conference on Computer Vision and Pattern Recognition},
            year={2022},
        }
        ```
    """

    traits = ("bounded",)

    hidden_weight: Float[Array, "hidden 2"]
    hidden_bias: Float[Array, " hidden"]
    weight: Float[Array, "heads hidden"]
    # The last layer has a bias in timm's forms alone.
    bias: Float[Array, " heads"] | None
    size: Window = eqx.field(static=True)
    # Coordinates are divided by the window of training, which may differ from the
    # window in use.
    trained: Window = eqx.field(static=True)
    form: Form = eqx.field(static=True)

    def __init__(
        self,
        window: Sequence[int],
        heads: int,
        *,
        pretrained_window: Sequence[int] | None = None,
        hidden: int = 512,
        form: Form = "swin",
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `window`: The height and the width of the window, in cells.
        - `heads`: The number of heads.
        - `pretrained_window`: The height and the width of the window in training, if it
            was different.
        - `hidden`: The number of units of the hidden layer.
        - `form`: The coordinates and the output: `"swin"`, `"cr"` or `"rw"`.
        - `key`: A `jax.random` key for the initial weights, uniform within one over the
            square root of their inputs.

        **Raises:** a `ValueError` if a window is not two positive sizes, `heads` or
        `hidden` is less than one, or `form` is unknown. The same if `pretrained_window`
        is given for `form="cr"`, whose coordinates are not divided by a window.
        """
        check_choice("form", form, ("swin", "cr", "rw"))
        if form == "cr" and pretrained_window is not None:
            raise ValueError(
                "`pretrained_window` must be left out with `form='cr'`, whose "
                "coordinates are not divided by a window, but got "
                f"{tuple(pretrained_window)}."
            )
        self.size = check_window("window", window)
        self.trained = self.size
        if pretrained_window is not None:
            self.trained = check_window("pretrained_window", pretrained_window)
        check_count("heads", heads, 1)
        check_count("hidden", hidden, 1)
        keys = jr.split(key, 3)
        self.hidden_weight = uniform(keys[0], (hidden, 2), 2)
        self.hidden_bias = uniform(keys[1], (hidden,), 2)
        self.weight = uniform(keys[2], (heads, hidden), hidden)
        self.bias = None if form == "swin" else jnp.zeros(heads)
        self.form = form

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Any],
        window: Sequence[int],
        *,
        prefix: str = "",
        pretrained_window: Sequence[int] | None = None,
        form: Form = "swin",
    ) -> "LogCPB":
        """Builds a [`eqx_posemb.LogCPB`][] with the weights of a checkpoint.

        These names must be there, after `prefix` (`layers.0.blocks.0.attn.` in the
        original and in timm):

        - `cpb_mlp.0.weight`, [hidden, 2], `cpb_mlp.0.bias`, [hidden], and
            `cpb_mlp.2.weight`, [heads, hidden]; in transformers
            `continuous_position_bias_mlp` in place of `cpb_mlp`.
        - timm's `RelPosMlp` has `mlp.fc1.weight`, `mlp.fc1.bias` and `mlp.fc2.weight`
            in their place, and `mlp.fc2.bias`, [heads], in the forms with a bias.

        Beside them is `logit_scale`, [heads, 1, 1]: the model's, whose cosine
        similarities are multiplied by `exp(min(logit_scale, log(100)))`.

        !!! Example

            ```python
            import numpy as np
            import eqx_posemb as pe

            state = {
                "cpb_mlp.0.weight": np.ones((512, 2)),
                "cpb_mlp.0.bias": np.ones(512),
                "cpb_mlp.2.weight": np.ones((3, 512)),
            }
            bias = pe.LogCPB.from_state_dict(state, (8, 8))
            assert bias.window == (8, 8)
            ```

        **Arguments:**

        - `state`: arrays by name, of NumPy or anything that it understands.
        - `window`: the height and the width of the window, which a checkpoint does not
            say.
        - `prefix`: what comes before the names.
        - `pretrained_window`, `form`: as in `LogCPB`.

        **Returns:** the bias, in JAX's default float dtype.

        **Raises:** a `ValueError` if a name is missing, or a window is not two sizes.
        """
        arrays = []
        for part, of_timm in ("0.weight", 1), ("0.bias", 1), ("2.weight", 2):
            names = (
                f"cpb_mlp.{part}",
                f"continuous_position_bias_mlp.{part}",
                f"mlp.fc{of_timm}.{part[2:]}",
            )
            arrays.append(array(state, only(state, prefix, *names)))
        heads, hidden = arrays[2].shape
        made = cls(
            window,
            heads,
            pretrained_window=pretrained_window,
            hidden=hidden,
            form=form,
            key=jr.key(0),
        )
        first, bias, last = arrays
        made = filled(made, hidden_weight=first, hidden_bias=bias, weight=last)
        if made.bias is None:
            return made
        return filled(made, bias=array(state, f"{prefix}mlp.fc2.bias"))

    @property
    def window(self) -> Window:
        """The height and the width of the window, in cells."""
        return self.size

    def for_window(self, window: Sequence[int]) -> "LogCPB":
        """Keeps the network and the scale of differences for another window.

        **Arguments:**

        - `window`: the new height and width, in cells.

        **Returns:** a `LogCPB`.

        **Raises:** a `ValueError` if `window` is not two positive sizes.
        """
        # All weights are replaced below, so the smallest network is initialized.
        other = LogCPB(
            window,
            self.weight.shape[0],
            pretrained_window=None if self.form == "cr" else self.trained,
            hidden=1,
            form=self.form,
            key=jr.key(0),
        )
        weights = lambda made: (
            made.hidden_weight,
            made.hidden_bias,
            made.weight,
            made.bias,
        )
        is_none = lambda leaf: leaf is None
        return eqx.tree_at(weights, other, weights(self), is_leaf=is_none)

    def differences(self) -> Float[Array, "heads rows columns"]:
        """The bias of each difference, key minus query."""
        # Coordinates are constants of the window, so the host computes them in float64.
        differences = [np.arange(size - 1, -size, -1.0) for size in self.size]
        if self.form != "cr":
            differences = [
                # A window of one cell would divide by zero.
                8 * difference / max(trained - 1, 1)
                for difference, trained in zip(differences, self.trained, strict=True)
            ]
        far = np.stack(np.meshgrid(*differences, indexing="ij"))
        # Swin V2 has log₂(1 + r) / 3, which equals ln(1 + r) / ln 8.
        unit = {"swin": np.log(8), "cr": 1.0, "rw": np.log(9)}[self.form]
        logs = np.sign(far) * np.log1p(np.abs(far)) / unit
        logs = as_float(jnp.asarray(logs))
        hidden = linear_layer(self.hidden_weight, self.hidden_bias, logs)
        out = linear_layer(self.weight, self.bias, jax.nn.relu(hidden))
        if self.form == "cr":
            return out
        return 4 * jnp.tanh(out) if self.form == "rw" else 16 * jax.nn.sigmoid(out)
