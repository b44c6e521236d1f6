"""The laws of rotations, for every rotary row of the registry."""

import equinox as eqx
import hypothesis as hp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array, Float

import eqx_posemb as pe
from tests.helpers import at, build, HEAD_DIM, LENGTH, NAMES, normal, ROWS, shape_of


ROTARY = [n for n in NAMES if isinstance(shape_of(n).rotary, pe.Rotary)]
ISOMETRIC = [n for n in ROTARY if n != "xpos"]
every_rotary = pytest.mark.parametrize("name", ROTARY)
every_isometry = pytest.mark.parametrize("name", ISOMETRIC)
# Learned frequencies are float32, and so are their angles, near positions aside.
STATIC = [n for n in ISOMETRIC if not ROWS[n].is_trained()]
every_static = pytest.mark.parametrize("name", STATIC)
positions = st.lists(st.integers(-(2**30), 2**30), min_size=4, max_size=4)
few = hp.settings(max_examples=10, deadline=None)

# cos and sin are known to 1e-7 each, and a product of two rotations has four of them.
ANGLE = 4 * 1.1e-7


@eqx.filter_jit
def turn(rotary, x, p):
    if rotary.axes is not None and p.ndim == 1:
        p = jnp.stack([jnp.roll(p, i) for i in range(rotary.axes.coordinates)], axis=-1)
    rotation = rotary(p, length=LENGTH)
    if rotation.heads is None:
        return rotation.queries(x), rotation.keys(x)
    # Any head will do; the last is as good as the first.
    heads = jnp.tile(x, (rotation.heads, 1, 1))
    return rotation.queries(heads)[-1], rotation.keys(heads)[-1]


def vectors(seq: int = 4):
    return normal((seq, HEAD_DIM))


@every_rotary
def test_position_zero_is_the_scale_and_nothing_else(name):
    rotary, x = build(name).rotary, vectors()
    for turned in turn(rotary, x, jnp.zeros(4, jnp.int32)):
        assert np.array_equal(turned, np.asarray(x) * np.float32(rotary.scale))


@every_isometry
@few
@hp.given(p=positions)
def test_norms_are_kept_but_for_the_scale(name, p):
    rotary, x = build(name).rotary, vectors()
    norm = lambda y: np.linalg.norm(y, axis=-1) / np.linalg.norm(x, axis=-1)
    for turned in turn(rotary, x, jnp.array(p)):
        assert np.abs(norm(turned) / rotary.scale - 1).max() < ANGLE


@every_static
@few
@hp.given(p=positions, by=positions)
def test_rotations_add_up(name, p, by):
    rotary, x = build(name).rotary, vectors()
    p, by = np.array(p, np.int32), np.array(by, np.int32)
    twice, _ = turn(rotary, turn(rotary, x, jnp.asarray(p))[0], jnp.asarray(by))
    once, _ = turn(rotary, x, jnp.asarray(p + by))
    once, twice = np.asarray(once), np.asarray(twice)
    error = np.abs(twice - once * rotary.scale) / rotary.scale**2
    bound = ANGLE * np.linalg.norm(x, axis=-1, keepdims=True)
    assert (error <= bound).all()


@every_static
@few
@hp.given(p=st.integers(-(2**20), 2**20), distance=st.integers(-100, 100))
def test_products_depend_on_the_distance_alone(name, p, distance):
    rotary = build(name).rotary
    q, k = vectors(1), vectors(2)[1:]

    def product(a, b):
        of_q, _ = turn(rotary, q, jnp.array([a]))
        _, of_k = turn(rotary, k, jnp.array([b]))
        return np.asarray(of_q) @ np.asarray(of_k).T

    error = np.abs(product(p, p + distance) - product(0, distance)) / rotary.scale**2
    assert error < 2 * ANGLE * np.linalg.norm(q) * np.linalg.norm(k)


def test_xpos_fades_towards_the_past_as_the_paper_has_it():
    rotary = pe.xpos(HEAD_DIM, scale_base=64.0)
    rotation = rotary(jnp.arange(100))
    one = jnp.ones((100, HEAD_DIM))
    # Two channels of a pair at equal values: the product of lengths is the decay.
    length = lambda y: jnp.linalg.norm(y.reshape(100, 2, -1), axis=1)
    q, k = length(rotation.queries(one)), length(rotation.keys(one))
    zeta = (np.arange(0, HEAD_DIM, 2) + 0.4 * HEAD_DIM) / (1.4 * HEAD_DIM)
    expected = 2 * zeta ** (99 / 64.0)
    np.testing.assert_allclose(q[99] * k[0], expected, rtol=1e-5)


def test_the_centre_of_xpos_cancels():
    q, k, p = vectors(), vectors()[::-1], jnp.array([0, 3, 700, 20])
    logits = []
    for center in (0, 300):
        rotation = pe.xpos(HEAD_DIM, center=center)(p)
        logits.append(rotation.queries(q) @ rotation.keys(k).T)
    # Products reach e^(700 * 0.00245) = 5.6 times |q| |k|, and cancel back.
    assert jnp.max(jnp.abs(logits[0] - logits[1])) < 1e-4


# A mixed rotation and RoPE-ID have pairs in all channels.
SURPLUS = [name for name in ROTARY if name not in ("mixed_rope", "rope_id")]


@pytest.mark.parametrize("name", SURPLUS)
def test_surplus_channels_pass_bit_for_bit(name):
    half = dict(
        longrope=dict(short_factor=(1.0,) * 4, long_factor=(2.0,) * 4, rotary_dim=8),
        axial_rope=dict(widths=(4, 4)),
        dype_rope=dict(widths=(4, 4)),
        riflex_rope=dict(widths=(4, 2, 2), pair=0),
        mrope=dict(sizes=(2, 1, 1), rotary_dim=8),
    ).get(name, dict(rotary_dim=8))
    x, p = np.array(vectors()), jnp.array([3, 1000, 7, 2])
    x[0, 12], x[1, 12] = -0.0, np.inf
    given = [x, x.astype(jnp.bfloat16)]
    ways = [build(name, pairing=way, **half).rotary for way in ("halves", "adjacent")]
    of_all = eqx.filter_jit(
        lambda given: [[turn(w, x, p) for w in ways] for x in given]
    )
    bits = lambda y: np.ascontiguousarray(y[:, 8:]).view(np.int8)
    for x, found in zip(given, of_all(given), strict=True):
        for turned in map(np.asarray, jax.tree.leaves(found)):
            assert np.array_equal(bits(turned), bits(x))
            assert not np.array_equal(turned[:, :8], x[:, :8])


@every_rotary
def test_halves_and_adjacent_differ_by_a_permutation(name):
    x, p = vectors(), jnp.array([1, 5, 100, 31])
    order = np.arange(HEAD_DIM).reshape(-1, 2).T.reshape(-1)
    halves = turn(build(name, pairing="halves").rotary, x[:, order], p)
    adjacent = turn(build(name, pairing="adjacent").rotary, x, p)
    for a, b in zip(halves, adjacent, strict=True):
        # The same products and sums, though XLA may contract one of them.
        np.testing.assert_allclose(a, np.asarray(b)[:, order], atol=2e-6)


@pytest.mark.parametrize("rotary_dim", [HEAD_DIM, 8])
@pytest.mark.parametrize("name", ["halves", "adjacent"])
def test_fast_forms_are_the_general_form(name, rotary_dim):
    x, p = vectors(), jnp.array([1, 5, 100, 31])
    general = getattr(pe.rotations.Pairing, name)(HEAD_DIM, rotary_dim)
    fast = turn(pe.rope(HEAD_DIM, pairing=name, rotary_dim=rotary_dim), x, p)
    slow = turn(pe.rope(HEAD_DIM, pairing=general, rotary_dim=rotary_dim), x, p)
    for a, b in zip(fast, slow, strict=True):
        np.testing.assert_allclose(a, b, atol=5e-7)


@pytest.mark.parametrize(
    "pairing",
    [
        pe.rotations.Pairing.halves(HEAD_DIM, 8, start=8),
        pe.rotations.Pairing.adjacent(HEAD_DIM, 8, start=4),
        pe.rotations.Pairing.adjacent_to_halves(HEAD_DIM, 8, start=6),
        pe.rotations.Pairing.halves_per_block(HEAD_DIM, 2, 8),
    ],
)
def test_every_pairing_is_a_rotation_of_its_own_channels(pairing):
    p = jnp.array([0, 3, 77])
    rotary = pe.rope(HEAD_DIM, pairing=pairing, rotary_dim=8)
    matrices = jax.vmap(lambda e: turn(rotary, jnp.tile(e, (3, 1)), p)[0])(
        jnp.eye(HEAD_DIM)
    )
    for matrix in jnp.moveaxis(matrices, 1, 0):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(HEAD_DIM), atol=3e-7)
    moved = np.abs(np.asarray(matrices[:, 2]) - np.asarray(matrices[:, 0])).max(axis=1)
    assert (moved > 1e-3).sum() == 8


ROTATIONS = {
    "halves": pe.rope(HEAD_DIM),
    "adjacent": pe.rope(HEAD_DIM, pairing="adjacent"),
    "pairing": pe.rope(
        HEAD_DIM, pairing=pe.rotations.Pairing.adjacent_to_halves(HEAD_DIM)
    ),
    "xpos": pe.xpos(HEAD_DIM),
    "temperature": pe.rotations.Chain((pe.Temperature(0.1, 2), pe.rope(HEAD_DIM))),
    "lie": pe.LieRE(HEAD_DIM, count=1, key=jr.key(0)),
}


@pytest.mark.parametrize("name", ROTATIONS)
def test_heads_and_batches_are_axes_before_tokens(name):
    p = jnp.arange(6)[:, None] if name == "lie" else jnp.arange(6)
    # As many heads as tokens, for which no shape tells one axis from the other.
    x = normal((2, 6, 6, HEAD_DIM))

    def turned(p, x):
        rotation = ROTATIONS[name](p)
        for turn in rotation.queries, rotation.keys:
            after = jax.vmap(turn, in_axes=1, out_axes=1)(jnp.swapaxes(x[0], 0, 1))
            yield turn(x), turn(x[1]), turn(x[1, 4]), jnp.swapaxes(after, 0, 1)

    for native, batch, head, after in jax.jit(lambda *x: [*turned(*x)])(p, x):
        np.testing.assert_allclose(native[1], batch, atol=5e-7)
        np.testing.assert_allclose(native[1, 4], head, atol=5e-7)
        np.testing.assert_allclose(native[0], after, atol=5e-7)


def test_the_gradient_of_a_rotation_is_its_inverse():
    x, g = vectors(), vectors()[::-1]
    for pairing in (
        "halves",
        "adjacent",
        pe.rotations.Pairing.halves_per_block(HEAD_DIM, 2),
    ):
        rotation = pe.rope(HEAD_DIM, pairing=pairing)(jnp.array([3, 8, 5, 100]))
        back = pe.rope(HEAD_DIM, pairing=pairing)(-jnp.array([3, 8, 5, 100]))
        _, pullback = jax.vjp(rotation.queries, x)
        np.testing.assert_allclose(pullback(g)[0], back.queries(g), atol=1e-6)


@pytest.mark.parametrize("name", ["rope", "axial_rope", "mrope"])
def test_positions_known_at_compile_time_turn_as_any_others(name):
    """XLA folds what is constant by other code than it runs, and has erred there."""
    rotary, positions = build(name).rotary, at(name, jnp.arange(-3, 9))
    positions = positions.astype(jnp.int32)
    folded = jax.jit(lambda: rotary(positions).cos)()
    ran = jax.jit(lambda p: rotary(p).cos)(positions)
    np.testing.assert_allclose(folded, ran, atol=2e-7)


def test_tables_are_made_once_for_all_uses():
    rope = pe.rope(HEAD_DIM)

    def layers(q, p):
        rotation = rope(p)
        for _ in range(4):
            q = jnp.tanh(jax.vmap(rotation.queries)(q))
        return q

    q, p = jnp.ones((2, 64, HEAD_DIM)), jnp.arange(64)
    text = jax.jit(layers).lower(q, p).compile().as_text()
    # A coefficient of the sine: fused into each use, it would stand there four times.
    assert text.count("constant(-0.166666") == 1


def test_schedules_may_be_stacked_over_layers_and_stay_exact():
    thetas, p = (1e4, 1e6), jnp.array([3, 100_000])
    ropes = [
        pe.Rotary(pe.frequencies.Tabulated(pe.frequencies.Geometric(HEAD_DIM, t)))
        for t in thetas
    ]
    stacked = jax.tree.map(lambda *words: jnp.stack(words), *ropes)
    assert not jax.tree.leaves(eqx.filter(stacked, eqx.is_inexact_array))
    tables = jax.lax.map(lambda rope: rope(p).cos, stacked)
    for table, theta in zip(tables, thetas, strict=True):
        assert jnp.array_equal(table, pe.rope(HEAD_DIM, theta=theta)(p).cos)


def test_learned_frequencies_have_gradients():
    class Free(pe.frequencies.AbstractFrequencies):
        values: Float[Array, " half"]

        def turns(self):
            return self.values

        def __call__(self):
            return self.values

    x, p = vectors(), jnp.array([0, 2, 5, 9])
    start = jnp.asarray(pe.frequencies.Geometric(HEAD_DIM)(), jnp.float32)

    def loss(values):
        return jnp.sum(pe.Rotary(Free(values))(p).queries(x) ** 3)

    gradient = jax.grad(loss)(start)
    for i in range(HEAD_DIM // 2):
        step = jnp.zeros_like(start).at[i].set(1e-2)
        slope = (loss(start + step) - loss(start - step)) / 2e-2
        # The third derivative leaves h² times p³, a percent of the slope.
        assert abs(slope - gradient[i]) < 0.03 * abs(gradient).max()
