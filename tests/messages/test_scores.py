"""What users read when a setting or shape of a score is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from eqx_posemb.interop import huggingface


pytestmark = pytest.mark.usefixtures("as_users_have_it")
# As JAX has keys, and made without a program.
KEY = np.zeros(2, np.uint32)
P = np.arange(4, dtype=np.int32)
Q = np.ones((2, 4, 16), np.float32)


DEBERTA = {
    "model_type": "deberta-v2",
    "num_attention_heads": 2,
    "relative_attention": True,
    "pos_att_type": "p2c|c2p",
    "share_att_key": True,
}
SELF = "encoder.layer.0.attention.self."
DEBERTA_STATE = {
    "encoder.rel_embeddings.weight": np.ones((512, 4)),
    **{f"{SELF}{name}_proj.weight": np.ones((4, 4)) for name in ("key", "query")},
    **{f"{SELF}{name}_proj.bias": np.ones(4) for name in ("key", "query")},
}


def case(text, call):
    return pytest.param(text, call, id=text[:60])


# Tables, a case a line.
# fmt: off
SETTINGS = [
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.TransformerXL(0, 8, 8, key=KEY)),
    case("`head_dim` must be at least 1 and finite, but got 0", lambda: pe.TransformerXL(2, 0, 8, key=KEY)),
    case("`std` must be positive and finite, but got 0", lambda: pe.TransformerXL(2, 8, 8, std=0, key=KEY)),
    case("`clamp` must be at least 1 and finite, but got 0", lambda: pe.TransformerXL(2, 8, 8, clamp=0, key=KEY)),
    case("`layout` must be one of 'interleaved', .*but got 'xlnet'", lambda: pe.TransformerXL(2, 8, 8, layout="xlnet", key=KEY)),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.Enformer(0, 8, 6, 8, key=KEY)),
    case("`head_dim` must be at least 1 and finite, but got 0", lambda: pe.Enformer(2, 0, 6, 8, key=KEY)),
    case("`length` must be at least 1 and finite, but got 0", lambda: pe.Enformer(2, 8, 6, 0, key=KEY)),
    case("`features` must be a multiple of 6 for symmetric=False.*but got 9", lambda: pe.Enformer(2, 8, 9, 8, key=KEY)),
    case("`features` must be a multiple of 3 for symmetric=True.*but got 0", lambda: pe.Enformer(2, 8, 0, 8, symmetric=True, key=KEY)),
    case("`head_dim` must be at least 1 and finite, but got 0", lambda: pe.Shaw(0, key=KEY)),
    case("`back` must be at least 0 and finite, but got -1", lambda: pe.Shaw(8, back=-1, key=KEY)),
    case("`ahead` must be at least 0 and finite, but got -1", lambda: pe.Shaw(8, ahead=-1, key=KEY)),
    case("`std` must be positive and finite, but got 0", lambda: pe.Shaw(8, std=0, key=KEY)),
    case("`back` must be between 0 and 2, the last row of `table`, but got 3", lambda: pe.functional.shaw_values(jnp.ones((1, 4, 4)), jnp.ones((3, 2)), P, P, back=3)),
    case("`head_dim` must be at least 1 and finite, but got 0", lambda: pe.CoPE(0, key=KEY)),
    case("`reach` must be at least 2 and finite, but got 1", lambda: pe.CoPE(8, reach=1, key=KEY)),
    case("`std` must be at least 0 and finite, but got -1", lambda: pe.CoPE(8, std=-1, key=KEY)),
    case("`q` must have the 8 channels of the vectors of this `CoPE`, but got \\(2, 4, 16\\). Build it with `head_dim=16`", lambda: pe.CoPE(8, key=KEY)(Q, Q, P, P)),
    case("`k_positions` must have shape \\[seq\\], to count keys in order, but got \\(4, 1\\)", lambda: pe.CoPE(16, key=KEY)(Q, Q, P, P[:, None])),
    *(
        case(f"`{name}` must be at least 1 and finite, but got 0", lambda name=name: pe.PaTH(**{**dict(heads=2, head_dim=16, dim=8), name: 0}, key=KEY))
        for name in ("heads", "head_dim", "dim", "rank")
    ),
    case("`q` must have shape \\[heads, q, dim\\] with 3 heads and 16 channels, as this `PaTH` has, but got \\(2, 4, 16\\)", lambda: pe.PaTH(3, 16, 8, key=KEY).products(Q, Q, P, P)),
    case("`k_state` must be the hidden states of the tokens.*with dim=8, which this part reads, but got None", lambda: pe.PaTH(2, 16, 8, key=KEY).products(Q, Q, P, P)),
    case("`k_positions` must have shape \\[seq\\], to have keys in order, but got \\(4, 1\\)", lambda: pe.PaTH(2, 16, 8, key=KEY).products(Q, Q, P, P[:, None])),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.MusicTransformer(0, 8, 8, key=KEY)),
    case("`head_dim` must be at least 1 and finite, but got 0", lambda: pe.MusicTransformer(2, 0, 8, key=KEY)),
    case("`length` must be at least 1 and finite, but got 0", lambda: pe.MusicTransformer(2, 8, 0, key=KEY)),
    case("`std` must be positive and finite, but got 0", lambda: pe.MusicTransformer(2, 8, 8, std=0, key=KEY)),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.DeBERTa(0, 8, 8, key=KEY)),
    case("`head_dim` must be at least 1 and finite, but got 0", lambda: pe.DeBERTa(2, 0, 8, key=KEY)),
    case("`dim` must be at least 1 and finite, but got 0", lambda: pe.DeBERTa(2, 8, 0, key=KEY)),
    case("`reach` must be at least 1 and finite, but got 0", lambda: pe.DeBERTa(2, 8, 8, reach=0, key=KEY)),
    case("`eps` must be positive and finite, but got 0", lambda: pe.DeBERTa(2, 8, 8, eps=0, key=KEY)),
    case("`std` must be positive and finite, but got 0", lambda: pe.DeBERTa(2, 8, 8, std=0, key=KEY)),
    case("`buckets` must be at least 4 and finite, but got 2", lambda: pe.DeBERTa(2, 8, 8, buckets=2, key=KEY)),
    case("`buckets` must be even and positive, for each direction to have half, but got 7", lambda: pe.DeBERTa(2, 8, 8, buckets=7, key=KEY)),
    case("`reach` must be more than 5, for some of the 8 buckets.*got 5. Lower `buckets`", lambda: pe.DeBERTa(2, 8, 8, buckets=8, reach=5, key=KEY)),
    case("`shape` must have one positive size for each axis of the grid, but got \\(\\)", lambda: pe.Decomposed((), 8, key=KEY)),
    case("`shape` must have one positive size for each axis of the grid, but got \\(2, 0\\)", lambda: pe.Decomposed((2, 0), 8, key=KEY)),
    case("`head_dim` must be at least 1 and finite, but got 0", lambda: pe.Decomposed((2, 2), 0, key=KEY)),
    case("`std` must be at least 0 and finite, but got -1", lambda: pe.Decomposed((2, 2), 8, std=-1, key=KEY)),
    *(
        case(f"`{name}` must be at least 1 and finite, but got 0", lambda name=name: pe.Inkling(**{**dict(heads=2, dim=8), name: 0}, key=KEY))
        for name in ("heads", "dim", "rank", "reach")
    ),
    *(
        case(f"`{name}` must be positive and finite, but got 0", lambda name=name: pe.Inkling(2, 8, **{name: 0}, key=KEY))
        for name in ("clip", "floor", "std")
    ),
    case("`alpha` must be at least 0 and finite, but got -1", lambda: pe.Inkling(2, 8, alpha=-1, key=KEY)),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.WavLM(0, 8, key=KEY)),
    case("`head_dim` must be at least 1 and finite, but got 0", lambda: pe.WavLM(2, 0, key=KEY)),
    case("`std` must be positive and finite, but got 0", lambda: pe.WavLM(2, 8, std=0, key=KEY)),
    case("`num_buckets` must be even for bidirectional=True, but got 5", lambda: pe.WavLM(2, 8, num_buckets=5, key=KEY)),
    case("`state` must have one of r_net.weight, r, linear_pos.weight after `prefix` 'a', but got b", lambda: pe.TransformerXL.from_state_dict({"b": 1}, prefix="a")),
    case("`state` must have r_w_bias, but got r\\.", lambda: pe.TransformerXL.from_state_dict({"r": jnp.ones((4, 2, 2))})),
    case("`state` must have an array of shape \\(2, 2\\) for `v` of TransformerXL, but got \\(2, 3\\)", lambda: pe.TransformerXL.from_state_dict({"r": jnp.ones((4, 2, 2)), "r_w_bias": jnp.ones((2, 2)), "r_r_bias": jnp.ones((2, 3))})),
    case("`heads` must divide the 4 rows of a projection, but got 3", lambda: pe.TransformerXL.from_state_dict({"r_net.weight": jnp.ones((4, 4)), "r_w_bias": jnp.ones((3, 2)), "r_r_bias": jnp.ones((3, 2))})),
    case("`state` must have r_k_layer/w, but got nothing", lambda: pe.Enformer.from_state_dict({}, 8)),
    case("`state` must have distance_embedding.weight, but got nothing", lambda: pe.Shaw.from_state_dict({}, 8)),
    case("`ahead` must be at least 0 and finite, but got -6", lambda: pe.Shaw.from_state_dict({"distance_embedding.weight": jnp.ones((3, 4))}, 8)),
    case("`num_attention_heads` must be between 1 and 65536, but got 0", lambda: huggingface.deberta_from_state_dict({}, DEBERTA | {"num_attention_heads": 0}, 0)),
    case("`relative_attention` must be true, for a model to have positions in its scores, but got False", lambda: huggingface.deberta_from_state_dict({}, {"model_type": "deberta"}, 0)),
    case("`pos_att_type` must have both c2p and p2c, as .*, but got 'c2p'", lambda: huggingface.deberta_from_state_dict({}, DEBERTA | {"pos_att_type": "c2p"}, 0)),
    case("`model_type` must be one of those known, such as deberta, deberta-v2, but got 'debert'", lambda: huggingface.deberta_from_state_dict({}, DEBERTA | {"model_type": "debert"}, 0)),
    case("`state` must have encoder.rel_embeddings.weight, but got nothing", lambda: huggingface.deberta_from_state_dict({}, DEBERTA, 0)),
    case("`state` must have an array of shape \\(1024, 4\\) for `table` of DeBERTa, but got \\(512, 4\\)", lambda: huggingface.deberta_from_state_dict(DEBERTA_STATE, DEBERTA | {"position_biased_input": False}, 0)),
    case("`state` must have rel_pos_h, but got nothing", lambda: pe.Decomposed.from_state_dict({})),
]

SHAPES = [
    case("`q_positions` must be integers, to look distances up.*float32", lambda: pe.Enformer(2, 16, 6, 8, key=KEY)(Q, Q, jnp.ones(4), P)),
    case("`k_positions` must be integers, to look distances up.*float32", lambda: pe.Enformer(2, 16, 6, 8, key=KEY)(Q, Q, P, jnp.ones(4))),
    *(
        case("`k_positions` must be integers, to look distances up.*float32", lambda make=make, sizes=sizes: make(*sizes, key=KEY)(Q, Q, P, jnp.ones(4)))
        for make, sizes in ((pe.Shaw, (16,)), (pe.MusicTransformer, (2, 16, 8)), (pe.DeBERTa, (2, 16, 8)), (pe.Inkling, (2, 8)), (pe.WavLM, (2, 16)))
    ),
    case("`q_positions` must have shape \\[seq, axes\\] with 2 axes, but got shape \\(4,\\)", lambda: pe.Decomposed((2, 2), 16, key=KEY)(Q, Q, P, P)),
    case("`k_positions` must be integers, to look distances up.*float32", lambda: pe.Decomposed((2, 2), 16, key=KEY)(Q, Q, pe.positions.grid_positions((2, 2)), jnp.ones((4, 2)))),
    case("`q_state` must be the hidden states.*with dim=8, which this part reads, but got None", lambda: pe.Inkling(2, 8, key=KEY)(Q, Q, P, P)),
    case("`q_state` must be the hidden states.*with dim=32, which this part reads, but got an array of shape \\(4, 8\\)", lambda: pe.WavLM(2, 16, key=KEY)(Q, Q, P, P, q_state=jnp.ones((4, 8)))),
    case("`k_positions` must be integers, to look distances up.*float32", lambda: pe.functional.shaw_values(Q, Q[0], P, jnp.ones(4), back=0)),
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
