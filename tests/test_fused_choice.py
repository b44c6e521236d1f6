"""Where attention is fused by itself, and what the kernels compile to."""

import contextlib
import functools
import re
import sys

import jax
import jax.numpy as jnp
import pytest

import eqx_posemb as pe
from docs.tables import KERNELS, with_kernels
from eqx_posemb._attention._fused import _sizes
from eqx_posemb._attention._fused._sizes import block, keeps
from eqx_posemb._attention._platform import by_platform
from tests.test_ring import finish, start


# JAX 0.12 announces that Pallas will have no Triton.
pytestmark = pytest.mark.filterwarnings("ignore:The Pallas Triton backend")
# Large enough for `"auto"` to leave the dense form on a CPU, and traced alone.
WIDE = jax.ShapeDtypeStruct((8, 1024, 16), jnp.float32)
FAR = pe.PositionalEmbedding(bias=pe.ALiBi(8))


def automatic(x, implementation="auto"):
    p = pe.positions.consecutive(1024)
    rules = dict(causal=True, implementation=implementation)
    return jnp.sum(FAR.attend(x, x, x, p, p, **rules) ** 2)


asked = functools.partial(automatic, implementation="pallas")


# What a kernel is for the compiler of each platform, by JAX.
KERNEL = re.compile(r"custom_call @(tpu_custom_call|\S*triton\S*?)\(")


def kernels(function, platform, *arguments):
    with a_gpu_elsewhere(platform):
        traced = jax.jit(function).trace(*arguments)
        lowered = traced.lower(lowering_platforms=(platform,))
    return len(KERNEL.findall(lowered.as_text()))


def a_gpu_elsewhere(platform):
    """JAX 0.12 asks for the kind of a GPU, and JAX 0.10 does not."""
    if platform in ("cpu", "tpu") or jax.__version_info__ < (0, 11):
        return contextlib.nullcontext()
    from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

    kind = "gfx942" if platform == "rocm" else "NVIDIA H100"
    device = AbstractDevice(device_kind=kind, num_cores=None, platform="gpu")
    return use_abstract_mesh(AbstractMesh((), (), abstract_device=device))


# A GPU has a kernel of its own for the gradient of a strip.
@pytest.mark.parametrize(
    "attend, platform, count",
    [(automatic, "tpu", 3), (asked, "cuda", 4), (asked, "rocm", 4)],
    ids=["tpu", "cuda", "rocm"],
)
def test_an_accelerator_has_the_kernels(attend, platform, count):
    gradient = jax.grad(attend)
    assert kernels(attend, platform, WIDE) == 1
    assert kernels(gradient, platform, WIDE) == count
    batch = jax.ShapeDtypeStruct((2, *WIDE.shape), WIDE.dtype)
    assert kernels(jax.vmap(gradient), platform, batch) == count


def test_vectors_whose_gradient_does_not_fit_have_a_kernel_forward_alone(monkeypatch):
    score = pe.TransformerXL(8, 16, 8, key=jax.random.key(0))

    def attend(x):
        p = pe.positions.consecutive(1024)
        out = pe.PositionalEmbedding(score=score).attend(x, x, x, p, p, causal=True)
        return jnp.sum(out**2)

    assert kernels(jax.grad(attend), "tpu", WIDE) == 3
    monkeypatch.setattr(_sizes, "memory", lambda: 2**18)
    assert kernels(jax.grad(attend), "tpu", WIDE) == 1


def test_automatically_another_derivative_is_there_and_has_no_kernel():
    gradient = jax.grad(automatic)
    assert kernels(jax.grad(lambda x: jnp.sum(gradient(x))), "tpu", WIDE) >= 1


@pytest.fixture
def in_64_bits():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.mark.usefixtures("in_64_bits")
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_kernels_are_there_where_64_bits_are_enabled(platform):
    def attend(x):
        p = pe.positions.consecutive(1024)
        rules = dict(causal=True, implementation="pallas")
        return jnp.sum(pe.PositionalEmbedding().attend(x, x, x, p, p, **rules))

    assert kernels(jax.grad(attend), platform, WIDE) == 3


@pytest.mark.usefixtures("in_64_bits")
@pytest.mark.parametrize("implementation, count", [("pallas", 1), ("blockwise", 0)])
def test_scores_keep_their_dtypes_where_64_bits_are_enabled(implementation, count):
    embedding = pe.PositionalEmbedding(score=pe.Shaw(16, key=jax.random.key(0)))

    def attend(x):
        p = pe.positions.consecutive(1024)
        return embedding.attend(x, x, x, p, p, implementation=implementation)

    assert kernels(attend, "tpu", WIDE) == count


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_automatically_other_platforms_have_no_kernel(platform):
    assert kernels(jax.grad(automatic), platform, WIDE) == 0


GOES_BY_BLOCKS = "ignore:`implementation='pallas'` goes by blocks"


@pytest.mark.filterwarnings(GOES_BY_BLOCKS)
def test_a_gpu_that_triton_does_not_compile_for_has_no_kernel(monkeypatch):
    monkeypatch.setattr(_sizes, "runs_triton", lambda: False)
    assert kernels(jax.grad(asked), "cuda", WIDE) == 0


@pytest.mark.filterwarnings(GOES_BY_BLOCKS)
def test_without_triton_in_pallas_a_gpu_has_no_kernel(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax.experimental.pallas.triton", None)
    assert kernels(jax.grad(asked), "cuda", WIDE) == 0
    assert kernels(automatic, "tpu", WIDE) == 1


@pytest.mark.filterwarnings(GOES_BY_BLOCKS)
def test_a_gpu_that_jax_asks_for_has_a_name(monkeypatch):
    monkeypatch.setattr(jax, "__version_info__", (0, 12, 0))
    gradient = jax.jit(jax.grad(asked))
    unnamed = gradient.trace(WIDE).lower(lowering_platforms=("cuda",)).as_text()
    assert not KERNEL.findall(unnamed)
    assert kernels(gradient, "cuda", WIDE) == 4


def test_outside_of_jit_a_gpu_has_its_own_form(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    forms = dict(cuda=lambda x: x + 1, default=lambda x: x)
    x = jnp.zeros(2)
    assert by_platform(forms, jax.ShapeDtypeStruct(x.shape, x.dtype), x).sum() == 2


def test_automatically_traced_positions_have_no_kernel():
    def attend(x, p):
        return FAR.attend(x, x, x, p, p, causal=True)

    p = jax.ShapeDtypeStruct((1024,), jnp.int32)
    assert kernels(attend, "tpu", WIDE, p) == 0


def test_products_have_the_precision_that_is_set_where_they_are_traced():
    with jax.default_matmul_precision("highest"):
        traced = jax.jit(jax.grad(automatic)).trace(WIDE)
    for platform in "cpu", "cuda":
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        products = [line for line in text.splitlines() if "dot_general" in line]
        assert products and all("HIGHEST" in line for line in products)


def test_a_choice_by_platform_keeps_no_logits_for_its_derivative():
    x, p = jnp.zeros(WIDE.shape), jnp.arange(1024)[::-1]
    attend = lambda x: jnp.sum(FAR.attend(x, x, x, p, p, causal=True) ** 2)
    _, pull = jax.vjp(attend, x)
    # 32 MiB are all logits in float32.
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(pull)) < 2**22
    twice = jax.grad(lambda x: jnp.sum(jax.grad(attend)(x) ** 2))
    assert jax.eval_shape(twice, x).shape == x.shape


def test_one_program_is_exported_for_all_platforms():
    platforms = "cpu", "cuda", "rocm", "tpu"
    program = jax.export.export(jax.jit(jax.grad(automatic)), platforms=platforms)
    text = program(WIDE).mlir_module()
    assert KERNEL.findall(text) == ["tpu_custom_call"] * 3


def test_a_cpu_is_not_asked_what_a_tpu_is_compiled_for():
    """Heads in parts are for the caches of a CPU: as many loops are not for others."""

    def attend(x):
        p = jnp.arange(1024)
        return pe.PositionalEmbedding().attend(
            x, x, x, p, p, implementation="blockwise"
        )

    loops = [
        jax.jit(attend)
        .trace(WIDE)
        .lower(lowering_platforms=(platform,))
        .as_text()
        .count("stablehlo.while")
        for platform in ("cpu", "tpu")
    ]
    assert loops[0] == loops[1] + 1


def test_blocks_are_as_large_as_they_fill():
    sizes = {1: 128, 128: 128, 130: 256, 300: 512, 600: 1024, 1000: 1024, 1100: 512}
    assert {count: block(count, None) for count in sizes} == sizes
    assert block(8192, None) == 1024 and block(8192, 256) == 256
    assert keeps(2 * 8192) and not keeps(2 * 16384)


def test_kernels_of_shards_are_the_whole():
    printed = finish(start(4, module="tests.fused", EQX_ON_ERROR="off"))
    for done in (
        "shards are as the whole",
        "shards have kernels",
        "a ring of kernels is as",
        "Explicit axes have kernels",
        "what the compiler shards has none",
    ):
        assert done in printed


@pytest.mark.thorough
@pytest.mark.parametrize("tpu", ["v4", "v5e", "v5p", "v6e", "tpu7x"])
def test_kernels_compile_for_every_tpu(tpu):
    pytest.importorskip("libtpu")
    # The compiler of TPUs does not know the flags of the tests.
    process = start(1, tpu, module="tests.fused_compiled", XLA_FLAGS="")
    assert f"compiled for {tpu}" in finish(process)


def test_the_guide_has_what_a_tpu_has_for_every_row():
    page = KERNELS.read_text()
    assert page == with_kernels(page), "run `make tables`"
    marks = "^The page must have one part between the marks of `kernels`.$"
    with pytest.raises(ValueError, match=marks):
        with_kernels("")
