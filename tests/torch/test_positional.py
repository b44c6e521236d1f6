"""The six modules with `forward_input` and `forward_attn`, against arrays made by the
authors' code of each method, and against our own modules at any positions."""

import copy
import pickle

import jax
import numpy as np
import pytest
import torch

import eqx_posemb as pe
import eqx_posemb.interop.torch as shim
from eqx_posemb.interop.torch import (
    EnformerPositionalEmbedding,
    LearnedPositionalEmbedding,
    SinusoidalPositionalEmbedding,
    T5PositionalEmbedding,
    TransformerXLPositionalEmbedding,
    TUPE,
)
from eqx_posemb.interop.torch._relative import Buckets
from tests.parity.references import (
    as_numpy,
    as_torch,
    assert_close,
    golden,
    made,
    replaced,
    run,
)


HEADS, HEAD_DIM, DIM = 2, 4, 8
MODULES = {
    "sinusoidal": lambda: SinusoidalPositionalEmbedding(embed_dim=DIM, padding_idx=1),
    "learned": lambda: LearnedPositionalEmbedding(
        max_length=16, embed_dim=DIM, padding_idx=1
    ),
    "transformer_xl": lambda: TransformerXLPositionalEmbedding(
        embed_dim=6, num_heads=HEADS, head_dim=HEAD_DIM, clamp_len=3
    ),
    "t5": lambda: T5PositionalEmbedding(num_heads=HEADS, num_buckets=8, max_distance=9),
    "unified": lambda: TUPE(
        embed_dim=DIM,
        num_heads=HEADS,
        max_length=16,
        has_cls_token=True,
        num_buckets=8,
        max_distance=9,
    ),
    "enformer": lambda: EnformerPositionalEmbedding(
        num_heads=HEADS, head_dim=HEAD_DIM, max_length=16, num_features=12
    ),
}
# Two examples at positions of their own, out of order and not in a row.
AT_Q = torch.tensor([[0, 5, 2], [9, 1, 3]])
AT_K = torch.tensor([[4, 0, 2, 11], [9, 8, 0, 2]])


def queries_and_keys(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    draw = lambda n: torch.randn(
        2, HEADS, n, HEAD_DIM, generator=generator, dtype=dtype
    )
    return draw(3), draw(4)


def built(name):
    torch.manual_seed(0)
    module = MODULES[name]()
    for parameter in module.parameters():
        # Of size one: what is small may be wrong in silence.
        torch.nn.init.normal_(parameter)
    return module


def ours(name, module):
    """The embedding of the library with the same parameters."""
    state = {key: as_numpy(p) for key, p in module.named_parameters()}
    if name == "transformer_xl":
        weight = state["r_net.weight"].reshape(HEADS, HEAD_DIM, 6)
        u, v = (state[f"r_{x}_bias"][0, :, 0] for x in "wr")
        score = made(pe.TransformerXL, HEADS, HEAD_DIM, 6, clamp=3)
        score = replaced(score, u=u, v=v, weight=weight)
        return pe.PositionalEmbedding(score=score)
    if name == "t5":
        bias = made(pe.T5Bias, HEADS, num_buckets=8, max_distance=9)
        bias = replaced(bias, weight=state["relative_attention_bias.weight"])
        return pe.PositionalEmbedding(bias=bias, scale=1.0)
    if name == "unified":
        names = {
            "pos.weight": state["abs_pos_embed"],
            "pos_ln.weight": state["ln.weight"],
            "pos_ln.bias": state["ln.bias"],
            "pos_proj.weight": state["in_proj.weight"],
            "pos_proj.bias": state["in_proj.bias"],
            "relative_attention_bias.weight": state["rel_pos_embed.weight"],
        }
        bias = pe.TUPE.from_state_dict(names, HEADS, max_distance=9)
        return pe.PositionalEmbedding(bias=bias, scale=(2 * HEAD_DIM) ** -0.5)
    if name == "enformer":
        weight = state["pos_embed.weight"].reshape(HEADS, HEAD_DIM, 12)
        u, v = state["content_bias"][0, :, 0], state["pos_embed_bias"][:, 0]
        score = made(pe.Enformer, HEADS, HEAD_DIM, 12, 16)
        score = replaced(score, u=u, v=v, weight=weight)
        return pe.PositionalEmbedding(score=score)
    return pe.PositionalEmbedding()


@pytest.mark.parametrize("name", list(MODULES))
def test_scaled_logits_are_those_of_our_modules_at_any_positions(name):
    module, (q, k) = built(name), queries_and_keys()
    found = module.forward_attn(q, k, AT_Q, AT_K)
    assert found.shape == (2, HEADS, 3, 4)
    scale = HEAD_DIM**-0.5 if module.scale is None else module.scale
    embedding = ours(name, module)
    for example in range(2):
        args = (x[example] for x in (q, k, AT_Q, AT_K))
        wanted = run(embedding.logits, *args)
        # Sums of up to 16 products of up to 30, in another order.
        assert_close(scale * found[example], wanted, atol=2e-5)


@pytest.mark.parametrize("name", list(MODULES))
def test_a_decoded_token_and_a_shared_row_of_positions_change_nothing(name):
    module, (q, k) = built(name), queries_and_keys()
    whole = module.forward_attn(q, k, AT_Q[0], AT_K[0])
    last = module.forward_attn(q[:, :, 2:], k, AT_Q[:1, 2:], AT_K[:1])
    torch.testing.assert_close(last, whole[:, :, 2:], atol=2e-5, rtol=0)
    square = module.forward_attn(q, k[:, :, :3])
    in_a_row = torch.arange(3)
    torch.testing.assert_close(
        module.forward_attn(q, k[:, :, :3], in_a_row, in_a_row), square
    )


@pytest.mark.parametrize("name", list(MODULES))
def test_examples_and_heads_do_not_mix(name):
    module = built(name)
    q, k = (x.requires_grad_() for x in queries_and_keys())
    module.forward_attn(q, k, AT_Q, AT_K)[1, 1].sum().backward()
    for x in q, k:
        assert x.grad[1, 1].abs().min() > 0
        x.grad[1, 1] = 0
        assert not x.grad.any()


@pytest.mark.parametrize("name", list(MODULES))
def test_gradients_are_right(name):
    module = built(name).double()
    q, k = (x.requires_grad_() for x in queries_and_keys(torch.float64))
    x = torch.randn(2, 3, DIM, dtype=torch.float64, requires_grad=True)
    parameters = [p for p in module.parameters()]

    def both(q, k, x, *_):
        return module.forward_attn(q, k, AT_Q, AT_K), module.forward_input(x, AT_Q)

    assert torch.autograd.gradcheck(both, (q, k, x, *parameters), fast_mode=True)


@pytest.mark.parametrize("name", list(MODULES))
def test_it_is_moved_copied_and_saved_as_a_module_is(name):
    module, (q, k) = built(name), queries_and_keys()
    x = torch.randn(2, 3, DIM)
    run = lambda m: (m.forward_attn(q, k, AT_Q, AT_K), m.forward_input(x, AT_Q))
    wanted = run(module)
    with torch.device("meta"):
        empty = MODULES[name]()
    empty = empty.to_empty(device="cpu")
    empty.load_state_dict(module.state_dict())
    for moved in copy.deepcopy(module), pickle.loads(pickle.dumps(module)), empty:
        torch.testing.assert_close(run(moved), wanted, atol=0, rtol=0)
    assert set(module.state_dict()) == {name for name, _ in module.named_parameters()}
    half = (
        copy.deepcopy(module)
        .bfloat16()
        .forward_attn(q.bfloat16(), k.bfloat16(), AT_Q, AT_K)
    )
    assert half.dtype == torch.bfloat16
    # What is rounded to 8 bits, in sums of products of up to 40 with them.
    assert (half.float() - wanted[0]).abs().max() < 40 * 2**-8 * 2


@pytest.mark.parametrize("name", ["transformer_xl", "unified", "enformer"])
def test_dropout_acts_in_training_alone(name):
    module, (q, k) = built(name), queries_and_keys()
    module.dropout.p = 0.5
    run = lambda: module.forward_attn(q, k, AT_Q, AT_K)
    assert not torch.equal(run(), run())
    module.eval()
    torch.testing.assert_close(run(), run(), atol=0, rtol=0)


def test_sinusoids_are_those_of_fairseq():
    theirs = golden("sinusoidal")
    for name, dim, padding in (("32_0", 32, 0), ("32_1", 32, 1), ("7_None", 7, None)):
        module = SinusoidalPositionalEmbedding(embed_dim=dim, padding_idx=padding)
        x = torch.zeros(1, 16, dim)
        assert_close(module.forward_input(x)[0], theirs[f"pep_16_{name}"], atol=2e-6)


def test_tokens_keep_what_they_had():
    x = torch.randn(2, 3, DIM)
    for name in MODULES:
        module = built(name)
        added = module.forward_input(x, AT_Q) - x
        if name in ("sinusoidal", "learned"):
            # Sums of two numbers of up to 4, rounded.
            torch.testing.assert_close(added, module(AT_Q), atol=1e-6, rtol=0)
            assert not added[1, 1].any()  # At the position of padding.
        else:
            assert not added.any()


def test_t5_is_that_of_transformers():
    theirs = golden("t5")
    module = T5PositionalEmbedding(num_heads=4)
    with torch.no_grad():
        module.relative_attention_bias.weight.copy_(as_torch(theirs["w"]))
    ours = module.forward_attn(as_torch(theirs["q"]), as_torch(theirs["k"]))
    assert_close(ours, theirs["pep_logits"], atol=1e-5)
    relative = as_torch(theirs["rel"])
    for way in "bi", "causal":
        for buckets, most in (32, 128), (64, 256), (8, 20), (16, 64):
            found = Buckets(buckets, most, way == "bi")(relative)
            wanted = theirs[f"bucket_{way}_{buckets}_{most}"]
            np.testing.assert_array_equal(as_numpy(found), wanted)


@pytest.mark.parametrize("name", ["nomem", "mem5", "mem5clamp4", "dec1mem8"])
def test_transformer_xl_is_that_of_its_authors(name):
    q, k, u, v, weight, theirs, mask, clamp, memory = (
        golden("transformer_xl")[f"{name}_{field}"]
        for field in "q k u v r_net scaled_masked_logits mask clamp mlen".split()
    )
    module = TransformerXLPositionalEmbedding(
        embed_dim=16, num_heads=3, head_dim=8, clamp_len=int(clamp)
    )
    state = dict(r_w_bias=u[None, :, None], r_r_bias=v[None, :, None])
    state |= {"r_net.weight": weight}
    module.load_state_dict({key: as_torch(x) for key, x in state.items()})
    at_q = int(memory) + torch.arange(q.shape[2])
    found = module.scale * module.forward_attn(
        as_torch(q), as_torch(k), at_q, torch.arange(k.shape[2])
    )
    seen = np.broadcast_to(~mask, theirs.shape)
    assert_close(as_numpy(found)[seen], theirs[seen], atol=1e-5)


@pytest.mark.parametrize("name", ["transformer_xl", "t5"])
def test_distances_in_a_row_are_what_they_are_pair_by_pair(name):
    module = built(name).double()
    q, k = queries_and_keys(torch.float64)
    at_q = torch.tensor([[3, 4, 5], [10, 11, 12]])
    at_k = torch.tensor([[1, 2, 3, 4], [8, 9, 10, 11]])
    in_a_row = module.forward_attn(q, k, at_q, at_k)
    # Neither swapped, nor as floats, nor under `vmap` are they seen to be in a row.
    swap = [1, 0, 2, 3]
    swapped = module.forward_attn(q, k[:, :, swap], at_q, at_k[:, swap])
    torch.testing.assert_close(swapped[..., swap], in_a_row)
    swapped = module.forward_attn(q[:, :, swap[:3]], k, at_q[:, swap[:3]], at_k)
    torch.testing.assert_close(swapped[:, :, swap[:3]], in_a_row)
    if name != "t5":
        floats = module.forward_attn(q, k, at_q.double(), at_k)
        torch.testing.assert_close(floats, in_a_row)
    one = lambda *x: module.forward_attn(*(y[None] for y in x))[0]
    torch.testing.assert_close(torch.vmap(one)(q, k, at_q, at_k), in_a_row)
    # Nor are examples of different distances alike.
    at_k[1] += 1
    apart = module.forward_attn(q, k, at_q, at_k)
    torch.testing.assert_close(apart[:1], in_a_row[:1])
    torch.testing.assert_close(apart[1], one(q[1], k[1], at_q[1], at_k[1]))


@pytest.mark.parametrize("name", ["transformer_xl", "t5"])
def test_distances_in_a_row_have_gradients_of_both_orders(name):
    module, (q, k) = built(name).double(), queries_and_keys(torch.float64)
    at = torch.arange(2, 5), torch.arange(4)
    call = lambda q, k, *_: module.forward_attn(q, k, *at)
    arguments = q.requires_grad_(), k.requires_grad_(), *module.parameters()
    assert torch.autograd.gradcheck(call, arguments)
    assert torch.autograd.gradgradcheck(call, arguments)


@pytest.mark.parametrize("kind", ["abs", "rel"])
def test_unified_is_tupe_of_its_authors(kind):
    theirs = golden("tupe")
    get = lambda name: as_torch(theirs[f"{kind}_{name}"])
    rows = theirs[f"{kind}_pos"].shape[0]
    module = TUPE(
        embed_dim=32,
        num_heads=4,
        max_length=rows - 1,
        has_cls_token=True,
        rel_pos_embed=kind == "rel",
    )
    state = {
        "abs_pos_embed": get("pos"),
        "ln.weight": get("lnw"),
        "ln.bias": get("lnb"),
        "in_proj.weight": torch.cat([get("qw"), get("kw")]),
        "in_proj.bias": torch.cat([get("qb"), get("kb")]),
    }
    if kind == "rel":
        state["rel_pos_embed.weight"] = get("table")
    module.load_state_dict(state)
    nothing = torch.zeros(2, 4, 9, 8)
    found = module.scale * module.forward_attn(nothing, nothing)
    assert_close(found, theirs[f"{kind}_bias"], atol=5e-6)


@pytest.mark.parametrize("max_length", [None, 10])
def test_enformer_is_that_of_deepmind(max_length):
    theirs = golden("enformer_tf")
    module = EnformerPositionalEmbedding(
        num_heads=4, head_dim=8, num_features=12, max_length=max_length
    )
    u, v, weight = (
        as_torch(theirs[f"w_multihead_attention_{name}"])
        for name in ("r_w_bias", "r_r_bias", "r_k_layer_w")
    )
    module.load_state_dict(
        {"content_bias": u, "pos_embed_bias": v[0], "pos_embed.weight": weight.T}
    )
    q = as_torch(theirs["mha_q_scaled"]) * 8**0.5
    found = module.scale * module.forward_attn(q, as_torch(theirs["mha_k"]))
    assert_close(found, theirs["mha_content"] + theirs["mha_rel"], atol=5e-5)


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize(
    "text, call",
    [
        (
            r"`q` and `k` must have shapes .*heads=2 and dim=4, .*got \[2, 3, 4\]",
            lambda: built("unified").forward_attn(
                torch.ones(2, 3, 4), torch.ones(2, 3, 4)
            ),
        ),
        (
            r"heads=2 and dim=4, .*got \[1, 2, 3, 5\]",
            lambda: built("unified").forward_attn(
                torch.ones(1, 2, 3, 5), torch.ones(1, 2, 3, 5)
            ),
        ),
        (
            r"with heads=2, .*got \[2, 3, 4, 4\]",
            lambda: built("t5").forward_attn(*[torch.ones(2, 3, 4, 4)] * 2),
        ),
        (
            r"`positions_q` must have a position for each of the 3 tokens.*got None. "
            "Without positions, queries and keys must have the same",
            lambda: built("t5").forward_attn(*queries_and_keys()),
        ),
        (
            r"`positions_k` must have .*the 4 tokens of `k`, .*got \(2, 3\)",
            lambda: built("t5").forward_attn(*queries_and_keys(), AT_Q, AT_Q),
        ),
        (
            r"`input_` must have shape .*dim=8, but got \[2, 3, 7\]",
            lambda: built("learned").forward_input(torch.ones(2, 3, 7), AT_Q),
        ),
        (
            "`max_length` must be at least 1.*got 0",
            lambda: LearnedPositionalEmbedding(max_length=0, embed_dim=8),
        ),
        (
            "`dim` must be at least 4.*got 2",
            lambda: SinusoidalPositionalEmbedding(embed_dim=3),
        ),
        (
            "`embed_dim` must be a multiple of `num_heads`, 3, but got 8",
            lambda: TUPE(embed_dim=8, num_heads=3, max_length=4),
        ),
        (
            "`features` must be a multiple of 6.*got 7",
            lambda: EnformerPositionalEmbedding(
                num_heads=2, head_dim=4, num_features=7
            ),
        ),
        (
            "`num_heads` must be at least 1.*got 0",
            lambda: T5PositionalEmbedding(num_heads=0),
        ),
        (
            "`max_distance` must be beyond",
            lambda: T5PositionalEmbedding(num_heads=2, max_distance=8),
        ),
    ],
)
def test_errors_say_the_rule(text, call):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize(
    ("module", "shown"),
    [
        (lambda: shim.XPOS(8), "XPOS(\n  head_dim=8\n  (angles)"),
        (lambda: shim.YarnEmbedding(8, base=5e5), "(\n  dim=8, base=500000.0\n  (ang"),
        (lambda: shim.RotaryEmbedding(8), "RotaryEmbedding(\n  dim=8\n  (angles)"),
        (
            lambda: shim.T5PositionalEmbedding(num_heads=4),
            "(\n  num_heads=4\n  (dropout)",
        ),
        (lambda: shim.as_torch(pe.ALiBi(4)), "TorchTerm(ALiBi(heads=4))"),
        (lambda: shim.as_torch(made_t5()), "T5Bias(weight=f32[32,4])"),
    ],
)
def test_a_module_prints_its_settings(module, shown):
    made = module()
    assert shown in repr(made)
    assert repr(copy.deepcopy(made)) == repr(made)


def made_t5():
    return pe.T5Bias(4, key=jax.random.key(0))


def test_tupe_has_the_name_of_the_original_package():
    assert shim.TUPE is shim.UnifiedPositionalEmbedding
