"""What users read when a setting or shape of a bias of grids is wrong, or a name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe


pytestmark = pytest.mark.usefixtures("as_users_have_it")
# As JAX has keys, and made without a program.
KEY = np.zeros(2, np.uint32)
P = np.arange(4, dtype=np.int32)


def swin():
    return pe.SwinBias((2, 2), 2, key=KEY)


def case(text, call):
    return pytest.param(text, call, id=text[:60])


# Tables, a case a line.
# fmt: off
SETTINGS = [
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.GridALiBi(0)),
    case("`metric` must be one of 'manhattan', 'euclidean', but got 'l2'", lambda: pe.GridALiBi(2, "l2")),
    case("`axes` must be at least 1 and finite, but got 0", lambda: pe.T5GridBias(2, axes=0, key=KEY)),
    case("`resolution` must be positive and finite, but got 0", lambda: pe.T5GridBias(2, resolution=0, key=KEY)),
    case("`scale` must be positive and finite, but got 0", lambda: pe.T5GridBias(2, scale=0, key=KEY)),
    case("`window` must be a positive height and width, but got \\(7,\\)", lambda: pe.SwinBias((7,), 2, key=KEY)),
    case("`window` must be a positive height and width, but got \\(7, 0\\)", lambda: swin().resized((7, 0))),
    case("`method` must be one of 'bicubic', 'bilinear', 'geometric', but got 'cubic'", lambda: swin().resized((7, 7), method="cubic")),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.SwinBias((2, 2), 0, key=KEY)),
    case("`std` must be at least 0 and finite, but got -1", lambda: pe.SwinBias((2, 2), 2, std=-1, key=KEY)),
    case("`window` must be a positive height and width, but got \\(\\)", lambda: pe.LogCPB((), 2, key=KEY)),
    case("`pretrained_window` must be a positive height and width, but got \\(0, 0\\)", lambda: pe.LogCPB((2, 2), 2, pretrained_window=(0, 0), key=KEY)),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.LogCPB((2, 2), 0, key=KEY)),
    case("`hidden` must be at least 1 and finite, but got 0", lambda: pe.LogCPB((2, 2), 2, hidden=0, key=KEY)),
    case("`window` must be a positive height and width, but got \\(3,\\)", lambda: pe.LogCPB((2, 2), 2, key=KEY).for_window((3,))),
    case("`form` must be .*'rw'.* but got 'timm'", lambda: pe.LogCPB((2, 2), 2, form="timm", key=KEY)),
    case("`pretrained_window` must be left out with `form='cr'`.* but got \\(2, 2\\)", lambda: pe.LogCPB((2, 2), 2, pretrained_window=(2, 2), form="cr", key=KEY)),
    case("`antialias` must be False with `method='geometric'`", lambda: pe.SwinBias((2, 2), 2, key=KEY).resized((3, 3), method="geometric", antialias=True)),
    case("`window` must be a positive height and width, but got \\(3,\\)", lambda: pe.BEiTBias((3,), 2, key=KEY)),
    case("`window` must be a positive height and width, but got \\(3,\\)", lambda: pe.BEiTBias((3, 3), 2, key=KEY).resized((3,))),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.BEiTBias((2, 2), 0, key=KEY)),
    case("`std` must be at least 0 and finite, but got -1", lambda: pe.BEiTBias((2, 2), 2, std=-1, key=KEY)),
    case("`window` must be a positive height and width, but got \\(3,\\)", lambda: pe.LeViTBias((3,), 2, key=KEY)),
    case("`window` must be a positive height and width, but got \\(3,\\)", lambda: pe.LeViTBias((3, 3), 2, key=KEY).resized((3,))),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.LeViTBias((2, 2), 0, key=KEY)),
    case("`std` must be at least 0 and finite, but got -1", lambda: pe.LeViTBias((2, 2), 2, std=-1, key=KEY)),
    case("`state` must have one of wpe.weight, .* after `prefix` 'a.', but got b", lambda: pe.Learned.from_state_dict({"b": 1}, prefix="a.")),
    case("`state` must have one of position_embeddings, .* after `prefix` '', but got nothing", lambda: pe.LearnedGrid.from_state_dict({})),
    case("`pos_embed` must have rows for a square grid where no shape is given, but got 5. Give", lambda: pe.LearnedGrid.from_state_dict({"pos_embed": jnp.ones((6, 4))})),
    case("`shape` must have 5 cells, one for each row of `pos_embed`, but got \\(2, 3\\)", lambda: pe.LearnedGrid.from_state_dict({"pos_embed": jnp.ones((6, 4))}, shape=(2, 3))),
    case("`state` must have one of relative_position_bias_table after `prefix` '', but got nothing", lambda: pe.SwinBias.from_state_dict({})),
    case("`state` must have one of cpb_mlp.0.weight, .* but got nothing", lambda: pe.LogCPB.from_state_dict({}, (2, 2))),
    case("`state` must have one of relative_position_bias_table .* but got nothing", lambda: pe.BEiTBias.from_state_dict({})),
    case("`state` must have one of attention_biases .* but got nothing", lambda: pe.LeViTBias.from_state_dict({})),
    case("`window` must fit the 9 rows of `relative_position_bias_table`, but got \\(2, 3\\). Resize", lambda: pe.SwinBias.from_state_dict({"relative_position_bias_table": jnp.ones((9, 2))}, window=(2, 3))),
    case("`relative_position_bias_table` must have rows for a square grid.*got 6", lambda: pe.BEiTBias.from_state_dict({"relative_position_bias_table": jnp.ones((9, 2))})),
    case("`window` must fit the 9 rows of `attention_biases`, but got \\(2, 3\\)", lambda: pe.LeViTBias.from_state_dict({"attention_biases": jnp.ones((2, 9))}, window=(2, 3))),
]

SHAPES = [
    case("`q_positions` must have shape \\[seq, axes\\] with 2 axes, but got shape \\(4,\\)", lambda: swin()(P, P)),
    case("`k_positions` must have shape \\[seq, axes\\] with 2 axes, but got shape \\(4,\\)", lambda: pe.BEiTBias((2, 2), 2, key=KEY)(pe.positions.grid_positions((2, 2)), P)),
    case("`q_positions` must be integers, to look differences up with, but got float32", lambda: swin()(jnp.ones((4, 2)), jnp.ones((4, 2)))),
    case("`q_positions` must have shape \\[seq, axes\\], with the same axes.*\\(4,\\)", lambda: pe.GridALiBi(2)(P, P)),
    case("`k_positions` must have shape \\[seq, axes\\], with the same axes.*\\(4, 3\\)", lambda: pe.GridALiBi(2)(jnp.ones((4, 2)), jnp.ones((4, 3)))),
    case("`k_positions` must have shape \\[seq, axes\\] with 2 axes, but got shape \\(4, 3\\)", lambda: pe.T5GridBias(2, key=KEY)(jnp.ones((4, 2)), jnp.ones((4, 3)))),
]
# fmt: on


@pytest.mark.parametrize("text, call", SETTINGS)
def test_a_wrong_setting_says_so_when_it_is_made(text, call):
    # Traced, so that nothing is compiled before the error.
    with pytest.raises(ValueError, match=text):
        jax.eval_shape(call)


@pytest.mark.parametrize("text, call", SHAPES)
def test_a_wrong_shape_says_so_when_it_is_traced(text, call):
    with pytest.raises(ValueError, match=text):
        jax.eval_shape(call)
