"""The embeddings and positions of diffusion models, against the classes of diffusers.

Their angles are products in float32 or float64 of positions up to a few dozens, which
are off by a few 1e-6 at most.
"""

import inspect
import re
from types import SimpleNamespace as Namespace

import equinox as eqx
import numpy as np
import pytest

from eqx_posemb.interop import diffusers
from eqx_posemb.interop.diffusers._rows import models, settings_of
from tests.parity.references import run


torch = pytest.importorskip("torch", reason='needs torch: pip install -e ".[test]"')
library = pytest.importorskip(
    "diffusers", reason='needs diffusers: pip install -e ".[test]"'
)
embeddings = pytest.importorskip("diffusers.models.embeddings")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*FluxPosEmbed.* is deprecated"),
    pytest.mark.filterwarnings("ignore:In CPU autocast"),
]
FRAMES, ROWS, COLUMNS, TEXT = 3, 4, 6, 5
VIDEO, IMAGE = (FRAMES, ROWS, COLUMNS), (ROWS, COLUMNS)
NAMES = sorted(models())
SMALL = dict(num_layers=1, num_attention_heads=2)
RNG = np.random.default_rng(0)


def module(name, **settings):
    """A small model, with the default settings of its class for positions."""
    return getattr(library, name)(**settings).eval()


def rotated(model, shape, heads=2, **settings):
    """Queries of a model that our embedding rotates, and the same before it."""
    embedding = diffusers.load(model)
    where = diffusers.positions(model, shape, **settings)
    q = RNG.normal(size=(heads, len(where), embedding.rotary.dim)).astype(np.float32)
    return q, run(lambda rope, p, q: rope(p).queries(q), embedding.rotary, where, q)


def turned(q, angles, **settings):
    """The same queries, rotated by diffusers."""
    x = torch.from_numpy(q.swapaxes(0, 1).copy())[None]  # [batch, seq, heads, dim]
    if torch.is_tensor(angles):
        out = embeddings.apply_rotary_emb(x, angles, use_real=False)
    else:
        out = embeddings.apply_rotary_emb(x, angles, sequence_dim=1, **settings)
    return out[0].numpy().swapaxes(0, 1)


def assert_turned(q, ours, angles, atol=1e-5, **settings):
    np.testing.assert_allclose(ours, turned(q, angles, **settings), atol=atol, rtol=0)


def unrotated_text(angles, first=True):
    """The angles with those of text, which diffusers leaves out of the rotation."""
    cos, sin = angles
    parts = lambda x, y: torch.cat([x, y] if first else [y, x])
    still = cos[:1].repeat(TEXT, 1)
    return parts(torch.ones_like(still), cos), parts(torch.zeros_like(still), sin)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_has_the_defaults_of_the_class_and_all_of_its_keys(name):
    known = models()[name]["defaults"]
    theirs = inspect.signature(getattr(library, name).__init__).parameters
    speaks = re.compile(r"rope|rotary|pos_emb|positional|axes_|theta|interpolation")
    assert {key for key in theirs if speaks.search(key)} <= {*known}
    listed = lambda x: list(x) if isinstance(x, tuple) else x
    assert {key: listed(theirs[key].default) for key in known} == known


def flux(name, **settings):
    return module(name, **SMALL, num_single_layers=1, **settings)


@pytest.mark.parametrize("name", ["FluxTransformer2DModel", "ChromaTransformer2DModel"])
def test_flux(name):
    model = flux(name, joint_attention_dim=8)
    pipeline = library.FluxPipeline
    ids = pipeline._prepare_latent_image_ids(1, ROWS, COLUMNS, "cpu", torch.float32)
    q, ours = rotated(model, IMAGE, text=TEXT)
    assert_turned(q, ours, model.pos_embed(torch.cat([torch.zeros(TEXT, 3), ids])))


def test_flux2():
    model = flux("Flux2Transformer2DModel", joint_attention_dim=8)
    pipeline = library.Flux2Pipeline
    words = pipeline._prepare_text_ids(torch.zeros(1, TEXT, 8))[0]
    ids = pipeline._prepare_latent_ids(torch.zeros(1, 8, ROWS, COLUMNS))[0]
    q, ours = rotated(model, IMAGE, text=TEXT)
    assert_turned(q, ours, model.pos_embed(torch.cat([words, ids])))


def test_qwen_image():
    model = module("QwenImageTransformer2DModel", **SMALL, joint_attention_dim=8)
    for shape in VIDEO, (1, 5, 3):
        image, words = model.pos_embed([shape], max_txt_seq_len=TEXT, device="cpu")
        q, ours = rotated(model, shape, text=TEXT)
        assert_turned(q, ours, torch.cat([words, image])[None])


@pytest.mark.parametrize(
    "name",
    [
        "WanTransformer3DModel",
        "WanVACETransformer3DModel",
        "WanAnimateTransformer3DModel",
        "SkyReelsV2Transformer3DModel",
    ],
)
def test_wan(name):
    own = {"WanVACETransformer3DModel": dict(vace_layers=[0], vace_in_channels=4)}
    model = module(name, **SMALL, ffn_dim=8, text_dim=8, **own.get(name, {}))
    latents = torch.zeros(1, 16, FRAMES, 2 * ROWS, 2 * COLUMNS)
    cos, sin = model.rope(latents)
    q, ours = rotated(model, VIDEO)
    assert_turned(q, ours, (cos[0, :, 0], sin[0, :, 0]))


@pytest.mark.parametrize("version", ["", "15"])
def test_hunyuan_video(version):
    size = 2 if not version else 1
    own = dict(num_single_layers=1, pooled_projection_dim=8) if not version else {}
    model = module(
        f"HunyuanVideo{version}Transformer3DModel",
        **SMALL,
        num_refiner_layers=1,
        text_embed_dim=8,
        **own,
    )
    shape = (1, 4, FRAMES, size * ROWS, size * COLUMNS)
    angles = model.rope(torch.zeros(shape))
    q, ours = rotated(model, VIDEO, text=TEXT)
    assert_turned(q, ours, unrotated_text(angles, first=False))


@pytest.mark.parametrize("grid", [(30, 45), (28, 45), (36, 20), (7, 12)])
@pytest.mark.parametrize("time", [None, 2])
def test_cogvideox(grid, time):
    config = dict(
        _class_name="CogVideoXTransformer3DModel",
        attention_head_dim=64,
        patch_size=2,
        patch_size_t=time,
        sample_height=60 if time is None else 300,
        sample_width=90 if time is None else 300,
        use_rotary_positional_embeddings=True,
    )
    pipeline = Namespace(
        vae_scale_factor_spatial=8, transformer=Namespace(config=Namespace(**config))
    )
    prepare = library.CogVideoXPipeline._prepare_rotary_positional_embeddings
    rows, columns = grid
    frames = FRAMES * (time or 1)
    angles = prepare(pipeline, rows * 16, columns * 16, frames, "cpu")
    q, ours = rotated(config, (FRAMES, *grid), heads=1, text=TEXT)
    assert_turned(q, ours, unrotated_text(angles))


@pytest.mark.parametrize("grid", [(30, 45), (7, 12)])
def test_cogvideox_with_an_encoding(grid):
    model = module("CogVideoXTransformer3DModel", num_layers=1, num_attention_heads=3)
    rows, columns = grid
    theirs = model.patch_embed._get_positional_embeddings(2 * rows, 2 * columns, 9)
    where = diffusers.positions(model, (FRAMES, *grid))
    ours = run(lambda part, p: part(p), diffusers.load(model).encoding, where)
    np.testing.assert_allclose(ours, theirs[0, 226:].numpy(), atol=1e-5)


@pytest.mark.parametrize("grid", [IMAGE, (5, 7), (300, 3)])
def test_cogview4(grid):
    model = module("CogView4Transformer2DModel", **SMALL, text_embed_dim=8)
    latents = torch.zeros(1, 4, 2 * grid[0], 2 * grid[1])
    q, ours = rotated(model, grid, text=TEXT)
    angles = unrotated_text(model.rope(latents))
    # An ulp of a position of 255 is 1.5e-5.
    assert_turned(q, ours, angles, atol=1e-4, use_real_unbind_dim=-2)


def test_mochi():
    model = module("MochiTransformer3DModel", **SMALL, text_embed_dim=8)
    weight = RNG.normal(size=(3, 2, 64)).astype(np.float32) / 9
    cos, sin = model.rope(torch.from_numpy(weight), *VIDEO, dtype=torch.float32)
    embedding = diffusers.load(model)
    start = embedding.rotary.frequencies.weight
    assert start.shape == (2, 3 * 64) and not start.any()
    where = diffusers.positions(model, VIDEO, text=TEXT)
    q = RNG.normal(size=(2, len(where), 128)).astype(np.float32)

    place = lambda part: part.frequencies.weight
    rope = eqx.tree_at(place, embedding.rotary, weight.swapaxes(0, 1).reshape(2, -1))
    found = run(lambda rope, p, q: rope(p).queries(q), rope, where, q)
    x = torch.from_numpy(q)[:, :-TEXT].transpose(0, 1).unflatten(-1, (-1, 2))
    even = x[..., 0] * cos - x[..., 1] * sin
    odd = x[..., 0] * sin + x[..., 1] * cos
    theirs = torch.stack([even, odd], -1).flatten(-2).transpose(0, 1).numpy()
    # An ulp of an angle of 30 is 2e-6, and three of them are added.
    np.testing.assert_allclose(found[:, :-TEXT], theirs, atol=5e-5)
    np.testing.assert_array_equal(found[:, -TEXT:], q[:, -TEXT:])


def test_ltx():
    ltx = pytest.importorskip("diffusers.models.transformers.transformer_ltx")
    model = module("LTXVideoTransformer3DModel", num_layers=1, cross_attention_dim=2048)
    scale = (8 / 25, 32, 32)
    angles = model.rope(torch.zeros(1, 1), *VIDEO, rope_interpolation_scale=scale)
    q, ours = rotated(model, VIDEO, heads=1, frame_rate=25)
    theirs = ltx.apply_rotary_emb(torch.from_numpy(q), angles)
    # Their angles of 15,700 radians have an ulp of 1e-3, and their frequencies a few.
    assert np.abs(ours - theirs.numpy()).max() < 2e-2
    # Angles grow along the channels, and half of them stay below 126 radians.
    half = slice(0, 1024)
    np.testing.assert_allclose(ours[..., half], theirs.numpy()[..., half], atol=2e-4)


def test_z_image():
    model = module(
        "ZImageTransformer2DModel",
        dim=256,
        n_heads=2,
        n_kv_heads=2,
        n_layers=1,
        n_refiner_layers=1,
        cap_feat_dim=8,
    )
    image = torch.zeros(16, 1, 2 * 8, 2 * 12)
    *_, ids, words, _, _ = model.patchify_and_embed([image], [torch.zeros(30, 8)], 2, 1)
    q, ours = rotated(model, (8, 12), text=32)
    # Their 30 tokens of text are padded to 32.
    where = torch.cat([ids[0], words[0][:32]])
    assert_turned(q, ours, model.rope_embedder(where)[None])


def test_lumina2():
    model = module(
        "Lumina2Transformer2DModel",
        hidden_size=192,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=2,
        cap_feat_dim=8,
    )
    latents = torch.zeros(1, 16, 2 * ROWS, 2 * COLUMNS)
    _, _, _, angles, *_ = model.rope_embedder(latents, torch.ones(1, TEXT).long())
    q, ours = rotated(model, IMAGE, text=TEXT)
    assert_turned(q, ours, angles)


@pytest.mark.parametrize("rate", [None, 24, 10])
def test_cosmos(rate):
    model = module(
        "CosmosTransformer3DModel",
        **SMALL,
        text_embed_dim=8,
        adaln_lora_dim=8,
        rope_scale=(2.0, 1.0, 3.0),
        extra_pos_embed_type=None,
    )
    latents = torch.zeros(1, 16, FRAMES, 2 * ROWS, 2 * COLUMNS)
    q, ours = rotated(model, VIDEO, frame_rate=rate)
    angles = model.rope(latents, fps=rate)
    assert_turned(q, ours, angles, use_real_unbind_dim=-2)


@pytest.mark.parametrize(
    "name, settings",
    [
        ("SD3Transformer2DModel", dict(sample_size=32)),
        ("PixArtTransformer2DModel", dict(sample_size=32)),
        ("PixArtTransformer2DModel", dict(sample_size=128)),
        ("PixArtTransformer2DModel", dict(sample_size=32, interpolation_scale=3)),
    ],
)
def test_encodings_of_images(name, settings):
    small = dict(SMALL, num_attention_heads=16, caption_projection_dim=1024)
    small |= dict(joint_attention_dim=8, pooled_projection_dim=8)
    if name.startswith("PixArt"):
        small = dict(SMALL, cross_attention_dim=144, caption_channels=8)
    model = module(name, **small, **settings)
    patches = model.pos_embed
    for weight in patches.proj.parameters():
        torch.nn.init.zeros_(weight)
    theirs = patches(torch.zeros(1, model.config.in_channels, 2 * ROWS, 2 * COLUMNS))
    where = diffusers.positions(model, IMAGE)
    ours = run(lambda part, p: part(p), diffusers.load(model).encoding, where)
    np.testing.assert_allclose(ours, theirs[0].detach().numpy(), atol=1e-5)


def test_a_model_is_read_as_its_configuration():
    model = flux("FluxTransformer2DModel", joint_attention_dim=8)
    config = {**model.config, "_class_name": "FluxTransformer2DModel"}
    ours, theirs = settings_of(model), settings_of(config)
    assert (ours[0].row, ours[1]) == (theirs[0].row, theirs[1])
    assert diffusers.load(model).rotary == diffusers.load(config).rotary
