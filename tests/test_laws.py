"""What every variant must obey, whatever it is: registry × property × precision."""

import io
import itertools

import equinox as eqx
import hypothesis as hp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from tests.helpers import (
    assert_close,
    at,
    attend,
    build,
    DIM,
    full_pass,
    HEAD_DIM,
    HEADS,
    Layer,
    leaves,
    LENGTH,
    logits,
    NAMES,
    normal,
    past,
    ROWS,
    run,
    states,
    tokens,
)


# One variant, or more, of each kind of code: the quick subset tries the laws on these.
REPRESENTATIVES = {
    "learned",
    "yarn",
    "xpos",
    "mrope",
    "alibi",
    "t5",
    "beit",
    "transformer_xl",
}
few = hp.settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[hp.HealthCheck.function_scoped_fixture],
)


def rarely(name, *rest):
    """A case that is thorough, but for representatives."""
    marks = () if name in REPRESENTATIVES else pytest.mark.thorough
    return pytest.param(name, *rest, marks=marks)


def every(names):
    """All laws of a variant run together, as they share its programs."""
    rows = [rarely(name) for name in names]
    return pytest.mark.parametrize("name", rows, scope="module")


every_variant = every(NAMES)


def in_some_both_modes(test):
    """All in single precision, and every fourth in double: it is the same program."""
    rows = [rarely(name, False) for name in NAMES]
    rows += [pytest.param(n, True, marks=pytest.mark.thorough) for n in NAMES[::4]]
    return pytest.mark.parametrize("name, x64", rows, indirect=["x64"])(test)


def twelve(name):
    """A layer with that embedding, twelve tokens, and their positions."""
    return Layer(build(name)), tokens(12), at(name, np.arange(12))


def keys_and_queries():
    return normal((HEADS, 12, HEAD_DIM), seed=1), normal((HEADS, 12, HEAD_DIM), seed=2)


@every_variant
def test_jit_changes_nothing(name):
    layer, x, p = twelve(name)
    by_itself = lambda layer, x, p, **rules: layer(x, x, p, p, **rules)
    assert_close(full_pass(layer, x, p, how=by_itself), attend(layer, x, p))


# Without `jit` each operation is compiled by itself, which takes longest of all.
@pytest.mark.thorough
@pytest.mark.parametrize("x64", [True], ids=["x64"], indirect=True)
@pytest.mark.parametrize("name", sorted(REPRESENTATIVES))
def test_jit_changes_nothing_in_double_precision(name, x64):
    test_jit_changes_nothing(name)


# Runs of positions that start anywhere, and rows of which some are no runs.
BATCHES = (
    [np.arange(12) + start for start in (0, 7, 20)],
    [range(12), range(15, 3, -1), [3] * 12],
)


@every_variant
def test_a_mapped_batch_of_chunks_is_a_loop_of_full_passes(name):
    layer, *_ = twelve(name)
    x = np.stack([tokens(12, seed=seed) for seed in range(3)])
    # The cache has the keys of later chunks too, which the rule hides.
    one = lambda x, p, *keys: layer(x, keys[0], p, keys[1], **past(p, keys[1]))
    mapped = jax.jit(jax.vmap(one))
    for rows in BATCHES:
        p = np.stack([at(name, np.array(row)) for row in rows])
        full = np.stack([attend(layer, *each) for each in zip(x, p, strict=True)])
        for i in (0, 4, 8):
            chunk = mapped(x[:, i : i + 4], p[:, i : i + 4], x, p)
            assert_close(chunk, full[:, :, i : i + 4])


@every_variant
def test_new_positions_do_not_retrace(name):
    embedding = build(name)
    x, q = normal((5, DIM)), normal((HEADS, 5, HEAD_DIM))
    traces = []

    @jax.jit
    def call(x, q, p, length):
        traces.append(None)
        rules = past(p, p) | states(embedding, q, q)
        attended = embedding.attend(q, q, q, p, p, length=length, **rules)
        return embedding.embed(x, p), attended

    # As a call would, but without compiling what is traced.
    for start, length in (0, 8), (3, 16), (7, 32):
        positions = at(name, start + np.arange(5))
        outputs = jax.eval_shape(call, x, q, positions, jnp.asarray(length))
        assert [out.dtype for out in outputs] == ["float32"] * 2
    assert len(traces) == 1


@in_some_both_modes
def test_gradients_are_finite_and_reach_every_parameter(name, x64):
    _, gradients = full_pass(*twelve(name))
    layer_gradient, x_gradient = jax.tree.map(np.asarray, gradients)
    assert np.isfinite(x_gradient).all()
    assert x_gradient.any()
    for path, leaf in leaves(layer_gradient.embedding).items():
        assert np.isfinite(leaf).all()
        # The same for a whole row of logits, which the softmax does not see.
        assert leaf.any() or path == "bias.from_special"


@every_variant
def test_dtype_out_is_dtype_in(name, x64):
    embedding, p = build(name), at(name, np.arange(12))

    def outputs(x, q):
        state = states(embedding, q, q)
        return (
            embedding.embed(x, p),
            embedding.logits(q, q, p, p, **state),
            embedding.attend(q, q, q, p, p, **state),
        )

    # Outputs of other tests are asserted to be in float32.
    for name in ["float64"] if x64 else ["float16", "bfloat16"]:
        shapes = (12, DIM), (HEADS, 12, HEAD_DIM)
        inputs = [jax.ShapeDtypeStruct(shape, name) for shape in shapes]
        assert [out.dtype for out in jax.eval_shape(outputs, *inputs)] == [name] * 3


@every_variant
def test_low_precision_is_high_precision_rounded(name):
    embedding, p = build(name), at(name, np.arange(12))
    low = keys_and_queries()[0].astype(jnp.bfloat16)
    high = low.astype(jnp.float32)
    rounded = np.asarray(logits(embedding, low, low, p, p)).astype(np.float32)
    reference = np.asarray(logits(embedding, high, high, p, p))
    assert reference.dtype == np.float32
    # Rotated queries and keys are rounded to bfloat16, half an ulp (2⁻⁸) each: their
    # product, of at most |q| |k| ≤ 32 times YaRN's temperature, errs by two of them.
    # The logit is then rounded once more.
    product = 32 * (embedding.scale or 0.25) * 1.3
    bound = 2**-8 * (2 * product + np.abs(reference))
    assert (np.abs(rounded - reference) <= bound).all()
    if embedding.rotary is None or name == "nope":
        # Nothing but the logit is rounded, once: bit for bit, but where another order
        # of the sum tips the balance.
        once = reference.astype(jnp.bfloat16).astype(np.float32)
        assert np.mean(once == rounded) > 0.99


@every_variant
def test_serialization_gives_the_same_embedding_back(name):
    embedding = build(name)
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, embedding)
    file.seek(0)
    blank = lambda x: jnp.asarray(np.zeros_like(x)) if eqx.is_array(x) else x
    restored = eqx.tree_deserialise_leaves(file, jax.tree.map(blank, embedding))
    assert jax.tree.structure(embedding) == jax.tree.structure(restored)
    pairs = zip(jax.tree.leaves(embedding), jax.tree.leaves(restored), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


@in_some_both_modes
def test_decoding_token_by_token_is_the_full_pass(name, x64):
    layer, x, p = twelve(name)
    full = attend(layer, x, p)
    for i in range(12):
        # A cache of fixed size: what is not written yet lies in the future.
        now = p[i : i + 1]
        one = run(layer, x[i : i + 1], x, now, p, **past(now, p))
        assert_close(one, full[:, i : i + 1])


@every_variant
def test_a_ring_buffer_under_scan_is_a_window_of_the_full_pass(name):
    size = 4
    layer, x, p = twelve(name)
    time = jnp.arange(12)
    ago = np.arange(12)[:, None] - np.arange(12)
    full = attend(layer, x, p, mask=(ago >= 0) & (ago < size))

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
def test_packed_documents_are_separate_documents(name):
    layer, x, p = twelve(name)
    ids = np.repeat([4, 1, 2], 4)
    restarted = at(name, pe.positions.segment_positions(jnp.asarray(ids)))
    packed = attend(layer, x, restarted, ids=ids)
    # What follows the first document is in its future.
    alone = [attend(layer, jnp.roll(x, -i, axis=0), p)[:, :4] for i in (0, 4, 8)]
    assert_close(packed, np.concatenate(alone, axis=1))


@every_variant
def test_left_padding_changes_nothing(name):
    layer, x, p = twelve(name)
    for padding in range(12):
        real = np.arange(12) >= padding
        padded_p = at(name, pe.positions.left_padded_positions(jnp.asarray(real)))
        padded = attend(layer, x, padded_p, mask=real[None])
        # Without padding the same tokens come first, and what follows is not seen.
        alone = attend(layer, jnp.asarray(np.roll(x, -padding, axis=0)), p)
        assert_close(padded[:, padding:], alone[:, : 12 - padding])


@every_variant
@few
@hp.given(order=st.permutations(range(12)))
def test_order_is_in_the_positions_alone(name, order):
    layer, x, p = twelve(name)
    order = np.array(order)
    shuffled = attend(layer, x[order], p[order])
    assert_close(shuffled, attend(layer, x, p)[:, order])


# Any positions, in any order: a tile knows nothing of the others.
ANYWHERE = np.array([5, 0, 31, 7, 7, 2, 11, 30, 1, 4, 3, 19])


@in_some_both_modes
@few
@hp.given(
    rows=st.lists(st.integers(0, 11), min_size=12, max_size=12),
    columns=st.lists(st.integers(0, 11), min_size=12, max_size=12),
)
def test_a_tile_of_positions_gives_that_tile_of_logits(name, x64, rows, columns):
    embedding, (q, k), p = build(name), keys_and_queries(), at(name, ANYWHERE)
    rows, columns = np.array(rows), np.array(columns)
    if ROWS[name].has("between"):
        # A tile has all keys then, and any order but that of equal positions.
        columns = np.argsort(columns, kind="stable")
        p = at(name, np.where(np.arange(12) == 4, 8, ANYWHERE))
    whole = np.asarray(logits(embedding, q, k, p, p))[:, rows[:, None], columns[None]]
    tile = logits(embedding, q[:, rows], k[:, columns], p[rows], p[columns])
    assert_close(tile, whole, value=2.0)


@every([n for n in NAMES if not ROWS[n].has("between")])
def test_logits_are_defined_pair_by_pair(name):
    embedding, (q, k), p = build(name), keys_and_queries(), at(name, ANYWHERE)
    whole = np.asarray(logits(embedding, q, k, p, p))
    for i, j in itertools.product((0, 1, 2, 3), (5, 7, 8, 11)):
        one, other = slice(i, i + 1), slice(j, j + 1)
        pair = logits(embedding, q[:, one], k[:, other], p[one], p[other])
        assert_close(np.asarray(pair)[:, 0, 0], whole[:, i, j], value=2.0)


@every([n for n in NAMES if not ROWS[n].has("absolute")])
@few
@hp.given(shift=st.integers(-(2**20), 2**20))
def test_only_differences_of_positions_matter_if_it_says_so(name, shift):
    if name == "xpos":
        shift %= 2**13  # It is bound to its center by the range of float32.
    if ROWS[name].place == "rotary" and ROWS[name].is_trained():
        shift %= 2**6  # Learned frequencies are float32, and so are their angles.
    layer, x, p = twelve(name)
    shifted = jnp.asarray(np.asarray(p) + np.int32(shift))
    assert_close(attend(layer, x, shifted), attend(layer, x, p))


@every([n for n in NAMES if ROWS[n].has("absolute")])
def test_absolute_positions_matter_if_it_says_so(name):
    layer, x, p = twelve(name)
    moved = attend(layer, x, at(name, np.arange(3, 15))) - attend(layer, x, p)
    assert np.abs(moved).max() > 1e-3


def in_both_directions(layer, x, p):
    return attend(layer, x, p, causal=False)


@every([n for n in NAMES if n != "nope"])
def test_order_matters(name):
    layer, x, p = twelve(name)
    # Not a reversal, which biases that look both ways alike do not see.
    other = p[np.array([3, 0, 7, 1, 11, 2, 5, 4, 9, 6, 10, 8])]
    moved = in_both_directions(layer, x, other) - in_both_directions(layer, x, p)
    assert np.abs(moved).max() > 1e-3


def test_without_an_embedding_order_is_in_the_mask_alone():
    layer, x, p = twelve("nope")
    reversed_ = in_both_directions(layer, x, p[::-1])
    assert_close(reversed_, in_both_directions(layer, x, p))
    assert np.abs(attend(layer, x, p) - attend(layer, x, p[::-1])).max() > 1e-3


@every([n for n in NAMES if ROWS[n].has("bounded") and ROWS[n].place != "score"])
def test_positions_beyond_a_table_raise(name):
    embedding, row, q = build(name), ROWS[name], normal((HEADS, 1, HEAD_DIM))
    # Not the very first: for a special token there may be nothing to look up.
    first = at(name, np.array([row.prefix + 1]))

    @eqx.filter_jit
    def look_up(p):
        return embedding.embed(tokens(1), p), embedding.logits(q, q, first, p)

    end = LENGTH if row.axes == 1 else 36 + row.prefix
    # A bias looks up distances, for which a step back is none too far.
    for beyond in end, -1 if row.place == "encoding" else -end:
        with pytest.raises(Exception, match="positions` must be"):
            jax.block_until_ready(look_up(at(name, np.array([beyond]))))
    jax.block_until_ready(look_up(first))


SETTINGS = [
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
]


@pytest.mark.thorough
@pytest.mark.parametrize("name, one, other", SETTINGS)
def test_two_settings_in_one_process_and_in_one_jit_do_not_share(name, one, other):
    x, p = tokens(30), at(name, np.arange(30))
    layers = Layer(build(name, **one)), Layer(build(name, **other))
    apart = [np.asarray(run(layer, x, x, p, p)) for layer in layers]
    of_both = jax.jit(lambda x: [layer(x, x, p, p) for layer in layers])
    together = [np.asarray(out) for out in of_both(x)]
    for a, b in zip(apart, together, strict=True):
        assert_close(a, b)
    assert np.abs(together[0] - together[1]).max() > 1e-4
