"""The pure functions under the seeds' names: values, and `jit`, `vmap` and `grad`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from eqx_posemb import functional
from tests.helpers import normal
from tests.parity.references import as_numpy, assert_close, golden, made


XPOS, SEEDS = golden("xpos"), golden("seeds")
TUPE = made(pe.TUPE, 8, 6, 2, 4)
TXL = made(pe.TransformerXL, 2, 4, 6, clamp=3)
ENFORMER = made(pe.Enformer, 2, 4, 12, 8)
T5 = made(pe.T5Bias, 2, num_buckets=8, max_distance=20, bidirectional=False)
P = jnp.asarray(np.arange(5))
X = normal((2, 5, 4))  # Two batch items, or two heads.
TABLE = normal((8, 4), seed=2)


def test_xpos_is_that_of_torchscale():
    for down in 0, 1:
        ours = functional.xpos(jnp.asarray(XPOS["x7"]), downscale=bool(down))
        assert_close(ours, XPOS[f"y_L7_o0_d{down}"], atol=5e-6)
    ours = functional.xpos(
        jnp.asarray(XPOS["x7"]), jnp.arange(5, 12), downscale=True, center=6
    )
    assert_close(ours, XPOS["y_L7_o5_d1"], atol=5e-6)


def test_the_parts_of_xpos_are_those_of_torchscale():
    sin, cos = functional.fixed_pos_embedding(jnp.zeros((32, 512)))
    # Theirs are of float32 angles, of up to 31.
    assert_close(sin[:, ::32], SEEDS["fpe_sin_32_512"], atol=5e-6)
    assert_close(cos[:, ::32], SEEDS["fpe_cos_32_512"], atol=5e-6)
    x = jnp.asarray(XPOS["x33"])
    scale = 2 + jnp.arange(33 * 8, dtype=jnp.float32).reshape(33, 8) / 100
    sin, cos = functional.fixed_pos_embedding(x[0, :, :8])
    twice = functional.duplicate_interleave
    for factor in 3.0, scale:
        wide = twice(jnp.broadcast_to(factor, cos.shape))[None]
        ours = functional.apply_rotary_pos_emb(x, sin, cos, factor)
        by_parts = x * twice(cos)[None]
        by_parts = by_parts + functional.rotate_every_two(x) * twice(sin)[None]
        assert_close(ours, by_parts * wide, rtol=1e-6, atol=1e-5)


ZETA_SETTINGS = {
    "d64": (10, 64, dict()),
    "d64x": (10, 64, dict(use_xpos=True)),
    "d64x11": (11, 64, dict(use_xpos=True)),
    "d64x1024": (10, 64, dict(use_xpos=True, scale_base=1024)),
    "interp4": (16, 64, dict(interpolation_factor=4.0)),
    "brf8": (16, 64, dict(base_rescale_factor=8.0)),
    "base5e5": (16, 128, dict(base=500_000)),
    "all": (
        9,
        32,
        dict(
            use_xpos=True,
            scale_base=100,
            interpolation_factor=2.0,
            base=20_000,
            base_rescale_factor=3.0,
        ),
    ),
}


@pytest.mark.parametrize("name", list(ZETA_SETTINGS))
def test_angles_are_those_of_zeta(name):
    length, dim, settings = ZETA_SETTINGS[name]
    angles, scale = functional.rotary_embedding(jnp.arange(length), dim, **settings)
    # Half an ulp of their frequency, and of the product, at angles of up to 15.
    assert_close(angles, SEEDS[f"zeta_{name}_freqs"], atol=5e-6)
    assert_close(jnp.asarray(scale), SEEDS[f"zeta_{name}_scale"], atol=2e-6)


def test_helpers_of_yarn_are_those_of_its_authors():
    settings = [(256, 10_000, 2048), (128, 500_000, 8192)]
    found = [
        [functional.find_correction_dim(turns, *each) for turns in (1, 8, 32)]
        for each in settings
    ]
    assert_close(np.array(found), SEEDS["yarn_fcd"], atol=1e-9)
    assert functional.find_correction_range(32, 1, 256) == (32, 81)
    assert functional.find_correction_range(1, 32, 128, 10_000, 4096) == (20, 46)
    # Pairs that there are, where the context is too short or too long for the turns.
    assert functional.find_correction_range(32, 1, 64, 10_000, 64) == (0, 9)
    assert functional.find_correction_range(32, 1, 4, 10, 10**6)[1] == 3
    scales = [functional.get_mscale(scale) for scale in (1, 2, 4, 16, 0.5)]
    assert_close(np.array(scales), SEEDS["yarn_mscale_1_2_4_16_.5"], atol=1e-12)
    for name in SEEDS:
        if name.startswith("yarn_ramp_"):
            least, most, dim = name.removeprefix("yarn_ramp_").split("_")
            ours = functional.linear_ramp_mask(float(least), float(most), int(dim))
            assert_close(ours, SEEDS[name], atol=1e-6)


@pytest.mark.parametrize("thetas", [(1e4, 5e5), (5e5, 1e4)])
def test_two_thetas_do_not_share_a_table(thetas):
    """Equinox has a cache that leaves `theta` out: here each is compared with one that
    it has not seen."""
    both = jax.jit(
        lambda x: [functional.rotary_positional_embedding(x, theta=t) for t in thetas]
    )
    x = normal((9, 8))
    for theta, ours in zip(thetas, both(x), strict=True):
        theirs = eqx.nn.RotaryPositionalEmbedding.precompute_freqs_cis(
            8, 9, theta, float
        )
        cos, sin = (jnp.concatenate([t, t], axis=1) for t in theirs)
        half = eqx.nn.RotaryPositionalEmbedding.rotate_half(x)
        assert_close(ours, x * cos + half * sin, atol=2e-6)


def test_a_decoded_token_has_its_position():
    x = normal((9, 8))
    whole = jax.jit(functional.rotary_positional_embedding)(x)
    last = jax.jit(functional.rotary_positional_embedding)(x[8:], jnp.array([8]))
    assert_close(last, whole[8:], atol=1e-6)


def test_embedding_looks_up_as_equinox_does_and_raises_where_it_clamps():
    theirs = eqx.nn.Embedding(weight=TABLE)
    for index in 0, 7, -1, -8:
        ours = functional.embedding(TABLE, jnp.array(index))
        assert (ours == theirs(jnp.array(index))).all()
    for index in 8, -9:
        with pytest.raises(Exception, match="`x` must be from -8 to 7"):
            eqx.filter_jit(functional.embedding)(TABLE, jnp.array([0, index]))


def test_functions_are_the_modules():
    for ours, wanted in jax.jit(functions_and_modules)(X, X[:, ::-1]):
        assert_close(ours, wanted)


def functions_and_modules(X, k):
    return [
        (functional.sinusoidal(P, 6), pe.Sinusoidal(6, layout="tensor2tensor")(P)),
        (functional.learned(TABLE, P), TABLE[:5]),
        (functional.learned(TABLE, P, padding_idx=2), TABLE[:5].at[2].set(0)),
        (
            # As far as the last bucket.
            functional.t5(T5.weight, 5 * P, P, max_distance=20, bidirectional=False),
            T5(5 * P, P),
        ),
        (
            functional.transformer_xl(X, k, TXL.u, TXL.v, TXL.weight, P, P, clamp=3),
            TXL(X, k, P, P),
        ),
        (_tupe(TUPE), TUPE(P, P)),
        (
            functional.enformer(
                X, k, ENFORMER.u, ENFORMER.v, ENFORMER.weight, P, P, length=8
            ),
            ENFORMER(X, k, P, P),
        ),
        (
            functional.yarn(X[0], factor=4.0, original_length=64),
            pe.yarn(4, factor=4.0, original_length=64)(P).queries(X[0]),
        ),
    ]


def _tupe(bias):
    return functional.tupe(
        bias.weight,
        bias.norm_weight,
        bias.norm_bias,
        bias.q_weight,
        bias.q_bias,
        bias.k_weight,
        bias.k_bias,
        P,
        P,
    )


DIFFERENTIABLE = {
    "xpos": functional.xpos,
    "rotate_every_two": functional.rotate_every_two,
    "duplicate_interleave": functional.duplicate_interleave,
    "apply_rotary_pos_emb": lambda x: functional.apply_rotary_pos_emb(
        x, *functional.fixed_pos_embedding(x[0, :, :2])
    ),
    "yarn": lambda x: functional.yarn(x[0], factor=2.0, original_length=8),
    "rotary": lambda x: functional.rotary_positional_embedding(x[0], P),
    "embedding": lambda x: functional.embedding(x[0], P),
    "learned": lambda x: functional.learned(x[0], P),
    "t5": lambda x: functional.t5(x[0, :4], P, P, max_distance=20),
    "transformer_xl": lambda x: functional.transformer_xl(
        x, x, TXL.u, TXL.v, TXL.weight, P, P
    ),
    "enformer": lambda x: functional.enformer(
        x, x, ENFORMER.u, ENFORMER.v, ENFORMER.weight, P, P, length=8
    ),
    "tupe": lambda x: _tupe(eqx.tree_at(lambda t: t.q_bias, TUPE, x[:, 0])),
}


@pytest.mark.parametrize("name", list(DIFFERENTIABLE))
def test_it_compiles_maps_and_differentiates(name):
    function = DIFFERENTIABLE[name]

    @jax.jit
    def of_both(x):
        out, pullback = jax.vjp(function, x)
        return out, jax.vmap(function)(jnp.stack([x, 2 * x])), *pullback(out)

    out, mapped, gradient = map(as_numpy, of_both(X))
    eager = function(X)
    ulps = 1e-6 * max(1, np.abs(eager).max())
    assert_close(out, eager, atol=ulps)
    assert_close(mapped[0], eager, atol=ulps)
    assert_close(mapped[1], of_both(2 * X)[0], atol=8 * ulps)
    # A finite difference in float32, along a direction that nothing is special about.
    step = 1e-2 * np.random.default_rng(4).normal(size=X.shape).astype(np.float32)
    ends = [as_numpy(of_both(X + sign * step)[0]) for sign in (1, -1)]
    moved = np.sum(out * (ends[0] - ends[1])) / 2
    np.testing.assert_allclose(np.sum(gradient * step), moved, atol=1e-4, rtol=1e-2)


def test_low_precision_is_kept_and_angles_are_not_in_it():
    x = jnp.ones((4, 8), jnp.bfloat16)
    sin, cos = functional.fixed_pos_embedding(x, 10_000 + jnp.arange(4))
    assert sin.dtype == cos.dtype == jnp.bfloat16
    wanted = np.sin(10_000 + np.arange(4.0))
    # Half an ulp of bfloat16 below one.
    assert np.abs(as_numpy(sin[:, 0].astype(jnp.float32)) - wanted).max() < 2**-8
