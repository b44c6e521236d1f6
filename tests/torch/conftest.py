"""How tests of PyTorch run: on one thread."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tensors are small here: more threads would wait for each other."""
    torch = pytest.importorskip("torch", reason='needs torch: pip install -e ".[test]"')
    torch.set_num_threads(1)
