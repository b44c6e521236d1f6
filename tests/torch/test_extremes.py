"""No tokens, and positions that are narrow, rounded, far away or without a row."""

import mpmath
import numpy as np
import pytest
import torch

import eqx_posemb as pe
from eqx_posemb.interop import torch as pt
from eqx_posemb.interop.torch import as_torch
from eqx_posemb.interop.torch._angles import rotate
from tests.helpers import at, build, DIM, HEAD_DIM, HEADS, NAMES
from tests.parity.references import made
from tests.torch.test_positional import built, MODULES


QUICK = ("learned", "rope", "mixed_rope", "rerope", "t5_grid")
P = torch.arange(5)
NARROW = (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.uint32)
ROUNDED = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("queries, keys", [(0, 0), (0, 3), (3, 0)])
@pytest.mark.parametrize("name", list(MODULES))
def test_no_tokens_have_no_logits_and_gradients_of_zero(name, queries, keys):
    module = built(name)
    q = torch.ones(2, 2, queries, 4, requires_grad=True)
    k = torch.ones(2, 2, keys, 4)
    out = module.forward_attn(q, k, torch.arange(queries), torch.arange(keys))
    assert out.shape == (2, 2, queries, keys)
    out.sum().backward()
    assert not q.grad.any()
    nobody = torch.zeros(0, 2, 3, 4)
    assert module.forward_attn(nobody, nobody).shape == (0, 2, 3, 3)
    x = torch.zeros(2, queries, DIM // 8)
    assert module.forward_input(x).shape == x.shape


@pytest.mark.parametrize("shape", [(2, 0, 8), (0, 3, 8), (0, 8)])
@pytest.mark.parametrize(
    "call",
    [
        lambda x: pt.XPOS(8)(x),
        lambda x: pt.XPOS()(x, downscale=True),
        lambda x: pt.XPOS(8).rotate_queries_and_keys(x, x)[1],
        lambda x: pt.YarnEmbedding(8)(x),
        lambda x: pt.YarnEmbedding(8, 4096, finetuned=True)(x),
        lambda x: pt.apply_rotary_pos_emb(
            x, *pt.fixed_pos_embedding(torch.zeros(x.shape[-2], 4))
        ),
        lambda x: as_torch(pe.rope(8, pairing="adjacent"))(P[: x.shape[-2]]).keys(x),
    ],
)
def test_no_tokens_stay_none(call, shape):
    x = torch.zeros(shape, requires_grad=True)
    for each in x, x.detach().bfloat16(), x.detach():
        assert call(each).shape == shape
    call(x).sum().backward()
    assert x.grad.shape == shape
    assert torch.vmap(call)(torch.zeros(3, *shape)).shape == (3, *shape)


def test_enformer_of_no_keys_needs_no_length():
    module = pt.EnformerPositionalEmbedding(num_heads=2, head_dim=4)
    q, k = torch.ones(1, 2, 3, 4), torch.ones(1, 2, 0, 4)
    assert module.forward_attn(q, k, P[:3], P[:0]).shape == (1, 2, 3, 0)


def test_a_rotation_of_no_channels_and_no_tokens():
    for layout in "halves", "adjacent":
        x, table = torch.ones(0, 6), torch.ones(0, 2)
        assert rotate(x, table, table, layout).shape == (0, 6)
        assert rotate(x[:, :0], table[:, :0], table[:, :0], layout).shape == (0, 0)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.thorough)
        for name in NAMES
    ],
)
def test_every_variant_has_shapes_of_no_tokens(name):
    module = build(name)
    there = as_torch(module).to("meta")
    p = torch.from_numpy(np.array(at(name, np.arange(3)))).to("meta")
    for queries, keys in (0, 3), (3, 0):
        q = torch.zeros(2, HEADS, queries, HEAD_DIM, device="meta")
        k = torch.zeros(2, HEADS, keys, HEAD_DIM, device="meta")
        hidden = dict(q_state=q, k_state=k)
        read = {key: hidden[key].transpose(1, 2).flatten(2) for key in module.reads}
        out = there(q, k, k, p[:queries], p[:keys], **read)
        assert out.shape == q.shape
    x = torch.zeros(2, 0, DIM, device="meta")
    assert there.embed(x, p[:0]).shape == x.shape


def test_a_query_of_no_keys_attends_to_zeros():
    q, nothing = torch.ones(HEADS, 3, HEAD_DIM), torch.ones(HEADS, 0, HEAD_DIM)
    for name in "rope", "mixed_rope", "rerope", "t5":
        p = torch.from_numpy(np.array(at(name, np.arange(3))))
        out = as_torch(build(name))(q, nothing, nothing, p, p[:0])
        assert out.shape == q.shape and not out.any()


# Out of order, so that distances have both signs, with ends that a byte would wrap at.
APART = torch.tensor([[7, 3, 0], [1, 14, 15]]), torch.tensor([[2, 0, 1], [9, 4, 15]])


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("name", list(MODULES))
def test_narrow_positions_are_those_of_int64(name, dtype):
    module, narrow = built(name), [p.to(dtype) for p in APART]
    q, k = torch.randn(2, 2, 2, 3, 4, generator=torch.manual_seed(0))
    same = lambda *pair: torch.testing.assert_close(*pair, atol=0, rtol=0)
    same(module.forward_attn(q, k, *narrow), module.forward_attn(q, k, *APART))
    in_a_row = [p.to(dtype) for p in (P[2:], P[:3])]
    wanted = module.forward_attn(q, k, P[2:], P[:3])
    same(module.forward_attn(q, k, *in_a_row), wanted)
    x = torch.zeros(2, 3, 8)
    same(module.forward_input(x, narrow[0]), module.forward_input(x, APART[0]))


def test_unified_has_its_last_row_in_a_byte():
    module = pt.TUPE(embed_dim=8, num_heads=2, max_length=256, has_cls_token=True)
    q, last = torch.ones(1, 2, 1, 4), torch.tensor([255])
    found = module.forward_attn(q, q, last.byte(), last.byte())
    torch.testing.assert_close(found, module.forward_attn(q, q, last, last))


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_narrow_positions_are_those_of_int64_in_every_part(dtype):
    p, q = torch.tensor([100, 3, 120, 0]), torch.ones(HEADS, 4, HEAD_DIM)
    narrow = p.to(dtype)
    for name in "rope", "xpos", "t5", "alibi_symmetric":
        there = as_torch(build(name))
        for rules in {}, dict(window=2), dict(causal=True):
            found = there(q, q, q, narrow, narrow, **rules)
            torch.testing.assert_close(found, there(q, q, q, p, p, **rules))


def test_unsigned_positions_beyond_int32_do_not_wrap():
    far = torch.tensor([3_000_000_000]).to(torch.uint32)
    with pytest.raises(ValueError, match=r"must fit into int32 .* of 3000000000"):
        as_torch(pe.ALiBi(2))(far, P)


def test_a_native_rotation_of_int64_beyond_int32_is_right():
    cos, sin = as_torch(pe.rope(8)).tables(torch.tensor([2**40, -(3 * 10**9)]))
    for row, position in enumerate((2**40, -(3 * 10**9))):
        with mpmath.workprec(200):
            angles = [position * mpmath.mpf(10) ** -i for i in range(4)]
            # Frequencies are rounded to 2⁻⁶⁵ of a turn: 2e-7 radians at 2⁴⁰.
            for table, of in (cos, mpmath.cos), (sin, mpmath.sin):
                wanted = [float(of(angle)) for angle in angles]
                np.testing.assert_allclose(table[row], wanted, atol=4e-7)


@pytest.mark.parametrize("dtype", [*ROUNDED, torch.bool, torch.complex64], ids=str)
@pytest.mark.usefixtures("as_users_have_it")
def test_positions_that_are_rounded_are_refused(dtype):
    p, q, x = P.to(dtype), torch.ones(1, 2, 5, 4), torch.ones(1, 5, 8)
    bundle = as_torch(pe.PositionalEmbedding(rotary=pe.rope(4)))
    rule = rf"(`positions`|`positions_q`|`q_positions`) must be integers.* got {dtype}"
    for call in (
        lambda: as_torch(pe.rope(4))(p),
        lambda: as_torch(pe.xpos(4))(p).queries(q),
        lambda: as_torch(pe.axial_rope(8))(p[:4].reshape(2, 2)),
        lambda: as_torch(pe.Sinusoidal(4))(p),
        lambda: as_torch(pe.ALiBi(2))(p, p),
        lambda: bundle(q, q, q, p, p, causal=True),
        lambda: bundle.logits(q, q, p, p),
        lambda: pt.RotaryEmbedding(8).cos_sin(p),
        lambda: pt.YarnEmbedding(4)(q, positions=p),
        *[lambda m=m: built(m).forward_attn(q, q, p, p) for m in MODULES],
        *[lambda m=m: built(m).forward_input(x, p) for m in ("sinusoidal", "learned")],
    ):
        with pytest.raises(ValueError, match=rule + r".* Use `torch.int32`"):
            call()


@pytest.mark.usefixtures("as_users_have_it")
def test_positions_between_integers_are_refused_where_there_are_tables():
    p, q = P.float(), torch.ones(1, 2, 5, 4)
    for name in "t5", "unified", "enformer":
        with pytest.raises(ValueError, match=r"`positions_q` must be integers, but"):
            built(name).forward_attn(q, q, p, p)
    with pytest.raises(ValueError, match=r"`positions` must be integers, but"):
        built("learned")(p)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floats_beyond_int32_are_nan_and_the_ends_are_not(dtype):
    far = torch.tensor([1e20, -1e20, 2.0**31, torch.inf, torch.nan], dtype=dtype)
    ends = [-(2.0**31), 2.0**31 - 128]
    cells = lambda positions: positions[:, None].expand(-1, 2)
    for rotary, spread in (pe.rope(8), lambda p: p), (pe.axial_rope(8), cells):
        there, positions = as_torch(rotary), torch.tensor(ends, dtype=dtype)
        assert all(table.isnan().all() for table in there.tables(spread(far)))
        found = there.tables(spread(positions))
        wanted = there.tables(spread(positions.long()))
        torch.testing.assert_close(found, wanted, atol=0, rtol=0)
    x = torch.zeros(1, 5, 8)
    added = built("sinusoidal").forward_input(x, far[None])
    assert added.isnan().all()


@pytest.mark.parametrize(
    "name, far, message",
    [
        ("unified", 16, r"`positions_q` must be between 0 and 15, .* but got 16"),
        ("unified", -1, r"`positions_q` must be between 0 and 15, .* but got -1"),
        ("enformer", 16, r"`positions_k` minus `positions_q` must be between -15 and"),
        ("enformer", -17, r"must be between -15 and 15, .* but got 17"),
    ],
)
def test_what_has_no_row_is_an_error(name, far, message):
    q, first = torch.ones(1, 2, 1, 4), torch.tensor([0])
    with pytest.raises(ValueError, match=message + ".* larger `max_length`"):
        built(name).forward_attn(q, q, first + far, first)
    # Without values there is nothing to say.
    call = built(name).to("meta").forward_attn
    assert call(*(x.to("meta") for x in (q, q, first + far, first))).is_meta


@pytest.mark.parametrize("position", [-1, 18])
def test_a_learned_position_without_a_row_is_an_error(position):
    rule = rf"`positions` must be between 0 and 17, .* got {position}\. Build the"
    with pytest.raises(ValueError, match=rule):
        built("learned").forward_input(torch.zeros(1, 1, 8), torch.tensor([position]))
    # One after that of padding has a row, and under `vmap` there is nothing to say.
    learned, last = built("learned"), torch.tensor([[0, 3], [17, 4]])
    torch.testing.assert_close(torch.vmap(learned)(last), learned(last))


def test_a_row_that_jax_has_not_is_an_error():
    with pytest.raises(Exception, match=r"`positions` must be between 0 and 3"):
        as_torch(made(pe.Learned, 4, 4))(P)
