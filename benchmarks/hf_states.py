"""Whether a model type of transformers loads and agrees, or what its error says.

A type that rotates is compared by `hf_census.py`. Tables that are learned must have the
rows and channels of a table of the model. Sinusoids must have its numbers. The module
of the positions is built on the CPU for that.
"""

import contextlib
from collections import Counter
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from transformers import CONFIG_MAPPING

import eqx_posemb as pe
from benchmarks.hf_models import config_for, models_of, on_meta, plain
from eqx_posemb.interop import huggingface


AGREES = "loads and agrees"
LOADS = "loads"
PARTS = "loads by part"
NOTHING = "has no positions"
BY_HAND = "names the class to build"
UNFINISHED = "has defaults that make no model"
STATES = AGREES, LOADS, PARTS, NOTHING, BY_HAND, UNFINISHED


def print_states(rotating: dict[str, bool]) -> None:
    """A line for each model type, and how many there are of each kind; `rotating` has
    whether the rotations of a model type agree."""
    count: Counter[str] = Counter()
    for name in sorted(CONFIG_MAPPING.keys()):
        state, why = state_of(name, rotating)
        count[state] += 1
        print(f"  {name}: {state}{f': {why}' if why else ''}")
    print(f"{sum(count.values())} model types")
    for state in STATES:
        print(f"  {count[state]} of them: {state}")


def state_of(name: str, rotating: dict[str, bool]) -> tuple[str, str]:
    config = {"model_type": name}
    with contextlib.suppress(Exception):
        config = plain(config_for(name))
    try:
        embeddings = [
            huggingface.load(config, layer_type=kind)
            for kind in dict.fromkeys(huggingface.layer_types(config))
        ]
    except ValueError as error:
        return _refused(name, config, str(error), rotating)
    if name in rotating:
        return (AGREES, "") if rotating[name] else (LOADS, "differs")
    same = [_is_same(name, embedding) for embedding in embeddings]
    return (AGREES, "") if all(same) else (LOADS, "no table to compare with")


def _refused(name, config, message, rotating):
    if "`part` must be given" in message:
        return PARTS, "" if rotating.get(name, True) else "differs"
    if rotating.get(name):
        with contextlib.suppress(ValueError):
            huggingface.load(config, quirks=True)
            return AGREES, "with `quirks`"
        return PARTS, "its text has no row"
    why = message.rpartition(f"{name!r}. ")[2]
    if "no positional embedding" in why and "eqx_posemb." not in why:
        return NOTHING, ""
    return (UNFINISHED if why == message else BY_HAND), why


def _is_same(name: str, embedding: pe.PositionalEmbedding) -> bool:
    """Whether a table of the model is that of an embedding which does not rotate."""
    encoding = embedding.encoding
    if isinstance(encoding, pe.Sinusoidal | pe.ScaledSinusoidal):
        return any(_has_values(encoding, found) for found in _sines(name))
    wanted = _shape(embedding)
    model = on_meta(name, models_of(name, config_for(name))[:6])
    if wanted is None or model is None:
        return False
    tables = [*model.named_parameters(), *model.named_buffers()]
    return any(
        ("pos" in key or "wpe" in key or "bias" in key) and _rows(table) == wanted
        for key, table in tables
    )


def _shape(embedding) -> tuple[int, int] | None:
    """The rows and the channels of a table, with the rows before its grid."""
    encoding, bias = embedding.encoding, embedding.bias
    if isinstance(encoding, pe.LearnedGrid):
        *cells, dim = encoding.weight.shape
        tokens = 0 if encoding.prefix is None else len(encoding.prefix)
        return tokens + int(np.prod(cells)), dim
    if isinstance(encoding, pe.Learned):
        rows, dim = encoding.weight.shape
        return rows, dim
    if isinstance(bias, pe.T5Bias):
        buckets, heads = bias.weight.shape
        return buckets, heads
    return None


def _rows(table) -> tuple[int, int]:
    return (
        int(np.prod(table.shape[:-1])),
        int(table.shape[-1]) if table.ndim else 0,
    )


def _has_values(encoding: pe.Sinusoidal | pe.ScaledSinusoidal, table) -> bool:
    offset = getattr(encoding, "offset", 0)
    found = np.asarray(encoding(jnp.arange(len(table) - offset)))
    if found.shape[-1] != table.shape[-1]:
        return False
    return bool(np.abs(found - table[offset:]).max() < 1e-4)


# Sizes that leave positions as they are.
SMALL = dict.fromkeys(
    ("vocab_size", "src_vocab_size", "tgt_vocab_size", "intermediate_size", "dff"), 64
)
SHALLOW = dict.fromkeys(
    (
        "num_hidden_layers",
        "encoder_layers",
        "decoder_layers",
        "n_layer",
        "layers",
        "num_layers",
    ),
    1,
)


def _sines(name: str):
    """The tables of sines and cosines of a small model with weights, first rows."""
    config = config_for(name)
    sizes = {k: v for k, v in {**SMALL, **SHALLOW}.items() if hasattr(config, k)}
    for key, value in sizes.items():
        with contextlib.suppress(Exception):
            setattr(config, key, value)
    for cls in models_of(name, config)[:6]:
        try:
            model = cls(config)
        except Exception:
            continue
        for module in model.modules():
            held = {**dict(module.named_parameters(recurse=False)), **vars(module)}
            held |= dict(module.named_buffers(recurse=False))
            yield from map(_first, filter(_is_table, held.values()))
            if (
                "Sinusoidal" in type(module).__name__
                or "Positional" in type(module).__name__
            ):
                yield from _called(module, config)
        return


def _is_table(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and 2 <= value.ndim <= 3 and len(value) > 0


def _first(table) -> np.ndarray:
    return table.detach().reshape(-1, table.shape[-1])[:16].double().numpy()


def _called(module, config):
    """What a module returns that has no table, for 16 tokens."""
    dim = getattr(config, "hidden_size", getattr(config, "d_model", 0))
    for given in (16, torch.zeros(1, 16, dim), torch.arange(16)):
        with contextlib.suppress(Exception):
            yield _first(module(given))
