"""What users read when a configuration of diffusers is wrong."""

import pytest

from eqx_posemb.interop import diffusers


FLUX = {"_class_name": "FluxTransformer2DModel"}
WAN = {"_class_name": "WanTransformer3DModel"}
LTX = {"_class_name": "LTXVideoTransformer3DModel"}
MOCHI = {"_class_name": "MochiTransformer3DModel"}
SD3 = {"_class_name": "SD3Transformer2DModel"}
COSMOS = {"_class_name": "CosmosTransformer3DModel"}
ALONE = COSMOS | {"extra_pos_embed_type": None}
COGVIDEOX = {"_class_name": "CogVideoXTransformer3DModel"}
LUMINA = {"_class_name": "Lumina2Transformer2DModel"}


def load(config, **settings):
    return lambda: diffusers.load(config, **settings)


def place(config, *args, **settings):
    return lambda: diffusers.positions(config, *args, **settings)


def case(text, call):
    return pytest.param(text, call, id=text[:60])


# A case a line.
# fmt: off
WRONG = [
    case("`_class_name` must be a class of diffusers with a row, such as FluxTransformer2DModel.*but got 'FluxTransformer3DModel'. Give the name of a class that rotates alike", load({"_class_name": "FluxTransformer3DModel"})),
    case("`_class_name` must be a class of diffusers.*but got None", load({})),
    case("`_class_name` must be a class of diffusers.*but got 3", load({"_class_name": 3})),
    case("`axes_dim_rope` must not be there, as FluxTransformer2DModel does not read it, but got \\[2\\]. Did you mean `axes_dims_rope`\\? Remove it, as diffusers ignores it", load(FLUX | {"axes_dim_rope": [2]})),
    case("`rope_theta` must not be there, as FluxTransformer2DModel does not read it, but got 9.0. Remove it", load(FLUX | {"rope_theta": 9.0})),
    case("`rope_theta` must not be there", place(FLUX | {"rope_theta": 9.0}, (2, 2))),
    case("`axes_dims_rope` must give each coordinate an even number of channels, which add up to the 128 of a head, but got \\[16, 56\\]", load(FLUX | {"axes_dims_rope": [16, 56]})),
    case("`axes_dims_rope` must give each.*but got \\[16, 55, 57\\]", load(FLUX | {"axes_dims_rope": [16, 55, 57]})),
    case("`axes_dims_rope` must be a list, but got 16", load(FLUX | {"axes_dims_rope": 16})),
    case("`attention_head_dim` must give each coordinate.*the 4 of a head, but got \\[4, 0, 0\\]", load(WAN | {"attention_head_dim": 4})),
    case("`hidden_size` must be a multiple of `num_attention_heads`, 24, but got 2305", load(LUMINA | {"hidden_size": 2305})),
    case("`rope_scale` must have a factor for each of the 3 coordinates, but got \\[2.0\\]", load(ALONE | {"rope_scale": [2.0]})),
    case("`extra_pos_embed_type` must be null for a part that `load` builds, but got 'learnable'. Give null for the rotary embedding", load(COSMOS)),
    case("`use_learned_positional_embeddings` must be false.*but got True. Give false for the embedding without the table", load(COGVIDEOX | {"use_learned_positional_embeddings": True})),
    case("`use_layer3d_rope` must be false", load({"_class_name": "QwenImageTransformer2DModel", "use_layer3d_rope": True})),
    case("`extend` must be None for MochiTransformer3DModel, which has no schedule for each coordinate", load(MOCHI, extend=lambda axis, base: base)),
    case("`extend` must be None for SD3", load(SD3, extend=lambda axis, base: base)),
    case("`shape` must have rows and columns, or frames, rows and columns, but got \\(2,\\)", place(FLUX, (2,))),
    case("`shape` must have rows and columns, but got \\(2, 3, 4\\)", place(SD3, (2, 3, 4))),
    case("`shape` must have rows and columns.*but got 4", place(FLUX, 4)),
    case("`text` must be 0 for WanTransformer3DModel, whose text has no positions, but got 3", place(WAN, (2, 2, 2), text=3)),
    case("`text` must be 0 for CogVideoXTransformer3DModel", place(COGVIDEOX, (2, 2, 2), text=3)),
    case("`text` must be at least 0", place(FLUX, (2, 2), text=-1)),
    case("`frame_rate` must be None for WanTransformer3DModel, which counts frames, but got 24", place(WAN, (2, 2, 2), frame_rate=24)),
    case("`frame_rate` must be given for LTXVideoTransformer3DModel, which counts seconds, but got None", place(LTX, (2, 2, 2))),
    case("`frame_rate` must be positive and finite, but got 0", place(ALONE, (2, 2, 2), frame_rate=0)),
]
# fmt: on


@pytest.mark.parametrize("text, call", WRONG)
@pytest.mark.usefixtures("as_users_have_it")
def test_what_is_wrong_is_named_with_its_cure(text, call):
    with pytest.raises(ValueError, match=text):
        call()
