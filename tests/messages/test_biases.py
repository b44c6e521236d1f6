"""What users read when a setting or shape of a bias is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe


pytestmark = pytest.mark.usefixtures("as_users_have_it")
# As JAX has keys, and made without a program.
KEY = np.zeros(2, np.uint32)
P = np.arange(4, dtype=np.int32)


def case(text, call):
    return pytest.param(text, call, id=text[:60])


# Tables, a case a line.
# fmt: off
SETTINGS = [
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.ALiBi(0)),
    case("`form` must be one of 'causal', .*'one_sided', but got 'sides'", lambda: pe.ALiBi(3, form="sides")),
    case("`heads` must be even for `form='one_sided'`.*but got 3", lambda: pe.ALiBi(3, form="one_sided")),
    case("`heads` must be even for `form='one_sided'`.*but got 1", lambda: pe.ALiBi(4, form="one_sided", biased_heads=1)),
    case("`biased_heads` must be between 1 and 3, the number of heads, but got 4", lambda: pe.ALiBi(3, biased_heads=4)),
    case("`biased_heads` must be between 1 and 3, the number of heads, but got 0", lambda: pe.ALiBi(3, biased_heads=0)),
    case("`factor` must be positive and finite, but got 0", lambda: pe.ALiBi(3, factor=0)),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.LearnedALiBi(0)),
    case("`form` must be one of 'causal', .*but got 'both'", lambda: pe.LearnedALiBi(2, form="both")),
    case("`heads` must be even for `form='one_sided'`.*but got 3", lambda: pe.LearnedALiBi(3, form="one_sided")),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.FIRE(0, key=KEY)),
    case("`width` must be at least 1 and finite, but got 0", lambda: pe.FIRE(2, width=0, key=KEY)),
    case("`c` must be positive and finite, but got 0", lambda: pe.FIRE(2, c=0.0, key=KEY)),
    case("`threshold` must be positive and finite, but got -1", lambda: pe.FIRE(2, threshold=-1.0, key=KEY)),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.Sandwich(0)),
    case("`dim` must be even and positive, to have a cosine.*but got 7", lambda: pe.Sandwich(2, dim=7)),
    case("`theta` must be positive and finite, but got 0", lambda: pe.Sandwich(2, theta=0.0)),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.TISA(0, key=KEY)),
    case("`bumps` must be at least 1 and finite, but got 0", lambda: pe.TISA(2, bumps=0, key=KEY)),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.DynamicBias(0, 8, key=KEY)),
    case("`width` must be at least 1 and finite, but got 0", lambda: pe.DynamicBias(2, 0, key=KEY)),
    case("`depth` must be at least 1 and finite, but got 0", lambda: pe.DynamicBias(2, 8, depth=0, key=KEY)),
    case("`distances` must be one of 'linear', 'log', but got 'sqrt'", lambda: pe.DynamicBias(2, 8, distances="sqrt", key=KEY)),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.ClippedBias(0, key=KEY)),
    case("`max_distance` must be at least 1 and finite, but got 0", lambda: pe.ClippedBias(2, max_distance=0, key=KEY)),
    case("`std` must be positive and finite, but got 0", lambda: pe.ClippedBias(2, std=0, key=KEY)),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.Forgetting(0)),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.Wall(0, 8)),
    case("`head_dim` must be at least 1 and finite, but got 0", lambda: pe.Wall(2, 0)),
    case("`biases` must have at least one to add, but got none", lambda: pe.SumBias()),
    case("`biases` must have `low_rank`, to be channels.*got a FIRE. Use `attend`", lambda: pe.SumBias(pe.ALiBi(2), pe.FIRE(2, key=KEY)).low_rank(P, P)),
    case("`bias` must have `low_rank`, to be channels.*got a FIRE. Use `attend`", lambda: pe.ResetBias(pe.FIRE(2, key=KEY), 2).low_rank(P, P)),
    case("`form` must be 'causal' for `low_rank`.*but got 'symmetric'. Use `attend`", lambda: pe.ALiBi(2, form="symmetric").low_rank(P, P)),
    case("`form` must be 'causal' for `low_rank`.*but got 'one_sided'. Use `attend`", lambda: pe.LearnedALiBi(2, form="one_sided").low_rank(P, P)),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.ResetBias(pe.ALiBi(2), 0)),
    case("`special` must have at least one position, but got \\(\\)", lambda: pe.ResetBias(pe.ALiBi(2), 2, ())),
    case("`length` must be at least 1 and finite, but got 0", lambda: pe.TUPE(0, 8, 2, 4, key=KEY)),
    case("`head_dim` must be at least 1 and finite, but got 0", lambda: pe.TUPE(8, 8, 2, 0, key=KEY)),
    case("`std` must be positive and finite, but got 0", lambda: pe.tupe(8, 8, 2, 4, std=0, key=KEY)),
    case("`num_buckets` must be even", lambda: pe.tupe(8, 8, 2, 4, num_buckets=5, key=KEY)),
    case("`state` must have one of relative_attention_bias.weight.*after `prefix` 'a', but got b", lambda: pe.T5Bias.from_state_dict({"b": 1}, prefix="a")),
    case("`state` must have one of relative.*but got rel_embedding, relative_attention_bias", lambda: pe.T5Bias.from_state_dict({"rel_embedding": 1, "relative_attention_bias": 1})),
    case("`state` must have pos.weight, but got nothing", lambda: pe.TUPE.from_state_dict({}, 2)),
    case("`heads` must divide the 8 channels of `pos.weight`, but got 3", lambda: pe.TUPE.from_state_dict({"pos.weight": jnp.ones((4, 8))}, 3)),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.TUPE.from_state_dict({}, 0)),
    case("`dim` must be at least 1 and finite, but got 0", lambda: pe.ForgetGate(0, 2, key=KEY)),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.ForgetGate(8, 0, key=KEY)),
]

SHAPES = [
    case("`q_positions` and `k_positions` must be integers, to look.*float32", lambda: pe.ClippedBias(2, key=KEY)(jnp.ones(2), P)),
    case("`biases` must have the same number of heads, but got 2, 3", lambda: pe.SumBias(pe.ALiBi(2), pe.ALiBi(3))(P, P)),
    case("`bias` must be for `heads` = 2 heads, but got one for 3", lambda: pe.ResetBias(pe.ALiBi(3), 2)(P, P)),
    case("`q_positions` must be integers, to look rows up.*but got float32", lambda: pe.TUPE(8, 8, 2, 4, key=KEY)(jnp.ones(2), P)),
    case("`q_positions` must have shape \\[q, 2\\], a number for each gate, but got \\(4,\\). Make", lambda: pe.Forgetting(2)(P, P)),
    case("`q_positions` must have shape \\[q, 4\\].*with `heads=4`", lambda: pe.Forgetting(2, bidirectional=True)(jnp.ones((4, 2)), jnp.ones((4, 2)))),
    case("`bidirectional` must be False for channels", lambda: pe.Forgetting(2, bidirectional=True).low_rank(jnp.ones((4, 4)), jnp.ones((4, 4)))),
    case("`q` must have shape \\[heads, q, dim\\] with 3 heads and 8 channels, as this `Wall` has, but got \\(2, 4, 8\\)", lambda: pe.Wall(3, 8).products(jnp.ones((2, 4, 8)), jnp.ones((2, 4, 8)), P, P)),
    case("`k_positions` must have shape \\[k, 16\\], a number for each channel of each head, but got \\(4,\\).*with `heads=16`", lambda: pe.Wall(2, 8).products(jnp.ones((2, 4, 8)), jnp.ones((2, 4, 8)), jnp.ones((4, 16)), P)),
    case("`k_positions` must have shape \\[k, 2\\], a number for each gate, but got \\(4, 3\\)", lambda: pe.Forgetting(2)(jnp.ones((4, 2)), jnp.ones((4, 3)))),
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
