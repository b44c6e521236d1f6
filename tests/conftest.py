"""How all tests run: strict, reproducible, and compiled without optimization."""

import functools
import gc
import importlib.util
import itertools
import os
from pathlib import Path

import equinox as eqx
import hypothesis as hp
import jax
import jaxtyping
import pytest
from jax._src.interpreters import mlir


# Tracing makes many objects and few cycles: collecting cycles as often as Python does
# takes a twentieth of the time of all tests.
gc.set_threshold(100_000, 20, 50)
# JAX 0.10 makes a context of MLIR for each program, which takes longer than the rest of
# its lowering, and keeps a megabyte of each. One serves all programs, as ten share one
# since JAX 0.12. The function is private to JAX, and may disappear.
if hasattr(mlir, "make_ir_context"):
    mlir.make_ir_context = functools.cache(mlir.make_ir_context)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# With JAX_COMPILATION_CACHE_DIR in the environment, JAX keeps compiled programs there.
# Each of ours takes less time than JAX would keep a program for.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# A test runs its program once, and optimizing the program takes longer than running it.
UNOPTIMIZED = (
    "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
)
if jax.__version_info__ < (0, 11):  # XLA stops at a flag that it does not have.
    UNOPTIMIZED += " --xla_cpu_use_fusion_emitters=false"

FOLDER = Path(__file__).parent
# What `pytest` runs without options. In these files it leaves out thorough tests.
QUICK = (
    "messages",
    "test_huggingface.py",
    "test_huggingface_errors.py",
    "test_inspect.py",
    "test_laws.py",
    "test_layers.py",
    "test_messages.py",
    "test_registry.py",
    "test_schedules.py",
)
# What the extra `test` installs in addition to the extra `test-quick`.
HEAVY = {
    "flax",
    "matplotlib",
    "mpmath",
    "optax",
    "sklearn",
    "torch",
    "transformers",
}

# Files with tests of half a minute, most of it in other processes.
LONGEST = {"test_bridge.py", "test_examples.py", "test_ring.py"}

# The same code has the same result. `--hypothesis-profile=default` looks further.
hp.settings.register_profile("repeatable", derandomize=True)
hp.settings.load_profile("repeatable")


def pytest_addoption(parser):
    parser.addoption(
        "--all",
        action="store_true",
        help="run all tests, and not only a quick subset or the files that are named",
    )
    parser.addoption(
        "--optimized",
        action="store_true",
        help="compile with the optimizations that users have, which takes longer",
    )


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "thorough: runs with `--all`, or where its file is named"
    )
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        config.option.all = True
    # XLA reads its flags when it compiles the first program. Subprocesses inherit them.
    flags = os.environ.get("XLA_FLAGS", "")
    if not config.option.optimized and UNOPTIMIZED not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {UNOPTIMIZED}".strip()
    missing = {name for name in HEAVY if importlib.util.find_spec(name) is None}
    if missing and "CI" in os.environ:
        raise pytest.UsageError(f"CI must run all tests, and lacks {sorted(missing)}.")


def pytest_ignore_collect(collection_path, config):
    if config.option.all or collection_path == FOLDER:
        return None
    return collection_path.relative_to(FOLDER).parts[0] not in QUICK or None


def pytest_collection_modifyitems(config, items):
    if config.option.all:
        # The longest tests come first, or one worker would wait for the other.
        items.sort(key=lambda item: item.path.name not in LONGEST)
        return
    is_thorough = lambda item: item.get_closest_marker("thorough") is not None
    config.hook.pytest_deselected(items=list(filter(is_thorough, items)))
    items[:] = itertools.filterfalse(is_thorough, items)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Skips the files that import a package which only the extra `test` installs."""
    report = yield
    error = report.call.excinfo and report.call.excinfo.value.__cause__
    if reason := lacks(error):
        report.outcome, report.longrepr = "skipped", (str(collector.path), 0, reason)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Skips the tests that import such a package when they run."""
    try:
        return (yield)
    except ModuleNotFoundError as error:
        if reason := lacks(error):
            pytest.skip(reason)
        raise


def lacks(error: BaseException | None) -> str | None:
    """Which package of the extra `test` is missing, if that is the error."""
    if isinstance(error, ModuleNotFoundError) and error.name in HEAVY:
        return f'needs {error.name}: pip install -e ".[test]"'
    return None


# A compiled program holds regions of memory until JAX forgets the program. Linux gives
# 65,530 regions to a process, and all tests together need more.
MOST_REGIONS = 40_000
MAPS = Path("/proc/self/maps")
_tests_seen = itertools.count(1)


def pytest_runtest_teardown():
    seen = next(_tests_seen)
    if not MAPS.exists():  # Other systems have no limit but memory.
        full = seen % 500 == 0
    else:
        full = seen % 20 == 0 and MAPS.read_bytes().count(b"\n") > MOST_REGIONS
    if full:
        eqx.clear_caches()
        jax.clear_caches()


@pytest.fixture(
    params=[
        pytest.param(False, id="x32"),
        pytest.param(True, id="x64", marks=pytest.mark.thorough),
    ]
)
def x64(request):
    """Runs a test in both modes, and says which one it is."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", request.param)
    yield request.param
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def as_users_have_it():
    """Without the shape checks of the test run, so that our own messages are seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def refused(capsys):
    """Runs what cannot be done as asked, for its one line and nothing else."""

    def run(*words):
        from eqx_posemb.__main__ import main

        try:
            code = main(words)
        except SystemExit as exit:
            code = exit.code
        printed = capsys.readouterr()
        assert code == 2
        assert printed.out == ""
        err = printed.err.removeprefix("Reading\n")
        assert err.count("\n") == 1 and err.endswith("\n")
        return err.rstrip("\n")

    return run
