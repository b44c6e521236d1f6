"""Models of transformers with embeddings of ours in them."""

import copy
import pickle
from typing import Any

import mpmath
import pytest
import torch
import transformers

from eqx_posemb.interop.torch import patch_rotary
from eqx_posemb.interop.torch._patch import _with_mask


SIZES = dict(
    vocab_size=50,
    hidden_size=32,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
    initializer_range=0.3,  # Enough for positions to matter.
)
SHARES = {"num_key_value_heads": 1}
LATENT = dict(
    qk_rope_head_dim=8,
    qk_nope_head_dim=8,
    v_head_dim=8,
    kv_lora_rank=8,
    q_lora_rank=8,
    n_routed_experts=4,
    num_experts_per_tok=2,
    n_group=1,
    topk_group=1,
    moe_intermediate_size=8,
    first_k_dense_replace=1,
)
YARN = dict(
    rope_type="yarn",
    rope_theta=1e4,
    factor=4.0,
    original_max_position_embeddings=32,
)
LONG = dict(
    rope_type="longrope",
    rope_theta=1e4,
    original_max_position_embeddings=16,
    short_factor=[1.0] * 8,
    long_factor=[2.0] * 8,
    factor=4.0,
)
MODELS = {
    "llama": ("Llama", SIZES | SHARES),
    "llama_yarn": ("Llama", SIZES | dict(rope_parameters=YARN)),
    "qwen2": ("Qwen2", SIZES | SHARES),
    "phi3": ("Phi3", SIZES),
    "phi3_longrope": (
        "Phi3",
        SIZES | dict(rope_parameters=LONG, max_position_embeddings=64),
    ),
    "gpt_neox": ("GPTNeoX", SIZES | dict(rotary_pct=0.25)),
    "cohere": ("Cohere", SIZES),
    "gemma3": (
        "Gemma3",
        SIZES
        | dict(
            head_dim=16,
            layer_types=["sliding_attention", "full_attention"],
            query_pre_attn_scalar=16,
            sliding_window=8,
        ),
    ),
    "deepseek_v3": ("DeepseekV3", SIZES | LATENT),
}
TOKENS = torch.arange(3, 39).reshape(2, 18)


def build(name):
    kind, sizes = MODELS[name]
    torch.manual_seed(0)
    if kind == "Gemma3":
        return transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**sizes))
    config = getattr(transformers, f"{kind}Config")(**sizes)
    return getattr(transformers, f"{kind}ForCausalLM")(config)


def logits(model, **inputs):
    with torch.no_grad():
        return model.eval()(**{"input_ids": TOKENS, **inputs}).logits


def assert_same(ours, theirs):
    # Their float32 angles are off by 1e-6 at position 17, and so are the tables.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5 * theirs.abs().max())


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_the_same_before_and_after(name):
    model = build(name)
    before, names = logits(model), list(model.state_dict())
    padded = dict(attention_mask=(TOKENS > 5).long())
    left = logits(model, **padded)
    with patch_rotary(model) as patch:
        assert patch.patched and not patch.left
        assert "PatchedRotation" in repr(model)
        assert_same(logits(model), before)
        assert_same(logits(model, **padded), left)
        assert list(model.state_dict()) == names
    assert "PatchedRotation" not in repr(model)
    assert torch.equal(logits(model), before)


def qwen2_vl():
    text = (
        SIZES
        | SHARES
        | dict(
            rope_parameters=dict(
                rope_type="default", mrope_section=[2, 3, 3], rope_theta=1e4
            ),
        )
    )
    vision = dict(depth=1, embed_dim=32, num_heads=2, hidden_size=32)
    config = transformers.Qwen2VLConfig(text_config=text, vision_config=vision)
    torch.manual_seed(0)
    return transformers.Qwen2VLForConditionalGeneration(config)


def test_a_model_that_sees_turns_by_all_three_coordinates():
    model = qwen2_vl()
    grid = torch.randint(0, 9, (3, *TOKENS.shape), generator=torch.manual_seed(1))
    before, on_grid = logits(model), logits(model, position_ids=grid)
    pixels = torch.randn(16, 1176, generator=torch.manual_seed(2))
    sizes = torch.tensor([[1, 4, 4]])
    seen = lambda: model.model.visual(pixels, grid_thw=sizes).pooler_output.detach()
    patches = seen()
    assert not torch.allclose(before, on_grid, atol=1e-3)
    with patch_rotary(model) as patch:
        assert len(patch.patched) == 2 and not patch.left
        assert_same(logits(model), before)
        assert_same(seen(), patches)
        assert_same(logits(model, position_ids=grid), on_grid)


def t5() -> Any:
    sizes = dict(d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2, vocab_size=50)
    config = transformers.T5Config(
        **sizes, decoder_start_token_id=0, initializer_factor=5.0
    )
    torch.manual_seed(0)
    return transformers.T5ForConditionalGeneration(config)


def test_biases_of_t5_are_computed_from_its_weights():
    model = t5()
    inputs = dict(decoder_input_ids=TOKENS.flip(1))
    before = logits(model, **inputs)
    weight = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    gradient = lambda: torch.autograd.grad(
        model(input_ids=TOKENS, labels=TOKENS).loss, model.get_parameter(weight)
    )[0]
    theirs = gradient()
    told = model.generate(TOKENS, max_new_tokens=3, do_sample=False)
    with patch_rotary(model) as patch:
        assert len(patch.patched) == 2
        assert_same(logits(model, **inputs), before)
        torch.testing.assert_close(gradient(), theirs, rtol=1e-4, atol=1e-6)
        again = model.generate(TOKENS, max_new_tokens=3, do_sample=False)
        assert torch.equal(again, told)
        model.get_parameter(weight).data.mul_(-9)
        assert not torch.allclose(logits(model, **inputs), before, atol=1e-4)
    assert "compute_bias" not in vars(
        model.encoder.block[0].layer[0].SelfAttention  # Its own method again.
    )


def bloom():
    sizes = dict(hidden_size=32, n_head=2, n_layer=2, vocab_size=50)
    config = transformers.BloomConfig(**sizes, initializer_range=0.3)
    torch.manual_seed(0)
    return transformers.BloomForCausalLM(config)


def test_biases_of_bloom_follow_the_mask_and_the_cache():
    model = bloom()
    mask = dict(attention_mask=(TOKENS > 5).long())
    before, padded = logits(model), logits(model, **mask)
    told = model.generate(TOKENS, max_new_tokens=3, do_sample=False)
    with patch_rotary(model) as patch:
        assert patch.patched == ("transformer",)
        assert_same(logits(model), before)
        assert_same(logits(model, **mask), padded)
        again = model.generate(TOKENS, max_new_tokens=3, do_sample=False)
        assert torch.equal(again, told)
        model.transformer.build_alibi_tensor.slopes = [0.0, 0.0]
        assert not torch.allclose(logits(model), before, atol=1e-3)
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_a_mask_of_bloom_covers_a_cache_by_either_name(name):
    cache, given = transformers.DynamicCache(), torch.zeros(2, 1, 4, 8)
    cache.update(given, given, 0)
    _, told = _with_mask(None, (), {"input_ids": TOKENS, name: cache})
    assert told["attention_mask"].shape == (2, 4 + TOKENS.shape[1])
    _, told = _with_mask(None, (TOKENS, cache), {})
    assert told["attention_mask"].shape == (2, 4 + TOKENS.shape[1])


def test_exact_angles_differ_from_those_of_float32_a_million_positions_away():
    """Rotations know distances alone: a text a million positions on is the same text.
    In float32 it is not, and the tables say why."""
    model, far = build("llama"), 10**6
    moved = dict(position_ids=far + torch.arange(TOKENS.shape[1])[None])
    here, theirs = logits(model), logits(model, **moved)
    table = lambda: model.model.rotary_emb(torch.zeros(1), moved["position_ids"])[0]
    mp = mpmath.mp.clone()
    mp.prec = 100
    exact = torch.tensor(
        [float(mp.cos(far * mp.mpf(10_000) ** (-mp.mpf(i) / 8))) for i in range(8)]
    )
    assert (table()[0, 0, :8] - exact).abs().max() > 0.01
    assert (theirs - here).abs().max() > 1e-3
    with patch_rotary(model):
        assert (table()[0, 0, :8] - exact).abs().max() < 2e-7
        assert_same(logits(model, **moved), here)


def test_the_handle_undoes_it_once_and_says_what_it_did():
    model = build("llama")
    original = model.model.rotary_emb
    patch = patch_rotary(model)
    assert repr(patch) == "Patch(patched=('model.rotary_emb',), left={})"
    assert model.model.rotary_emb is not original
    # What is no table the other one answers.
    assert model.model.rotary_emb.inv_freq is original.inv_freq
    patch.remove()
    patch.remove()
    assert model.model.rotary_emb is original


def test_a_patched_model_is_copied_pickled_and_cast():
    model = build("llama")
    before = logits(model)
    with patch_rotary(model):
        for other in copy.deepcopy(model), pickle.loads(pickle.dumps(model)):
            assert_same(logits(other), before)
        # Theirs would round its frequencies here, and ours has none to round.
        model.to(torch.bfloat16)
        positions = torch.tensor([[1000]])
        cos, _ = model.model.rotary_emb(torch.zeros(1, dtype=torch.float32), positions)
        angles = 1000 * 10_000 ** (-torch.arange(8, dtype=torch.float64) / 8)
        torch.testing.assert_close(
            cos[0, 0, :8], angles.cos().float(), rtol=0, atol=2e-7
        )
        assert logits(model).dtype == torch.bfloat16


def test_a_model_without_position_or_patched_already_is_refused():
    with pytest.raises(ValueError, match=r"`model` must have a rotary .* got Linear"):
        patch_rotary(torch.nn.Linear(2, 2))
    for model in build("llama"), bloom(), t5():
        with patch_rotary(model):
            with pytest.raises(ValueError, match=r"`model` must .* patched already"):
                patch_rotary(model)


def test_a_patched_model_is_one_graph_where_its_angles_read_the_length():
    sizes = dict(hidden_size=32, intermediate_size=32, num_attention_heads=4)
    rope = dict(rope_type="dynamic", factor=2.0, rope_theta=1e4)
    config = transformers.LlamaConfig(
        **sizes, num_hidden_layers=1, vocab_size=50, rope_parameters=rope
    )
    model = transformers.LlamaForCausalLM(config)
    with patch_rotary(model):
        # The code of transformers branches on the length, which breaks the graph.
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert torch.equal(logits(compiled), logits(model))


def test_what_differs_from_its_configuration_is_left_alone():
    model = build("llama")
    rotary: Any = model.model.rotary_emb
    kind: Any = type(rotary)

    class OtherRotary(kind):
        """Some other `RotaryEmbedding`."""

        def forward(self, x, position_ids):
            cos, sin = super().forward(x, position_ids)
            return 2 * cos, sin

    class RotaryOfOther(kind):
        """Another one."""

        def forward(self, x):
            return x

    rotary.__class__ = OtherRotary
    with pytest.raises(ValueError, match=r"tables differ from its configuration"):
        patch_rotary(model)
    rotary.__class__ = RotaryOfOther
    with pytest.raises(ValueError, match=r"its `forward` takes x"):
        patch_rotary(model)


class BareRotary(torch.nn.Module):
    """Called as a rotary embedding is, and without a configuration."""

    def forward(self, x, position_ids):
        return x, x


class BareBias(torch.nn.Module):
    """Has T5's weight, and does not say whether it is in a decoder."""

    def __init__(self):
        super().__init__()
        self.relative_attention_bias = torch.nn.Embedding(32, 2)


class BareALiBi(torch.nn.Module):
    """Has Bloom's method, and no number of heads."""

    def build_alibi_tensor(self, mask, heads, dtype):
        return torch.zeros(heads, 1, mask.shape[-1], dtype=dtype)


@pytest.mark.parametrize(
    "bare, config, missing",
    [
        (BareRotary, None, "config"),
        (BareBias, None, "is_decoder"),
        (BareALiBi, transformers.BloomConfig, "num_heads"),
    ],
)
def test_a_module_without_what_is_read_of_it_is_left_with_the_reason(
    bare, config, missing
):
    model = build("llama") if config is None else torch.nn.Module()
    if config is not None:
        model.config = config(hidden_size=32, n_head=2)
    module = bare()
    model.add_module("bare", module)
    said = f"'{bare.__name__}' object has no attribute '{missing}'"
    if config is None:
        with patch_rotary(model) as patch:
            assert patch.patched == ("model.rotary_emb",)
            assert patch.left == {"bare": said}
            assert model.get_submodule("bare") is module
        model = torch.nn.Sequential(module)
        said = f"0: {said}"
    with pytest.raises(ValueError, match=said):
        patch_rotary(model)
