"""What goes wrong between JAX and PyTorch where nobody looks."""

import copy
import io
import pickle

import jax
import jax.random as jr
import numpy as np
import pytest
import torch

import eqx_posemb as pe
from eqx_posemb.interop.torch import as_torch, from_torch, to_torch
from eqx_posemb.interop.torch._operator import (
    device_of,
    jax_device,
    to_array,
    to_tensor,
)
from tests.helpers import at, build, HEAD_DIM, HEADS, NAMES
from tests.parity.references import made, run


POSITIONS = torch.arange(5)


@pytest.fixture
def bias():
    return made(pe.T5Bias, 2)


@pytest.fixture
def wide():
    """JAX in 64-bit mode."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def test_int64_becomes_int32_only_if_it_fits():
    assert to_array(torch.tensor([2**31 - 1, -(2**31)])).tolist() == [
        2**31 - 1,
        -(2**31),
    ]
    for beyond in 2**31, -(2**31) - 1:
        with pytest.raises(
            ValueError, match=r"must fit into int32 .* but got one of 2"
        ):
            to_array(torch.tensor([0, beyond]))
    with pytest.raises(ValueError, match=r"must fit into int32"):
        as_torch(pe.ALiBi(2))(torch.tensor([2**31]), POSITIONS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.uint64, torch.complex128])
def test_what_is_wide_is_refused_and_not_narrowed(dtype):
    with pytest.raises(ValueError, match=r"must have at most 32 bits .* but got torch"):
        to_array(torch.ones(2).to(dtype))


def test_parameters_in_float64_are_refused_and_not_narrowed(bias):
    made = as_torch(bias).double()
    with pytest.raises(ValueError, match=r"at most 32 bits .* but got torch.float64"):
        made(POSITIONS, POSITIONS)
    # What says the shape is no more tolerant than what runs.
    with pytest.raises(ValueError, match=r"at most 32 bits .* but got torch.float64"):
        made.to("meta")(POSITIONS.to("meta"), POSITIONS.to("meta"))


def test_in_64_bit_mode_all_is_kept(bias, wide):
    assert to_array(torch.tensor([2**40])).tolist() == [2**40]
    made = as_torch(bias).double()
    out = made(POSITIONS + 2**40, POSITIONS + 2**40)
    torch.testing.assert_close(out, made(POSITIONS, POSITIONS), rtol=0, atol=0)
    assert out.dtype == torch.float64
    out.sum().backward()
    assert made.weight.grad.dtype == torch.float64


@pytest.mark.parametrize(
    "x",
    [
        torch.arange(24.0).reshape(4, 6)[:, ::2],
        torch.arange(4.0).reshape(1, 4).expand(3, 4),
        torch.arange(12.0).reshape(3, 4).T,
        torch.arange(12.0)[1:],  # Not aligned as JAX wants it.
        torch.arange(3.0).requires_grad_(),
        torch._neg_view(torch.arange(3.0)),
        torch.zeros(0, 3),
        torch.tensor(3.0),
        torch.arange(3).bfloat16(),
        torch.tensor([True, False]),
    ],
    ids=["strided", "expanded", "transposed", "shifted", "requires_grad", "negated",
         "empty", "scalar", "bfloat16", "bool"],
)  # fmt: skip
def test_a_tensor_of_any_strides_is_what_it_is(x):
    array = to_array(x)
    assert array.shape == tuple(x.shape)
    assert array.tolist() == x.tolist()
    back = to_tensor(array, x)
    assert back.dtype == x.dtype and torch.equal(back, x.detach())


def test_a_sparse_tensor_is_refused():
    with pytest.raises(ValueError, match=r"must be dense, .* torch.sparse_coo"):
        to_array(torch.eye(2).to_sparse())


def test_memory_is_shared_where_it_is_compact():
    # Aligned to 64 bytes, as PyTorch allocates.
    x = torch.zeros(256)
    assert to_array(x).unsafe_buffer_pointer() == x.data_ptr()


def test_outputs_never_share_memory_with_inputs():
    made, q = as_torch(pe.NoPE(), rotation="jax"), torch.ones(2, 64, 64)
    out = made(torch.arange(64)).queries(q)
    out.zero_()
    assert (q == 1).all()
    array = to_array(q)
    assert to_tensor(array, q).data_ptr() != q.data_ptr()
    assert to_tensor(array).data_ptr() == q.data_ptr()


def test_writing_in_place_reaches_neither_side():
    learned = made(pe.Learned, 8, 64)
    before = np.array(learned.weight)
    other, state = as_torch(learned), to_torch(learned)
    with torch.no_grad():
        other.weight.zero_()
        state["weight"].zero_()
    np.testing.assert_array_equal(learned.weight, before)
    brought = from_torch(learned, other)
    with torch.no_grad():
        other.weight.fill_(7)
    assert (np.asarray(brought.weight) == 0).all()


def test_a_new_value_written_in_place_is_seen(bias):
    made = as_torch(bias)
    torch.optim.SGD(made.parameters(), lr=1.0)
    first = made(POSITIONS, POSITIONS)
    with torch.no_grad():
        made.weight.add_(1)
    torch.testing.assert_close(made(POSITIONS, POSITIONS), first + 1)


def test_what_the_backward_pass_needs_must_not_be_written_over(bias):
    made = as_torch(pe.PositionalEmbedding(bias=bias))
    q = torch.randn(2, 5, 8, requires_grad=True)
    x = q * 1
    out = made(x, x, x, POSITIONS, POSITIONS)
    x.zero_()
    with pytest.raises(RuntimeError, match=r"modified by an inplace operation"):
        out.sum().backward()


def test_tensors_of_two_devices_are_refused(bias):
    made = as_torch(bias)
    with pytest.raises(ValueError, match=r"on one device, but got cpu and meta"):
        device_of([made.weight, POSITIONS.to("meta")])
    with pytest.raises((ValueError, RuntimeError), match=r"device"):
        made(POSITIONS.to("meta"), POSITIONS)


def test_a_device_that_jax_has_not_is_refused():
    absent = [torch.device("mps"), torch.device("cpu", 10**6)]
    if not torch.cuda.is_available():
        absent.append(torch.device("cuda"))
    for device in absent:
        with pytest.raises(
            ValueError, match=r"JAX must have the device of the tensors"
        ):
            jax_device(device)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_for_storing_only(bias, dtype):
    made = as_torch(bias)
    rounded = from_torch(bias, {"weight": made.weight.detach().to(dtype)})
    made = made.to(dtype)
    out = made(POSITIONS, POSITIONS)
    assert out.dtype == torch.float32
    expected = run(rounded, POSITIONS, POSITIONS)
    assert out.tolist() == expected.tolist()
    out.sum().backward()
    assert made.weight.grad.dtype == dtype


def test_half_precision_does_not_reach_angles():
    q = torch.ones(3, 8)
    positions = torch.tensor([131_071, 10**6, 2**31 - 1])
    made = as_torch(pe.rope(8))
    before = made(positions).queries(q)
    torch.testing.assert_close(
        made.half()(positions).queries(q), before, rtol=0, atol=0
    )
    assert made(positions).queries(q.half()).dtype == torch.float16
    assert not made.state_dict()


def test_the_meta_device_has_shapes_and_comes_back(bias):
    module = pe.PositionalEmbedding(rotary=pe.rope(8), bias=bias)
    made = as_torch(module)
    q = torch.randn(2, 5, 8)
    expected, state = made(q, q, q, POSITIONS, POSITIONS), made.state_dict()
    state = {name: each.clone() for name, each in state.items()}
    made = made.to("meta")
    there = [x.to("meta") for x in (q, q, q, POSITIONS, POSITIONS)]
    out = made(*there)
    assert out.is_meta and out.shape == q.shape
    made = made.to_empty(device="cpu")
    made.load_state_dict(state)
    torch.testing.assert_close(made(q, q, q, POSITIONS, POSITIONS), expected)
    turned = made.rotary(POSITIONS).queries(q)
    torch.testing.assert_close(turned, as_torch(pe.rope(8))(POSITIONS).queries(q))


def test_it_may_be_made_under_the_meta_device_with_its_values(bias):
    with torch.device("meta"):
        made = as_torch(bias)
    assert made.weight.tolist() == bias.weight.tolist()


def saved(module):
    memory = io.BytesIO()
    torch.save(module, memory)
    memory.seek(0)
    return torch.load(memory, weights_only=False)


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module)), saved],
    ids=["deepcopy", "pickle", "save"],
)
def test_a_copy_has_values_and_memory_of_its_own(bias, copied):
    module = pe.PositionalEmbedding(rotary=pe.rope(8), bias=bias)
    made, q = as_torch(module), torch.randn(2, 5, 8)
    other = copied(made)
    inputs = (q, q, q, POSITIONS, POSITIONS)
    expected = made(*inputs)
    torch.testing.assert_close(other(*inputs), expected, rtol=0, atol=0)
    with torch.no_grad():
        made.bias.weight.mul_(100)
    torch.testing.assert_close(other(*inputs), expected, rtol=0, atol=0)


def test_a_state_dict_is_saved_and_loaded_strictly(bias):
    made, other = as_torch(bias), as_torch(pe.T5Bias(2, key=jr.key(1)))
    memory = io.BytesIO()
    torch.save(made.state_dict(), memory)
    memory.seek(0)
    other.load_state_dict(torch.load(memory, weights_only=True), strict=True)
    out = other(POSITIONS, POSITIONS)
    torch.testing.assert_close(out, made(POSITIONS, POSITIONS), rtol=0, atol=0)


@pytest.fixture
def pope():
    """With phases that are not zero, and queries to turn."""
    embedding = as_torch(build("pope"))
    torch.nn.init.normal_(embedding.rotary.phase)
    return embedding, torch.randn(HEADS, 5, HEAD_DIM)


def logits(embedding, q):
    return embedding.logits(q, q, POSITIONS, POSITIONS)


class Logits(torch.nn.Module):
    """An embedding within a model, called by another method than `forward`."""

    def __init__(self, embedding):
        super().__init__()
        self.inner = embedding

    def forward(self, q):
        return logits(self.inner, q)


def test_a_functional_call_has_the_tensors_that_it_is_given(pope):
    embedding, q = pope
    model = Logits(embedding)
    before, name = model(q), "inner.rotary.phase"
    changed = embedding.rotary.phase.detach() + 1
    out = torch.func.functional_call(model, {name: changed}, (q,))
    assert not torch.allclose(out, before)
    torch.testing.assert_close(model(q), before, atol=0, rtol=0)
    grad = torch.autograd.functional.jvp(
        lambda phase: torch.func.functional_call(model, {name: phase}, (q,)).sum(),
        changed,
        torch.ones_like(changed),
    )[1]
    with torch.no_grad():
        embedding.rotary.phase.copy_(changed)
    torch.testing.assert_close(model(q), out, atol=0, rtol=0)
    model(q).sum().backward()
    # A sum of as many products as there are phases.
    torch.testing.assert_close(
        grad, embedding.rotary.phase.grad.sum(), atol=1e-3, rtol=1e-4
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[] if name in ("t5", "mixed_rope") else pytest.mark.thorough
        )
        for name in NAMES
    ],
)
def test_every_trained_part_takes_what_stands_in_for_parameters(name):
    module = build(name)
    embedding = as_torch(module).to("meta")
    given = {key: each.detach() for key, each in embedding.named_parameters()}
    if not given:
        return
    p = torch.from_numpy(np.array(at(name, np.arange(3)))).to("meta")
    q = torch.zeros(HEADS, 3, HEAD_DIM, device="meta")
    states = {key: q.transpose(0, 1).flatten(1) for key in module.reads}
    out = torch.func.functional_call(embedding, given, (q, q, q, p, p), states)
    assert out.shape == q.shape


def test_a_batch_of_parameters_is_an_ensemble():
    models = [as_torch(pe.T5Bias(2, key=jr.key(i))) for i in range(3)]
    parameters, _ = torch.func.stack_module_state(models)
    inputs = POSITIONS, POSITIONS
    out = torch.vmap(lambda p: torch.func.functional_call(models[0], p, inputs))(
        parameters
    )
    for i, model in enumerate(models):
        torch.testing.assert_close(out[i], model(*inputs), atol=0, rtol=0)


def test_weights_may_be_normalized(pope):
    embedding, q = pope
    before = logits(embedding, q)
    torch.nn.utils.parametrizations.weight_norm(embedding.rotary, "phase")
    torch.testing.assert_close(logits(embedding, q), before, atol=1e-5, rtol=1e-5)
    for _ in range(2):
        logits(embedding, q).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in embedding.parameters())
    with torch.no_grad():
        embedding.rotary.parametrizations.phase.original0.mul_(2)
    assert not torch.allclose(logits(embedding, q), before)


def test_a_replica_has_tensors_for_parameters(pope):
    """As `DataParallel` makes them, which needs several devices."""
    embedding, q = pope
    rotary = embedding.rotary
    replica = rotary._replicate_for_data_parallel()
    replica.phase = rotary.phase * 1
    out = replica(POSITIONS).keys(q)
    torch.testing.assert_close(out, rotary(POSITIONS).keys(q), atol=0, rtol=0)
    out.sum().backward()
    assert rotary.phase.grad.abs().sum() > 0
