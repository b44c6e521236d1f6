"""The kernels of a GPU: interpreted on a CPU, and lowered for GPUs that are not there.

No test runs on a GPU.
"""

import tempfile
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

import eqx_posemb as pe
from eqx_posemb._attention._fused import _call, _sizes
from tests.test_fused import (
    assert_as_exact_as_dense,
    assert_same,
    both_ways,
    Hidden,
    qkv,
    T5,
)
from tests.test_fused_choice import a_gpu_elsewhere, FAR, KERNEL, kernels, WIDE


# JAX 0.12 announces that Pallas will have no Triton.
pytestmark = pytest.mark.filterwarnings("ignore:The Pallas Triton backend")


@pytest.fixture
def interpreted(monkeypatch):
    """A CPU interprets the kernels of a GPU, with small tiles."""
    monkeypatch.setattr(_call, "INTERPRETED", "gpu")
    monkeypatch.setattr(_sizes, "gpu_tile", lambda width, itemsize: (64, 16))
    # A trace has the kernels of the platform that was interpreted when it was made.
    jax.clear_caches()
    yield
    jax.clear_caches()


IDS = jnp.repeat(jnp.arange(4, dtype=jnp.int32), 25)
SEGMENTS = dict(q_segments=IDS, k_segments=IDS)
# Lengths that fill no block, starts that differ, and all rules.
CASES = {
    "everything": (T5, (70, 100), (0, 0), dict()),
    "no bias, causal": (
        pe.PositionalEmbedding(),
        (100, 100),
        (0, 0),
        dict(causal=True),
    ),
    "hidden keys": (
        pe.PositionalEmbedding(bias=Hidden()),
        (70, 70),
        (0, 0),
        dict(causal=True),
    ),
    "keys of the past": (T5, (70, 100), (60, 0), dict(causal=True)),
    "queries without a key": (T5, (100, 70), (0, 50), dict(causal=True)),
    "window, soft cap, segments": (
        T5,
        (100, 100),
        (0, 0),
        dict(window=(5, 40), soft_cap=1.5, q_segments=IDS, k_segments=IDS + 1),
    ),
    "causal window, segments": (
        T5,
        (100, 100),
        (5, 5),
        dict(causal=True, window=30, **SEGMENTS),
    ),
}


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("embedding, counts, starts, rules", CASES.values(), ids=CASES)
def test_a_gpu_has_the_attention_that_is_defined(embedding, counts, starts, rules):
    def attend(implementation, embedding, q, k, v):
        p = map(pe.positions.consecutive, counts, starts)
        return embedding.attend(q, k, v, *p, implementation=implementation, **rules)

    assert_same(*both_ways(attend, (embedding, *qkv(*counts))))


@pytest.mark.usefixtures("interpreted")
def test_bfloat16_is_as_exact_as_dense():
    assert_as_exact_as_dense(100)


def fused(x):
    p = pe.positions.consecutive(1024)
    return FAR.attend(x, x, x, p, p, causal=True, implementation="pallas")


def squared(call):
    return lambda x: jnp.sum(call(x) ** 2)


@pytest.mark.usefixtures("interpreted")
def test_products_of_float32_are_exact():
    """Triton would multiply in TF32."""
    traced = jax.jit(jax.grad(squared(fused))).trace(WIDE)
    text = traced.lower(lowering_platforms=("cpu",)).as_text().splitlines()
    products = [line for line in text if "dot_general" in line]
    assert products and all("HIGHEST" in line for line in products)


# Heads of keys, channels of keys and of values, a dtype, a bias, and rules.
LOWERED = (
    (4, 64, 64, jnp.bfloat16, False, dict()),
    (1, 64, 64, jnp.float32, True, dict(causal=True)),
    (2, 96, 96, jnp.bfloat16, True, dict(window=300, soft_cap=30.0)),
    (4, 128, 128, jnp.bfloat16, True, dict(causal=True, window=300)),
    (1, 128, 128, jnp.float32, False, dict(segments=True)),
    (4, 192, 128, jnp.bfloat16, False, dict(causal=True, segments=True)),
    (2, 1, 3, jnp.float32, True, dict()),
    (2, 256, 256, jnp.float32, True, dict(causal=True)),
)


@pytest.mark.parametrize("case", LOWERED)
def test_kernels_are_lowered_for_a_gpu(case):
    kv_heads, dim, dim_v, dtype, has_bias, rules = case
    bias = pe.T5Bias(4, key=jax.random.key(0)) if has_bias else None
    embedding, seq = pe.PositionalEmbedding(bias=bias), 1000
    rules = dict(rules)
    if rules.pop("segments", False):
        ids = jnp.arange(seq, dtype=jnp.int32) // 300
        rules |= dict(q_segments=ids, k_segments=ids)

    def attend(embedding, *tokens):
        p = pe.positions.consecutive(seq)
        out = embedding.attend(*tokens, p, p, implementation="pallas", **rules)
        return jnp.sum(out.astype(jnp.float32) ** 2)

    heads = ((4, dim), (kv_heads, dim), (kv_heads, dim_v))
    tokens = [jax.ShapeDtypeStruct((h, seq, size), dtype) for h, size in heads]
    gradient = jax.grad(attend, (0, 1, 2, 3))
    assert kernels(attend, "cuda", embedding, *tokens) == 1
    assert kernels(gradient, "cuda", embedding, *tokens) == 3 + has_bias


def test_layers_are_mapped_scanned_checkpointed_and_exported():
    layer = lambda x, _: (x + jax.checkpoint(jax.vmap(fused))(x), None)
    layers = squared(lambda x: jax.lax.scan(layer, x, length=2)[0])
    x = jax.ShapeDtypeStruct((2, *WIDE.shape), WIDE.dtype)
    names = "__gpu$xla.gpu.triton", "triton_kernel_call_ffi"
    checks = [jax.export.DisabledSafetyCheck.custom_call(name) for name in names]
    with a_gpu_elsewhere("cuda"):
        call = jax.export.export(
            jax.jit(jax.grad(layers)), platforms=["cuda"], disabled_checks=checks
        )
        text = call(x).mlir_module()
    # Both passes compute the attended values.
    assert len(KERNEL.findall(text)) == 5


CAPABILITIES = {"7.5": False, "8.0": True, "12.0": True, "gfx942": True}


@pytest.mark.parametrize("capability, runs", CAPABILITIES.items())
def test_kernels_need_a_gpu_that_triton_compiles_for(monkeypatch, capability, runs):
    device = SimpleNamespace(compute_capability=capability)
    monkeypatch.setattr(jax, "local_devices", lambda backend: [device])
    assert _sizes.runs_triton() == runs


# Heads of keys, channels, and a dtype: the largest tiles, and the widest heads.
COMPILED = (
    (1, 64, jnp.bfloat16),
    (2, 128, jnp.bfloat16),
    (2, 256, jnp.bfloat16),
    (2, 64, jnp.float32),
    (2, 256, jnp.float32),
)


@pytest.mark.thorough
@pytest.mark.parametrize("kv_heads, dim, dtype", COMPILED)
def test_kernels_fit_into_the_memory_of_every_gpu(kv_heads, dim, dtype):
    """Compiled by Triton, which needs no GPU."""
    pytest.importorskip("triton")
    tokens = [jax.ShapeDtypeStruct((h, 1024, dim), dtype) for h in (2, *[kv_heads] * 2)]
    ids = jax.ShapeDtypeStruct((1024,), jnp.int32)

    def loss(embedding, q, k, v, ids):
        p = pe.positions.consecutive(1024)
        rules = dict(causal=True, soft_cap=30.0, q_segments=ids, k_segments=ids)
        out = embedding.attend(q, k, v, p, p, implementation="pallas", **rules)
        return jnp.sum(out.astype(jnp.float32) ** 2)

    gradient = jax.jit(jax.grad(loss, (0, 1, 2, 3)))
    lowered = gradient.trace(T5, *tokens, ids).lower(lowering_platforms=("cuda",))
    sizes = [shared_memory(*kernel) for kernel in sources(lowered)]
    assert len(sizes) == 4 and max(sizes) <= 99 * 2**10


def sources(lowered):
    """The programs of kernels in the language of Triton, and their settings."""
    from jax._src.pallas.triton.lowering import _new_ir_context
    from jax.extend.mlir import ir

    found = []

    def visit(operation):
        config = operation.attributes.get("mhlo.backend_config")
        if config is not None and "num_warps" in config:
            names = "num_warps", "num_stages"
            settings = {name: int(config[name].value) for name in names}
            found.append((config["ir"].value_bytes, settings))
        return ir.WalkResult.ADVANCE

    lowered.compiler_ir().operation.walk(visit)
    with _new_ir_context():
        return [(str(ir.Module.parse(code)), settings) for code, settings in found]


def shared_memory(source, settings):
    """The bytes of shared memory that a compiled program takes."""
    triton = pytest.importorskip("triton")
    targets = pytest.importorskip("triton.backends.compiler")
    with tempfile.NamedTemporaryFile("w", suffix=".ttir") as file:
        file.write(source)
        file.flush()
        target = targets.GPUTarget("cuda", 80, 32)
        compiled = triton.compile(file.name, target=target, options=settings)
    return compiled.metadata.shared
