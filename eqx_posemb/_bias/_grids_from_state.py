"""Biases of grids with the weights of published checkpoints."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.random as jr

from .._state import array, filled, only, square
from ._beit import BEiTBias
from ._levit import LeViTBias
from ._log_cpb import LogCPB
from ._swin import check_window, SwinBias


_TABLE = "relative_position_bias_table"


def swin_from_state_dict(
    state: Mapping[str, Any],
    *,
    prefix: str = "",
    window: Sequence[int] | None = None,
) -> SwinBias:
    """Builds a [`eqx_posemb.SwinBias`][] with the weights of a checkpoint.

    This name must be there, after `prefix` (`layers.0.blocks.0.attn.` in the original
    and in timm):

    - `relative_position_bias_table`, [(2 height - 1) (2 width - 1), heads].

    !!! Example

        ```python
        import numpy as np
        import eqx_posemb as pe

        state = {"attn.relative_position_bias_table": np.ones((169, 3))}
        bias = pe.swin_from_state_dict(state, prefix="attn.")
        assert bias.window == (7, 7)
        ```

    **Arguments:**

    - `state`: arrays by name, of NumPy or anything that it understands.
    - `prefix`: what comes before the name.
    - `window`: the height and the width of the window; by default it is square.

    **Returns:** the bias, in JAX's default float dtype.

    **Raises:** a `ValueError` if the name is missing, or its rows do not fit `window`.
    """
    name = only(state, prefix, _TABLE)
    table = array(state, name)
    window = _window(name, table.shape[0], window)
    made = SwinBias(window, table.shape[1], key=jr.key(0))
    weight = table.reshape(made.weight.shape)
    return filled(made, weight=weight)


def swinv2_from_state_dict(
    state: Mapping[str, Any],
    window: Sequence[int],
    *,
    prefix: str = "",
    pretrained_window: Sequence[int] | None = None,
) -> LogCPB:
    """Builds a [`eqx_posemb.LogCPB`][] with the weights of a checkpoint.

    These names must be there, after `prefix` (`layers.0.blocks.0.attn.` in the original
    and in timm):

    - `cpb_mlp.0.weight`, [hidden, 2], `cpb_mlp.0.bias`, [hidden], and
        `cpb_mlp.2.weight`, [heads, hidden]; in transformers
        `continuous_position_bias_mlp` in place of `cpb_mlp`.

    Beside them is `logit_scale`, [heads, 1, 1]: the model's, whose cosine similarities
    are multiplied by `exp(min(logit_scale, log(100)))`.

    !!! Example

        ```python
        import numpy as np
        import eqx_posemb as pe

        state = {
            "cpb_mlp.0.weight": np.ones((512, 2)),
            "cpb_mlp.0.bias": np.ones(512),
            "cpb_mlp.2.weight": np.ones((3, 512)),
        }
        bias = pe.swinv2_from_state_dict(state, (8, 8))
        assert bias.window == (8, 8)
        ```

    **Arguments:**

    - `state`: arrays by name, of NumPy or anything that it understands.
    - `window`: the height and the width of the window, which a checkpoint does not say.
    - `prefix`: what comes before the names.
    - `pretrained_window`: as in `LogCPB`.

    **Returns:** the bias, in JAX's default float dtype.

    **Raises:** a `ValueError` if a name is missing, or a window is not two sizes.
    """
    arrays = []
    for part in "0.weight", "0.bias", "2.weight":
        names = f"cpb_mlp.{part}", f"continuous_position_bias_mlp.{part}"
        arrays.append(array(state, only(state, prefix, *names)))
    heads, hidden = arrays[2].shape
    made = LogCPB(
        window,
        heads,
        pretrained_window=pretrained_window,
        hidden=hidden,
        key=jr.key(0),
    )
    first, bias, last = arrays
    return filled(made, hidden_weight=first, hidden_bias=bias, weight=last)


def beit_from_state_dict(
    state: Mapping[str, Any],
    *,
    prefix: str = "",
    window: Sequence[int] | None = None,
) -> BEiTBias:
    """Builds a [`eqx_posemb.BEiTBias`][] with the weights of a checkpoint.

    This name must be there, after `prefix` (`blocks.0.attn.` or `rel_pos_bias.` in the
    original and in timm, `encoder.relative_position_bias.` in transformers):

    - `relative_position_bias_table`, [(2 height - 1) (2 width - 1) + 3, heads]; the
        last three rows are those of [CLS].

    !!! Example

        ```python
        import numpy as np
        import eqx_posemb as pe

        state = {"attn.relative_position_bias_table": np.ones((27 * 27 + 3, 12))}
        bias = pe.beit_from_state_dict(state, prefix="attn.")
        assert bias.window == (14, 14)
        ```

    **Arguments:**

    - `state`: arrays by name, of NumPy or anything that it understands.
    - `prefix`: what comes before the name.
    - `window`: the height and the width of the image in patches; by default it is
        square.

    **Returns:** the bias, in JAX's default float dtype.

    **Raises:** a `ValueError` if the name is missing, or its rows do not fit `window`.
    """
    name = only(state, prefix, _TABLE)
    table = array(state, name)
    window = _window(name, table.shape[0] - 3, window)
    made = BEiTBias(window, table.shape[1], key=jr.key(0))
    weight = table[:-3].reshape(made.weight.shape)
    return filled(made, weight=weight, cls=table[-3:])


def levit_from_state_dict(
    state: Mapping[str, Any],
    *,
    prefix: str = "",
    window: Sequence[int] | None = None,
) -> LeViTBias:
    """Builds a [`eqx_posemb.LeViTBias`][] with the weights of a checkpoint.

    This name must be there, after `prefix`:

    - `attention_biases`, [heads, height * width]: the original, timm and transformers.

    !!! Example

        ```python
        import numpy as np
        import eqx_posemb as pe

        state = {"attn.attention_biases": np.ones((4, 196))}
        bias = pe.levit_from_state_dict(state, prefix="attn.")
        assert bias.window == (14, 14)
        ```

    **Arguments:**

    - `state`: arrays by name, of NumPy or anything that it understands.
    - `prefix`: what comes before the name.
    - `window`: the height and the width of the image in cells; by default it is square.

    **Returns:** the bias, in JAX's default float dtype.

    **Raises:** a `ValueError` if the name is missing, or its rows do not fit `window`.
    """
    name = only(state, prefix, "attention_biases")
    table = array(state, name).T
    cells = table.shape[0]
    shape = square(name, cells) if window is None else check_window("window", window)
    if shape[0] * shape[1] != cells:
        raise ValueError(_unfitting(name, cells, shape))
    made = LeViTBias(shape, table.shape[1], key=jr.key(0))
    weight = table.reshape(made.weight.shape)
    return filled(made, weight=weight)


def _window(name, differences, window):
    if window is None:
        side, _ = square(name, differences)
        return (side + 1) // 2, (side + 1) // 2
    height, width = check_window("window", window)
    if (2 * height - 1) * (2 * width - 1) != differences:
        raise ValueError(_unfitting(name, differences, (height, width)))
    return height, width


def _unfitting(name, count, window):
    return (
        f"`window` must be that of the {count} rows of `{name}`, but got {window}. "
        "Resize the bias afterwards."
    )
