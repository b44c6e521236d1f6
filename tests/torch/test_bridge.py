"""Embeddings as modules of PyTorch: the same numbers, and the same gradients."""

import gc
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import torch

import eqx_posemb as pe
from eqx_posemb.interop.torch import as_torch, from_torch, to_torch
from eqx_posemb.interop.torch._operator import call, frame_of
from eqx_posemb.interop.torch._parts import rank_of_positions
from tests.helpers import (
    at,
    build,
    DIM,
    HEAD_DIM,
    HEADS,
    LENGTH,
    NAMES,
    normal,
    past,
    states,
)
from tests.parity.references import made as without_programs, run


ROOT = Path(__file__).parent.parent.parent
BATCH, SEQ = 2, 7
# One of each way that it takes: added to tokens, turned by PyTorch with its tables or
# with those of JAX, turned by JAX, by its products, by positions alone and by content.
ROWS = ("learned", "rope", "mixed_rope", "xpos", "rerope", "t5", "wavlm")
POSITIONS = torch.arange(SEQ)
# The call of a bias, as programs have it.
BIAS = repr(("__call__", {"q_positions": 0, "k_positions": 0}, {}))


@pytest.fixture
def wide():
    """JAX in 64-bit mode."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def tensor(array):
    return torch.from_numpy(np.array(array))


def close(ours, theirs, atol=2e-6):
    ours = ours.detach().numpy()
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=atol)


def heads(seed, count=HEADS):
    return normal((BATCH, count, SEQ, HEAD_DIM), seed=seed)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_have_the_paths_of_the_leaves_and_come_back(name):
    sizes = dict(heads=HEADS, head_dim=HEAD_DIM, dim=DIM, length=LENGTH)
    module = without_programs(pe.make, name, **sizes)
    made = as_torch(module)
    arrays = eqx.filter(module, eqx.is_inexact_array)
    paths = jax.tree_util.tree_leaves_with_path(arrays)
    dotted = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in paths
    }
    parameters = dict(made.named_parameters())
    assert parameters.keys() == dotted.keys() == to_torch(module).keys()
    assert made.state_dict().keys() == dotted.keys()
    for path, leaf in dotted.items():
        close(parameters[path], np.asarray(leaf), atol=0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2).add_(1)
    trained = eqx.filter(from_torch(module, made), eqx.is_inexact_array)
    expected = jax.tree.map(lambda x: 2 * np.asarray(x) + 1, arrays)
    assert jax.tree.structure(trained) == jax.tree.structure(arrays)
    for ours, theirs in zip(*map(jax.tree.leaves, (trained, expected)), strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ROWS)
def test_attention_and_its_gradients_are_those_of_jax(name):
    module = build(name)
    p = at(name, np.arange(SEQ))
    x, q, k, v = normal((BATCH, SEQ, DIM)), heads(1), heads(2, 2), heads(3, 2)
    some = run(jax.vmap(lambda q, k: states(module, q, k)), q, k)
    rules = past(p, p)

    def total(module, x, q, k, v, some):
        out = jax.vmap(
            lambda q, k, v, some: module.attend(q, k, v, p, p, **rules, **some)
        )(q, k, v, some)
        tokens = jax.vmap(lambda x: module.embed(x, p))(x)
        return (out**2).sum() + (tokens**2).sum(), (out, tokens)

    both = eqx.filter_value_and_grad(total, has_aux=True)
    (_, (out, tokens)), gradient = run(both, module, x, q, k, v, some)
    given = [tensor(each).requires_grad_() for each in (q, k, v)]
    arrays = {key: each for key, each in rules.items() if key == "mask"}
    told = rules | jax.tree.map(tensor, arrays) | jax.tree.map(tensor, some)
    for rotation in ("torch", "jax") if module.rotary else ("torch",):
        made = as_torch(module, rotation=rotation)
        embedded = made.embed(tensor(x), tensor(p))
        attended = made(*given, tensor(p), tensor(p), **told)
        close(embedded, tokens)
        close(attended, out)
        ((attended**2).sum() + (embedded**2).sum()).backward()
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
            path = jax.tree_util.keystr(path, simple=True, separator=".")
            # Sums over positions and heads, of products of size 10.
            close(made.get_parameter(path).grad, leaf, atol=1e-4)
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in given)


@pytest.mark.parametrize(
    "rotation, rules",
    [
        ("torch", dict(window=3)),
        ("torch", dict(causal=True, window=(2, 0))),
        ("torch", dict(mask="heads")),
        ("torch", dict(causal=True, q_segments="each", k_segments="each")),
        ("jax", dict(mask="heads", window=4, q_segments="each", k_segments="each")),
        ("torch", dict(causal=True, soft_cap=5.0)),
    ],
    ids=lambda case: case if isinstance(case, str) else "_".join(case),
)
def test_every_rule_is_that_of_jax_with_a_batch_and_without(rotation, rules):
    module, p = build("rope"), np.array([3, 1, 4, 0, 9, 2, 6])
    q, k, v = heads(1), heads(2, 2), heads(3, 2)
    # The first query sees no key, of which come zeros.
    mask = np.random.default_rng(4).random((BATCH, HEADS, SEQ, SEQ)) < 0.5
    mask[:, :, 0] = False
    segments = np.array([[0, 0, 1, 1, 1, 2, 2], [0] * 7])
    replace = dict(heads=mask, each=segments)
    fixed = {key: rule for key, rule in rules.items() if not isinstance(rule, str)}
    named = {key: replace[rule] for key, rule in rules.items() if key not in fixed}
    there = jnp.asarray(p)
    attend = lambda q, k, v, named: module.attend(
        q, k, v, there, there, **fixed, **named
    )
    expected = run(jax.vmap(attend), q, k, v, named)
    made = as_torch(module, rotation=rotation)
    given, named = map(tensor, (q, k, v)), jax.tree.map(tensor, named)
    given = list(given)
    close(made(*given, tensor(p), tensor(p), **fixed, **named), expected)
    alone = {key: rule[1] for key, rule in named.items()}
    out = made(*(each[1] for each in given), tensor(p), tensor(p), **fixed, **alone)
    close(out, expected[1])


def queries(rotary, positions, q):
    """Of each head, turned by JAX."""
    return jax.vmap(rotary(positions).queries)(q)


@pytest.mark.parametrize("rotation", ["torch", "jax"])
def test_positions_may_be_those_of_each_example(rotation):
    for module, positions in (
        (pe.rope(HEAD_DIM), torch.tensor([[0, 5, 2**31 - 1], [7, 1, -9]])),
        (pe.mrope(HEAD_DIM, sizes=(2, 3, 3)), torch.arange(18).reshape(2, 3, 3)),
        (pe.llama3_rope(HEAD_DIM, factor=8.0, original_length=4, pairing="adjacent"),
         torch.tensor([[0.5, 1.25, 9], [7, 1, 2]])),
    ):  # fmt: skip
        made = as_torch(module, rotation=rotation)
        q = torch.randn(2, 4, 3, HEAD_DIM, generator=torch.manual_seed(0))
        out = made(positions).queries(q)
        for i in range(2):
            kind = np.float32 if positions.is_floating_point() else np.int32
            expected = run(queries, module, positions[i].numpy().astype(kind), q[i])
            close(out[i], expected)
            close(made(positions[i]).keys(q[i]), expected)


def test_encodings_and_biases_take_batches_of_positions():
    learned, bias = build("learned").encoding, build("t5").bias
    grid = build("sinusoidal_grid").encoding
    p, second = torch.tensor([[0, 3, 1], [2, 2, 5]]), np.array([2, 2, 5])
    close(as_torch(learned)(p)[1], run(learned, second))
    many = as_torch(bias)(p, torch.arange(4))
    close(many[1], run(bias, second, np.arange(4)))
    cells = torch.arange(12).reshape(2, 3, 2)
    close(as_torch(grid)(cells)[1], run(grid, cells[1]))
    score = build("shaw").score
    q = torch.randn(2, HEADS, 3, HEAD_DIM, generator=torch.manual_seed(0))
    each = as_torch(score)(q, q, p, p)
    close(each[1], run(score, q[1], q[1], second, second))
    extension = as_torch(build("rerope").rotary)
    assert extension.products(q, q, p, p).shape == (2, HEADS, 3, 3)


def test_the_length_of_a_schedule_may_be_given():
    module = build("dynamic_ntk_rope").rotary
    made, q = as_torch(module), torch.ones(SEQ, HEAD_DIM)
    turn = lambda rotary, p, q: rotary(p, length=100).queries(q)
    expected = run(turn, module, POSITIONS, q)
    for length in 100, torch.tensor(100):
        close(made(POSITIONS, length=length).queries(q), expected)
    short = made(POSITIONS).queries(q)
    assert not torch.allclose(short, made(POSITIONS, length=100).queries(q))
    jaxed = as_torch(module, rotation="jax")(POSITIONS, length=100)
    close(jaxed.queries(q), expected)


@pytest.mark.parametrize("name", ["kerple", "shaw", "pope"])
def test_derivatives_of_first_and_second_order_are_right(name, wide):
    made = as_torch(build(name)).double()
    q = torch.randn(
        (HEADS, 3, HEAD_DIM), dtype=torch.float64, generator=torch.manual_seed(0)
    ).requires_grad_()
    k, names = q.detach().clone(), [each for each, _ in made.named_parameters()]

    def attended(q, *parameters):
        given = dict(zip(names, parameters, strict=True))
        inputs = (q, k, k, POSITIONS[:3], POSITIONS[:3])
        return torch.func.functional_call(made, given, inputs)

    inputs = (q, *made.parameters())
    assert torch.autograd.gradcheck(attended, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(attended, inputs, fast_mode=True)


def test_the_gradient_of_a_native_rotation_is_right_in_float64():
    rotation = as_torch(pe.rope(4))(POSITIONS)
    q = torch.randn(SEQ, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rotation.queries, q)
    assert torch.autograd.gradgradcheck(rotation.queries, q)


def test_the_second_derivative_of_native_attention_is_there_or_says_that_it_is_not():
    made, q = as_torch(build("rope")), tensor(heads(1)).requires_grad_()
    attend = lambda **how: made(q, q, q, POSITIONS, POSITIONS, **how).square().sum()
    (first,) = torch.autograd.grad(attend(), q, create_graph=True)
    with pytest.raises(RuntimeError, match=r"derivative for .* is not implemented"):
        first.sum().backward()
    (first,) = torch.autograd.grad(attend(implementation="dense"), q, create_graph=True)
    first.sum().backward()
    assert q.grad.abs().sum() > 0


def test_the_operator_is_what_pytorch_wants_of_one():
    bias = build("t5").bias
    frame = frame_of(bias)
    program = f"{frame.digest}|{BIAS}"
    weight = tensor(bias.weight).requires_grad_()
    torch.library.opcheck(call, (program, [weight, POSITIONS, POSITIONS]))
    back = f"{program}|vjp:100"
    cotangent = torch.ones(HEADS, SEQ, SEQ)
    torch.library.opcheck(call, (back, [weight, POSITIONS, POSITIONS, cotangent]))


def test_everything_compiles_into_one_graph():
    """And so does what is written in PyTorch. In a process of its own, without the
    checks of types that tests have, which the compiler cannot see through."""
    command = [sys.executable, "-W", "error", "-m", "tests.torch.bridge_in_one_graph"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_it_can_be_mapped_over():
    bias = build("t5").bias
    many = torch.arange(6).reshape(3, 2)
    mapped = torch.vmap(as_torch(bias), in_dims=(1, None))(many, POSITIONS)
    close(mapped[1], run(bias, np.array([1, 3, 5]), POSITIONS))


def test_positions_of_any_number_of_coordinates_have_batches():
    """A coordinate for each of many heads, which are no batch."""
    bias, p = pe.Forgetting(9), normal((BATCH, SEQ, 9))
    wanted = run(jax.vmap(bias), p, p)
    close(as_torch(bias)(tensor(p), tensor(p)), wanted)
    close(as_torch(bias)(tensor(p[0]), tensor(p[0])), wanted[0])


def test_keys_have_an_order_of_their_own_in_each_example():
    made = as_torch(pe.PositionalEmbedding(rotary=pe.axial_rope(HEAD_DIM)))
    q, k = tensor(heads(1))[:, :, :3], tensor(heads(2))
    cells = torch.arange(2 * SEQ).reshape(SEQ, 2)
    order = POSITIONS.expand(BATCH, SEQ)
    rules = dict(causal=True, q_order=order[:, -3:], k_order=order)
    out = made(q, k, k, cells[-3:], cells, **rules)
    rules = dict(causal=True, q_order=POSITIONS[-3:], k_order=POSITIONS)
    alone = made(q[1], k[1], k[1], cells[-3:], cells, **rules)
    torch.testing.assert_close(out[1], alone)


def test_a_part_that_is_broken_is_not_taken_for_one_of_coordinates():
    with pytest.raises(NotImplementedError, match="not written yet"):
        rank_of_positions(_unwritten, 1)


def _unwritten(positions):
    raise NotImplementedError("not written yet")


def test_equal_modules_share_what_is_compiled_and_others_do_not():
    first, second = as_torch(pe.ALiBi(4)), as_torch(pe.ALiBi(4))
    assert first._frame is second._frame
    steep = as_torch(pe.ALiBi(4, factor=2.0))
    p = POSITIONS
    torch.testing.assert_close(steep(p, p), 2 * first(p, p))


def test_a_program_whose_module_is_gone_says_so():
    made = as_torch(pe.ALiBi(3))
    program = f"{made._frame.digest}|{BIAS}"
    del made
    gc.collect()
    with pytest.raises(
        ValueError, match=r"`program` must be of a module that is there"
    ):
        call(program, [POSITIONS, POSITIONS])


def test_what_is_no_embedding_is_refused(as_users_have_it):
    with pytest.raises(ValueError, match=r"`module` must be .* but got Geometric"):
        as_torch(pe.frequencies.Geometric(4))
    with pytest.raises(ValueError, match=r"`rotation` must be one of 'torch', 'jax'"):
        as_torch(pe.rope(4), rotation="numpy")


@pytest.mark.parametrize(
    "state, message",
    [
        ({}, "`state` must have the names weight, but got none"),
        (dict(other=torch.ones(2)), "must have the names weight, but got other"),
        (dict(weight=torch.ones(2)), r"`weight` must have shape \(8, 4\), but got"),
        (dict(weight=torch.ones(8, 4, device="meta")), "`weight` must have values"),
        (
            dict(weight=torch.ones(8, 4).double()),
            "`weight` must fit into float32, but got torch.float64. Round it with "
            r"`.to\(torch.float32\)`",
        ),
    ],
)
def test_a_state_that_does_not_fit_is_refused(state, message, as_users_have_it):
    learned = pe.Learned(8, 4, key=jr.key(0))
    with pytest.raises(ValueError, match=message):
        from_torch(learned, state)


@pytest.mark.parametrize("other", [jnp.ones((4, SEQ, 8)), np.ones((4, SEQ, 8)), [1]])
def test_arrays_that_are_no_tensors_are_refused(other, as_users_have_it):
    rope, t5 = as_torch(pe.rope(8)), as_torch(pe.T5Bias(4, key=jr.key(0)))
    whole = as_torch(pe.PositionalEmbedding(bias=pe.ALiBi(4)))
    rotated = as_torch(pe.PositionalEmbedding(rotary=pe.rope(8)))
    q = torch.ones(4, SEQ, 8)
    for name, called in (
        ("positions", lambda: rope(other)),
        ("q", lambda: rope(POSITIONS).queries(other)),
        ("k_positions", lambda: t5(POSITIONS, other)),
        ("q", lambda: whole.attend(other, q, q, POSITIONS, POSITIONS)),
        ("v", lambda: rotated.attend(q, q, other, POSITIONS, POSITIONS)),
        ("k", lambda: whole.logits(q, other, POSITIONS, POSITIONS)),
        ("q_positions", lambda: whole.attend(q, q, q, other, POSITIONS)),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be a tensor of PyTorch"):
            called()
    with pytest.raises(ValueError, match="with q_positions, k_positions, but got 3"):
        t5(POSITIONS, POSITIONS, POSITIONS)


def test_shapes_that_do_not_fit_are_refused():
    rope, q = as_torch(pe.rope(8)), torch.ones(4, SEQ, 8)
    with pytest.raises(ValueError, match=r"`q` must be .* with seq=7 and dim=8"):
        rope(POSITIONS).queries(q[..., :6])
    with pytest.raises(
        ValueError, match=r"`k` must be .* with seq=7 .* got torch.int64"
    ):
        rope(POSITIONS).keys(q.long())
    with pytest.raises(ValueError, match=r"`positions` must be .* \[\*batch, seq, 2\]"):
        as_torch(pe.axial_rope(8))(POSITIONS)
    made = as_torch(pe.PositionalEmbedding(rotary=pe.rope(8)))
    for settings, message in (
        (dict(q_segments=POSITIONS), "`q_segments` and `k_segments` go together"),
        (dict(mask=torch.ones(SEQ, SEQ)), "`mask` must be boolean"),
        (dict(window=0), "`window` must be a positive number of positions"),
    ):
        with pytest.raises(ValueError, match=message):
            made(q, q, q, POSITIONS, POSITIONS, **settings)
    grid = as_torch(pe.PositionalEmbedding(rotary=pe.axial_rope(8)))
    cells = torch.zeros(SEQ, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"`causal` and `window` compare positions"):
        grid(q, q, q, cells, cells, causal=True)
