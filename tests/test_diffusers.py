"""Reading configurations of diffusers: sources, extensions and steps."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

import eqx_posemb as pe
from eqx_posemb.interop import diffusers
from eqx_posemb.interop.diffusers._rows import models


FLUX = {"_class_name": "FluxTransformer2DModel"}


def test_a_file_a_folder_and_an_object_are_read_alike(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(FLUX | {"_diffusers_version": "0.42.1"}))
    expected = diffusers.load(FLUX).rotary
    assert diffusers.load(path).rotary == expected
    assert diffusers.load(str(tmp_path)).rotary == expected
    assert diffusers.load(SimpleNamespace(config=FLUX)).rotary == expected

    class FluxTransformer2DModel:
        config: dict = {}  # noqa: RUF012

    assert diffusers.load(FluxTransformer2DModel()).rotary == expected


def test_every_row_has_the_keys_that_are_described():
    described = models.__wrapped__.__doc__ or ""
    keys = {key for row in models().values() for key in row}
    assert not {key for key in keys if f"`{key}`" not in described}


def test_an_axis_is_extended_by_its_number():
    def longer(axis, base):
        return pe.frequencies.RIFLEx(base, 1, 90) if axis == 0 else base

    config = {"_class_name": "HunyuanVideoTransformer3DModel"}
    rotary = diffusers.load(config, extend=longer).rotary
    plain = diffusers.load(config).rotary
    changed = np.flatnonzero(rotary.frequencies() != plain.frequencies())
    assert changed.tolist() == [1]
    assert diffusers.load(config, extend=lambda axis, base: base).rotary == plain


def test_steps_of_diffusion_share_one_program():
    positions = diffusers.positions(FLUX, (8, 8), text=3)
    q, traces = jnp.ones((len(positions), 128)), []

    @jax.jit
    def step(q, time):
        traces.append(time)

        def scaled(axis, base):
            if axis == 0:
                return base
            return pe.frequencies.DyPE(base, factor=4.0).for_time(time)

        return diffusers.load(FLUX, extend=scaled).rotary(positions).queries(q)

    first, last = step(q, 1.0), step(q, 0.0)
    assert len(traces) == 1
    plain = diffusers.load(FLUX).rotary(positions).queries(q)
    np.testing.assert_allclose(last, plain, atol=1e-5)
    assert np.abs(first - plain).max() > 0.1
    assert np.array_equal(first[:3], q[:3])  # Text is at zero.


def test_an_image_is_a_video_of_one_frame():
    image = diffusers.positions(FLUX, (2, 3), text=1)
    video = diffusers.positions(FLUX, (1, 2, 3), text=1)
    assert np.array_equal(image, video)
    assert image.dtype == np.int32
