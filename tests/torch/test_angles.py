"""Exact angles and rotations in PyTorch's own arithmetic."""

import copy
import pickle

import mpmath
import pytest
import torch

import eqx_posemb as pe
from eqx_posemb.interop.torch._angles import Angles, rotate


DIM = 8
FAR = (0, 1, -1, 131_072, 10**6, 2**31 - 1, -(2**31))


@pytest.fixture
def angles():
    return Angles(pe.frequencies.Geometric(DIM).turns())


@pytest.mark.parametrize(
    # An angle of up to π is rounded once, to 1.2e-7, and its cosine to 6e-8. In float64
    # it is the frequency that is rounded: 2³¹ positions at 2⁻⁶⁵ of a turn.
    "dtype, bound",
    [(torch.float32, 1.8e-7), (torch.float64, 4e-10)],
)
@pytest.mark.parametrize("kind", [torch.int32, torch.int64, torch.float64])
def test_angles_are_right_at_every_int32_position(angles, dtype, bound, kind):
    mp = mpmath.mp.clone()
    mp.prec = 256
    found = angles(torch.tensor(FAR, dtype=kind), dtype)
    for cos_or_sin, table in zip((mp.cos, mp.sin), found, strict=True):
        assert table.dtype == dtype
        for position, row in zip(FAR, table.tolist(), strict=True):
            for pair, value in enumerate(row):
                frequency = mp.mpf(10_000) ** (-mp.mpf(2 * pair) / DIM)
                assert abs(cos_or_sin(position * frequency) - value) < bound


def test_float_positions_have_angles_in_between_and_a_derivative(angles):
    positions = torch.tensor([0.25, 100_000.5, -3.75], dtype=torch.float64)
    cos, sin = angles(positions, torch.float64)
    plain = positions[:, None] * torch.tensor(pe.frequencies.Geometric(DIM)())
    # Half an ulp of float64 at 100,000, from the plain product.
    torch.testing.assert_close(cos, plain.cos(), atol=1e-11, rtol=0)
    torch.testing.assert_close(sin, plain.sin(), atol=1e-11, rtol=0)
    positions.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: angles(p, torch.float64), (positions,))


def test_frequencies_of_more_than_a_turn_count_between_positions():
    fast = pe.frequencies.Scaled(pe.frequencies.Geometric(2), factor=100.0)
    cos, _ = Angles(fast.turns())(torch.tensor([0.375]), torch.float64)
    torch.testing.assert_close(
        cos[0, 0].item(), float(mpmath.cos(37.5)), atol=1e-14, rtol=0
    )


def test_terms_add_up():
    turns = pe.frequencies.Geometric(DIM).turns()
    both = pe.frequencies.Turns(
        *(word[None].repeat(2, axis=0) for word in _words(turns))
    )
    grid = torch.tensor([[[3] * 4, [4] * 4]])
    for kind in torch.int64, torch.float64:
        found = Angles(both)(grid.to(kind), torch.float64)
        wanted = Angles(turns)(torch.tensor([7]), torch.float64)
        torch.testing.assert_close(found, wanted, atol=1e-15, rtol=0)


def _words(turns):
    return turns.whole, turns.high, turns.low


def test_moving_and_copying_keeps_angles(angles):
    wanted = angles(torch.tensor(FAR))
    with torch.device("meta"):
        empty = Angles(pe.frequencies.Geometric(DIM).turns())
    assert empty.values.is_meta
    for moved in (
        copy.deepcopy(angles),
        pickle.loads(pickle.dumps(angles)),
        copy.deepcopy(angles).half().double().bfloat16(),
        empty.to_empty(device="cpu"),
    ):
        torch.testing.assert_close(moved(torch.tensor(FAR)), wanted, atol=0, rtol=0)
    assert angles.state_dict() == {}


# Derivatives are compared number by number, so there are few of them.
FEW = 4
ROWS = 2, 3


@pytest.fixture
def small():
    """The tables of three tokens, of two pairs."""
    return Angles(pe.frequencies.Geometric(FEW).turns())(
        torch.arange(ROWS[-1]), torch.float64
    )


def _definition(x, cos, sin, layout):
    """Pair by pair, from the paper."""
    out = x.clone()
    half = cos.shape[-1]
    for i in range(half):
        a, b = (i, i + half) if layout == "halves" else (2 * i, 2 * i + 1)
        out[..., a] = x[..., a] * cos[..., i] - x[..., b] * sin[..., i]
        out[..., b] = x[..., b] * cos[..., i] + x[..., a] * sin[..., i]
    return out


@pytest.mark.parametrize("dim", [DIM, DIM + 3])
@pytest.mark.parametrize("layout", ["halves", "adjacent"])
def test_rotations_have_the_values_of_the_definition(angles, layout, dim):
    x = torch.randn(2, 3, 5, dim, dtype=torch.float64)
    cos, sin = angles(torch.arange(5), torch.float64)
    found, wanted = rotate(x, cos, sin, layout), _definition(x, cos, sin, layout)
    torch.testing.assert_close(found, wanted, atol=1e-14, rtol=0)


# PyTorch's own, of its first forward-mode derivative.
@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")
@pytest.mark.parametrize("dim", [FEW, FEW + 1])
@pytest.mark.parametrize("layout", ["halves", "adjacent"])
def test_rotations_have_the_derivatives_of_the_definition(small, layout, dim):
    x = torch.randn(*ROWS, dim, dtype=torch.float64, requires_grad=True)
    turn = lambda x: rotate(x, *small, layout)
    assert torch.autograd.gradcheck(
        turn,
        (x,),
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
    )
    # In a random direction: the first derivative is of the same kind.
    assert torch.autograd.gradgradcheck(turn, (x,), fast_mode=True)


@pytest.mark.parametrize("layout", ["halves", "adjacent"])
def test_rotations_are_mapped_over_tokens_and_tables(angles, layout):
    x = torch.randn(2, 3, 5, DIM, dtype=torch.float64)
    tables = angles(torch.arange(10).reshape(2, 5), torch.float64)
    turn = lambda x, cos, sin: rotate(x, cos, sin, layout)
    wanted = torch.stack([turn(x[i], *(t[i] for t in tables)) for i in range(2)])
    torch.testing.assert_close(torch.vmap(turn)(x, *tables), wanted)
    first = [t[0] for t in tables]
    torch.testing.assert_close(
        torch.vmap(turn, in_dims=(1, None, None), out_dims=1)(x, *first),
        turn(x, *first),
    )
    torch.testing.assert_close(
        torch.vmap(turn, in_dims=(None, 0, 0))(x[1], *tables)[1], wanted[1]
    )


@pytest.mark.parametrize("layout", ["halves", "adjacent"])
def test_learned_tables_get_gradients(angles, layout):
    x = torch.randn(2, 5, DIM, dtype=torch.float64)
    tables = [t.requires_grad_() for t in angles(torch.arange(5), torch.float64)]
    turn = lambda cos, sin: rotate(x, cos, sin, layout)
    assert torch.autograd.gradcheck(turn, tables)


@pytest.mark.parametrize("layout", ["halves", "adjacent"])
def test_low_precision_is_rounded_once(angles, layout):
    x = torch.randn(5, DIM).bfloat16()
    cos, sin = angles(131_072 + torch.arange(5))
    wanted = rotate(x.float(), cos, sin, layout).bfloat16()
    found = rotate(x, cos, sin, layout)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, wanted)
