"""Learned positions against OPT and RoBERTa as transformers has them."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import torch
from transformers import RobertaConfig
from transformers.models.opt.modeling_opt import OPTLearnedPositionalEmbedding
from transformers.models.roberta.modeling_roberta import RobertaEmbeddings

import eqx_posemb as pe
from tests.parity.references import as_numpy, as_torch, made, replaced, run


def _with(weight, **settings):
    rows, dim = weight.shape
    length = rows - settings.get("offset", 0)
    return replaced(made(pe.Learned, length, dim, **settings), weight=weight)


def test_opt_starts_at_the_third_row_and_gives_padding_the_second():
    theirs = OPTLearnedPositionalEmbedding(20, 8)
    ours = _with(theirs.weight, offset=2)
    mask = np.array([0, 0, 1, 1, 1, 1])

    def padded(encoding, mask):
        return encoding(jnp.where(mask, pe.positions.left_padded_positions(mask), -1))

    found = as_numpy(theirs(as_torch(mask[None])))[0]
    np.testing.assert_array_equal(run(padded, ours, mask.astype(bool)), found)
    np.testing.assert_array_equal(found[2], as_numpy(theirs.weight)[2])
    everywhere = run(ours, np.arange(-2, 20))
    np.testing.assert_array_equal(everywhere, as_numpy(theirs.weight))


def _roberta():
    config = RobertaConfig(
        vocab_size=30, hidden_size=8, max_position_embeddings=16, pad_token_id=1
    )
    torch.manual_seed(0)
    return RobertaEmbeddings(config)


TOKENS = np.array([[5, 6, 7, 1, 1], [5, 6, 7, 8, 9]])


def _roberta_positions():
    """RoBERTa counts tokens from the row after that of padding."""
    return as_numpy(
        RobertaEmbeddings.create_position_ids_from_input_ids(as_torch(TOKENS), 1)
    )


def test_roberta_counts_from_the_row_after_padding_which_is_zero():
    theirs = _roberta().position_embeddings
    ours = _with(theirs.weight, padding_idx=1)
    positions = _roberta_positions()
    np.testing.assert_array_equal(positions[0], [2, 3, 4, 1, 1])
    for row in positions:
        found = as_numpy(theirs(as_torch(row)))
        np.testing.assert_array_equal(run(ours, row), found)
    assert not run(ours, np.array([1])).any()


def test_the_padding_row_is_not_trained_and_the_others_are_as_in_torch():
    theirs = _roberta().position_embeddings
    # Also where the weight of padding is not zero, which torch then returns as it is.
    weight = as_numpy(theirs.weight).copy()
    weight[1] = 3.0
    ours = _with(weight, padding_idx=1)
    positions = _roberta_positions()[0]
    target = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    (theirs(as_torch(positions)) * as_torch(target)).sum().backward()

    def loss(module, positions, target):
        return (module(positions) * target).sum()

    grads = run(eqx.filter_grad(loss), ours, positions, target).weight
    assert theirs.weight.grad is not None
    np.testing.assert_array_equal(grads, as_numpy(theirs.weight.grad))
    assert not grads[1].any() and grads[2].any()
    assert not run(ours, np.array([1])).any()


def test_the_same_row_read_twice_gets_both_gradients():
    theirs = OPTLearnedPositionalEmbedding(6, 4)
    ours = _with(theirs.weight, offset=2)
    positions = np.array([3, 3, 0])
    found = theirs(None, position_ids=as_torch(positions))
    found.sum().backward()
    summed = eqx.filter_grad(lambda module, positions: module(positions).sum())
    grads = run(summed, ours, positions).weight
    assert theirs.weight.grad is not None
    np.testing.assert_array_equal(grads, as_numpy(theirs.weight.grad))
    assert (grads[5] == 2).all()
