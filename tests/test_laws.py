"""What every variant must obey, whatever it is: registry × property × precision."""

import io

import equinox as eqx
import hypothesis as hp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_posemb as pe
from tests.helpers import (
    assert_close,
    at,
    attend,
    build,
    HEADS,
    Layer,
    leaves,
    LENGTH,
    logits,
    NAMES,
    past,
    ROWS,
    run,
    states,
    tokens,
)


# For the laws to which precision matters most. All rows under all laws twice would be
# most of an hour.
both_modes = pytest.mark.usefixtures("x64")
every_variant = pytest.mark.parametrize("name", NAMES)
few = hp.settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[hp.HealthCheck.function_scoped_fixture],
)


@both_modes
@every_variant
def test_jit_changes_nothing(name):
    layer, x, p = Layer(build(name)), tokens(12), at(name, jnp.arange(12))
    eager = layer(x, x, p, p, **past(p, p))
    assert_close(eager, attend(layer, x, p))


@every_variant
def test_vmap_is_a_loop(name):
    layer = Layer(build(name))
    x = jnp.stack([tokens(6, seed=seed) for seed in range(3)])
    rows = [[0, 1, 2, 3, 4, 5], [9, 8, 7, 6, 5, 4], [3, 3, 3, 3, 3, 3]]
    p = jnp.stack([at(name, jnp.array(row)) for row in rows])
    mapped = jax.jit(jax.vmap(lambda x, p: layer(x, x, p, p, **past(p, p))))(x, p)
    for i in range(3):
        assert_close(mapped[i], attend(layer, x[i], p[i]))


@every_variant
def test_new_positions_do_not_retrace(name):
    embedding = build(name)
    x, q = jnp.ones((5, 64)), jnp.ones((HEADS, 5, 16))
    traces = []

    @jax.jit
    def call(x, q, p, length):
        traces.append(None)
        rules = past(p, p) | states(embedding, q, q)
        attended = embedding.attend(q, q, q, p, p, length=length, **rules)
        return embedding.embed(x, p), attended

    for start, length in (0, 8), (3, 16), (7, 32):
        call(x, q, at(name, start + jnp.arange(5)), jnp.asarray(length))
    assert len(traces) == 1


@both_modes
@every_variant
def test_gradients_are_finite_and_reach_every_parameter(name):
    layer, x, p = Layer(build(name)), tokens(12), at(name, jnp.arange(12))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(arguments):
        layer, x = arguments
        return jnp.sum(layer(x, x, p, p, **past(p, p)) ** 2)

    layer_gradient, x_gradient = gradient((layer, x))
    assert jnp.all(jnp.isfinite(x_gradient))
    assert jnp.any(x_gradient != 0)
    for path, leaf in leaves(layer_gradient.embedding).items():
        assert jnp.all(jnp.isfinite(leaf))
        # The same for a whole row of logits, which the softmax does not see.
        assert jnp.any(leaf != 0) or path == "bias.from_special"


@every_variant
def test_dtype_out_is_dtype_in(name, x64):
    embedding, p = build(name), at(name, jnp.arange(12))
    for dtype in ["float16", "bfloat16", "float32"] + ["float64"] * x64:
        dtype = jnp.dtype(dtype)
        x = jnp.zeros((12, 64), dtype)
        q = jnp.zeros((HEADS, 12, 16), dtype)
        assert jax.eval_shape(embedding.embed, x, p).dtype == dtype
        state = states(embedding, q, q)
        of_logits = jax.eval_shape(embedding.logits, q, q, p, p, **state)
        assert of_logits.dtype == dtype
        of_values = jax.eval_shape(embedding.attend, q, q, q, p, p, **state)
        assert of_values.dtype == dtype


@every_variant
def test_low_precision_is_high_precision_rounded(name):
    embedding, p = build(name), at(name, jnp.arange(12))
    low = jr.normal(jr.key(1), (HEADS, 12, 16), jnp.bfloat16)
    high = low.astype(jnp.float32)
    rounded = logits(embedding, low, low, p, p).astype(jnp.float32)
    reference = logits(embedding, high, high, p, p)
    # Rotated queries and keys are rounded to bfloat16, half an ulp (2⁻⁸) each: their
    # product, of at most |q| |k| ≤ 32 times YaRN's temperature, errs by two of them.
    # The logit is then rounded once more.
    product = 32 * (embedding.scale or 0.25) * 1.3
    bound = 2**-8 * (2 * product + jnp.abs(reference))
    assert jnp.all(jnp.abs(rounded - reference) <= bound)
    if embedding.rotary is None or name == "nope":
        # Nothing but the logit is rounded, once: bit for bit, but where another order
        # of the sum tips the balance.
        once = reference.astype(jnp.bfloat16).astype(jnp.float32)
        assert jnp.mean((once == rounded).astype(jnp.float32)) > 0.99


@every_variant
def test_serialisation_gives_the_same_embedding_back(name):
    embedding = build(name)
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, embedding)
    file.seek(0)
    blank = jax.tree.map(
        lambda leaf: leaf * 0 if eqx.is_inexact_array(leaf) else leaf, embedding
    )
    restored = eqx.tree_deserialise_leaves(file, blank)
    assert eqx.tree_equal(embedding, restored)


@both_modes
@every_variant
def test_decoding_token_by_token_is_the_full_pass(name):
    layer, x, p = Layer(build(name)), tokens(9), at(name, jnp.arange(9))
    full = attend(layer, x, p)
    for i in range(9):
        # A cache of fixed size: what is not written yet lies in the future.
        now = p[i : i + 1]
        one = run(layer, x[i : i + 1], x, now, p, **past(now, p))
        assert_close(one, full[:, i : i + 1])


@every_variant
def test_a_ring_buffer_under_scan_is_a_window_of_the_full_pass(name):
    size, layer, x, p = 4, Layer(build(name)), tokens(11), at(name, jnp.arange(11))
    time = jnp.arange(11)
    ago = time[:, None] - time[None]
    window = dict(mask=(ago >= 0) & (ago < size))
    full = run(layer, x, x, p, p, **window)

    @jax.jit
    def decode(x, p):
        def step(cache, token):
            # The oldest is overwritten: tokens lie in no order, and slots not written
            # yet have a time from before the first.
            held = jax.tree.map(lambda c, t: c.at[token[2] % size].set(t), cache, token)
            x, p, when = held
            seen = ((when >= 0) & (when <= token[2]))[None]
            out = layer(token[0][None], x, token[1][None], p, mask=seen)
            return held, out[:, 0]

        empty = jax.tree.map(lambda t: jnp.repeat(t[:1], size, axis=0), (x, p))
        _, out = jax.lax.scan(step, (*empty, jnp.full(size, -1)), (x, p, time))
        return jnp.moveaxis(out, 1, 0)

    assert_close(decode(x, p), full)


@every_variant
def test_prefill_in_chunks_is_the_full_pass(name):
    layer, x, p = Layer(build(name)), tokens(12), at(name, jnp.arange(12))
    full = attend(layer, x, p)
    first = attend(layer, x[:5], p[:5])
    second = run(layer, x[5:], x, p[5:], p, **past(p[5:], p))
    assert_close(jnp.concatenate([first, second], axis=1), full)


@every_variant
def test_packed_documents_are_separate_documents(name):
    layer, x = Layer(build(name)), tokens(12)
    ids = jnp.repeat(jnp.array([4, 1, 2]), 4)
    p = at(name, pe.segment_positions(ids))
    packed = attend(layer, x, p, q_segments=ids, k_segments=ids)
    alone = [attend(layer, x[i : i + 4], at(name, jnp.arange(4))) for i in (0, 4, 8)]
    assert_close(packed, jnp.concatenate(alone, axis=1))


@every_variant
@few
@hp.given(padding=st.integers(0, 11))
def test_left_padding_changes_nothing(name, padding):
    layer, x = Layer(build(name)), tokens(12)
    real = jnp.arange(12) >= padding
    p = at(name, pe.left_padded_positions(real))
    padded = attend(layer, x, p, mask=jnp.broadcast_to(real[None], (12, 12)))
    # Without padding the same tokens come first, and what follows them is not seen.
    alone = attend(layer, jnp.roll(x, -padding, axis=0), at(name, jnp.arange(12)))
    n = 12 - padding
    assert_close(padded[:, padding:], alone[:, :n])


@every_variant
@few
@hp.given(order=st.permutations(range(12)))
def test_order_is_in_the_positions_alone(name, order):
    layer, x, p = Layer(build(name)), tokens(12), at(name, jnp.arange(12))
    order = np.array(order)
    assert_close(attend(layer, x[order], p[order]), attend(layer, x, p)[:, order])


@both_modes
@every_variant
@few
@hp.given(
    rows=st.lists(st.integers(0, 11), min_size=5, max_size=5),
    columns=st.lists(st.integers(0, 11), min_size=7, max_size=7),
)
def test_a_tile_of_positions_gives_that_tile_of_logits(name, rows, columns):
    embedding = build(name)
    q, k = jr.normal(jr.key(1), (2, HEADS, 12, 16))
    # Any positions, in any order: a tile knows nothing of the others.
    p = at(name, jnp.array([5, 0, 31, 7, 7, 2, 11, 30, 1, 4, 3, 19]))
    rows, columns = np.array(rows), np.array(columns)
    whole = logits(embedding, q, k, p, p)[:, rows[:, None], columns[None]]
    tile = logits(embedding, q[:, rows], k[:, columns], p[rows], p[columns])
    assert_close(tile, whole, value=2.0)


@every_variant
def test_logits_are_defined_pair_by_pair(name):
    embedding = build(name)
    q, k = jr.normal(jr.key(1), (2, HEADS, 4, 16))
    p = at(name, jnp.array([5, 0, 31, 7]))
    k_positions = at(name, jnp.array([2, 30, 1, 9]))
    whole = logits(embedding, q, k, p, k_positions)
    for i in range(4):
        for j in range(4):
            pair = logits(
                embedding,
                q[:, i : i + 1],
                k[:, j : j + 1],
                p[i : i + 1],
                k_positions[j : j + 1],
            )
            assert_close(pair[:, 0, 0], whole[:, i, j], value=2.0)


@pytest.mark.parametrize("name", [n for n in NAMES if ROWS[n].relative])
@few
@hp.given(shift=st.integers(-(2**20), 2**20))
def test_only_differences_of_positions_matter_if_it_says_so(name, shift):
    if name == "xpos":
        shift %= 2**13  # It is bound to its centre by the range of float32.
    if ROWS[name].place == "rotary" and ROWS[name].parameters:
        shift %= 2**6  # Learned frequencies are float32, and so are their angles.
    layer, x, p = Layer(build(name)), tokens(12), at(name, jnp.arange(12))
    assert_close(attend(layer, x, p + shift), attend(layer, x, p))


@pytest.mark.parametrize("name", [n for n in NAMES if not ROWS[n].relative])
def test_absolute_positions_matter_if_it_says_so(name):
    layer, x, p = Layer(build(name)), tokens(12), at(name, jnp.arange(12))
    moved = attend(layer, x, at(name, jnp.arange(3, 15))) - attend(layer, x, p)
    assert jnp.max(jnp.abs(moved)) > 1e-3


@pytest.mark.parametrize("name", [n for n in NAMES if n != "nope"])
def test_order_matters(name):
    layer, x, p = Layer(build(name)), tokens(12), at(name, jnp.arange(12))
    # Not a reversal, which biases that look both ways alike do not see.
    other = p[np.array([3, 0, 7, 1, 11, 2, 5, 4, 9, 6, 10, 8])]
    moved = run(layer, x, x, other, other) - run(layer, x, x, p, p)
    assert jnp.max(jnp.abs(moved)) > 1e-3


def test_without_an_embedding_order_is_in_the_mask_alone():
    layer, x, p = Layer(build("nope")), tokens(12), jnp.arange(12)
    assert_close(run(layer, x, x, p[::-1], p[::-1]), run(layer, x, x, p, p))
    causal = attend(layer, x, p) - attend(layer, x, p[::-1])
    assert jnp.max(jnp.abs(causal)) > 1e-3


@pytest.mark.parametrize(
    "name", [n for n in NAMES if ROWS[n].bounded and ROWS[n].place != "score"]
)
def test_positions_beyond_a_table_raise(name):
    embedding, row, q = build(name), ROWS[name], jnp.ones((HEADS, 1, 16))
    # Not the very first: for a special token there may be nothing to look up.
    first = at(name, jnp.array([row.prefix + 1]))

    @eqx.filter_jit
    def look_up(p):
        return embedding.embed(tokens(1), p), embedding.logits(q, q, first, p)

    end = LENGTH if row.axes is None else 36 + row.prefix
    # A bias looks up distances, for which a step back is none too far.
    for beyond in end, -1 if row.place == "encoding" else -end:
        with pytest.raises(Exception, match="positions` must be"):
            jax.block_until_ready(look_up(at(name, jnp.array([beyond]))))
    jax.block_until_ready(look_up(first))


@pytest.mark.parametrize(
    "name, one, other",
    [
        ("sinusoidal", dict(theta=1e4), dict(theta=1e6)),
        ("rope", dict(theta=1e4), dict(theta=1e6)),
        ("proportional_rope", dict(fraction=0.25), dict(fraction=0.75)),
        ("xpos", dict(scale_base=512.0), dict(scale_base=64.0)),
        ("linear_rope", dict(factor=2.0), dict(factor=4.0)),
        ("ntk_rope", dict(factor=2.0), dict(factor=4.0)),
        ("dynamic_ntk_rope", dict(original_length=4), dict(original_length=8)),
        ("yarn", dict(factor=2.0), dict(factor=4.0)),
        ("llama3_rope", dict(factor=2.0), dict(factor=4.0)),
        ("longrope", dict(attention_factor=1.0), dict(attention_factor=2.0)),
        ("alibi", dict(form="symmetric"), dict(form="causal")),
        ("t5", dict(max_distance=20), dict(max_distance=128)),
        ("transformer_xl", dict(clamp=2), dict(clamp=None)),
        ("enformer", dict(symmetric=True), dict(symmetric=False)),
        ("shaw", dict(back=2, ahead=2), dict(back=2, ahead=16)),
        ("deberta", dict(reach=4), dict(reach=32)),
        ("deberta_v2", dict(reach=20), dict(reach=32)),
        ("inkling", dict(reach=4), dict(reach=32)),
        ("wavlm", dict(num_buckets=8, max_distance=9), dict(num_buckets=8)),
    ],
)
def test_two_settings_in_one_process_and_in_one_jit_do_not_share(name, one, other):
    x, p = tokens(30), at(name, jnp.arange(30))
    layers = Layer(build(name, **one)), Layer(build(name, **other))
    apart = [run(layer, x, x, p, p) for layer in layers]
    together = jax.jit(lambda x: [layer(x, x, p, p) for layer in layers])(x)
    for a, b in zip(apart, together, strict=True):
        assert_close(a, b)
    assert jnp.max(jnp.abs(together[0] - together[1])) > 1e-4
