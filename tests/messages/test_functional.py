"""What users of the pure functions read when a shape or number is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqx_posemb import functional


pytestmark = pytest.mark.usefixtures("as_users_have_it")
X = np.ones((2, 5, 4), np.float32)


def case(text, call):
    return pytest.param(text, call, id=text[:60])


# A table, a case a line.
# fmt: off
WRONG = [
    case("`x` must have an even last axis.*got shape .3,.", lambda: functional.rotate_every_two(jnp.ones(3))),
    case("a column for each pair.*got .5, 4. and .5, 4.", lambda: functional.apply_rotary_pos_emb(X, X[0], X[0])),
    case("`base` must not be 1.*got 1. It is 10,000", lambda: functional.find_correction_dim(8, 64, base=1)),
    case("`base` must be positive and finite, but got -1", lambda: functional.find_correction_dim(8, 64, base=-1)),
    case("`num_rotations` must be positive.*got 0", lambda: functional.find_correction_dim(0, 64)),
    case("`max_position_embeddings` must be positive.*got 0", lambda: functional.find_correction_dim(8, 64, 10_000, 0)),
    case("`x` must be integers or floats, but got bool", lambda: functional.embedding(X[0], jnp.array(True))),
]
# fmt: on


@pytest.mark.parametrize("text, call", WRONG)
def test_an_error_says_the_rule(text, call):
    # Traced, so that nothing is compiled before the error.
    with pytest.raises(ValueError, match=text):
        jax.eval_shape(call)
