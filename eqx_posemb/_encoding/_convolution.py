"""A convolution of the tokens, added to them."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .._checks import check_count, require
from .._layers import layer_norm
from .._module import Module
from .._phase import as_float
from .._state_dicts import array, filled, only


class PositionalConvolution(Module):
    r"""Convolutional positions of wav2vec 2.0, Baevski et al. 2020.

    It adds a grouped convolution of the tokens:

    $$y_i = x_i + \mathrm{GELU}\Big(c + \sum_{j = 0}^{K - 1}
      W_j\, x_{i + j - \lfloor K / 2 \rfloor}\Big), \qquad
      W_j = g_j\, \frac{V_j}{\lVert V_j \rVert}$$

    for $K$ taps (`kernel`), whose matrices $W_j$ are block-diagonal with `groups`
    blocks, and zeros beyond the ends. Weight normalization trains the length $g_j$
    (`gain`) and the direction $V_j$ (`weight`) of each tap. It replaces positions in
    wav2vec 2.0, HuBERT, WavLM, UniSpeech, SpeechT5 and OmniASR. data2vec stacks five
    such layers, without weight normalization and each with a layer norm before the
    GELU. It adds the last output to the tokens. SEW has a `stride`, and adds the mean
    of `stride` tokens.

    It reads tokens in a row and no positions, so it is no
    [`eqx_posemb.abstract.AbstractEncoding`][] and fills no slot. Call it once on all
    tokens of a recording, before the layers of attention. Keep a `mask` for padding,
    and do not pack several recordings into a row.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        layer = pe.PositionalConvolution(dim=64, groups=4, key=jax.random.key(0))
        x = layer(jnp.ones((50, 64)))  # [seq, dim]
        ```

    ??? cite "Reference"

        [wav2vec 2.0: A Framework for Self-Supervised Learning of Speech
        Representations](https://arxiv.org/abs/2006.11477), Section 2; weight
        normalization and the number of groups as in the released code.

        ```bibtex
        @inproceedings{baevski2020wav2vec,
            author={Baevski, Alexei and Zhou, Yuhao and Mohamed, Abdelrahman and Auli,
                    Michael},
            title={wav2vec 2.0: A Framework for Self-Supervised Learning of Speech
                   Representations},
            booktitle={Advances in Neural Information Processing Systems},
            year={2020},
        }
        ```
    """

    # Kernels have PyTorch's layout, [out, in / groups, taps], so checkpoints need no
    # transposition.
    weight: Float[Array, "layers dim each kernel"]
    gain: Float[Array, "layers kernel"] | None
    bias: Float[Array, "layers dim"]
    norm: bool = eqx.field(static=True)
    stride: int = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        *,
        kernel: int = 128,
        groups: int = 16,
        layers: int = 1,
        weight_norm: bool = True,
        norm: bool = False,
        stride: int = 1,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `dim`: The number of channels of a token.
        - `kernel`: The number of tokens that an output reads.
        - `groups`: The number of blocks of channels that do not mix.
        - `layers`: The number of convolutions after each other: 5 in data2vec.
        - `weight_norm`: Whether the length of each tap is a parameter of its own.
        - `norm`: Whether a layer norm without weights is before each GELU.
        - `stride`: How many tokens become one: 2 in SEW.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if a size is less than one, or if `groups` does not
        divide `dim`.
        """
        for name, value in (
            ("dim", dim),
            ("kernel", kernel),
            ("groups", groups),
            ("layers", layers),
            ("stride", stride),
        ):
            check_count(name, value, 1)
        rule = f"divide the {dim} channels of `dim`"
        require(dim % groups == 0, "groups", rule, groups)
        shape = layers, dim, dim // groups, kernel
        # The standard deviation equals the initial value of wav2vec 2.0 in fairseq.
        self.weight = 2 * (kernel * dim) ** -0.5 * jr.normal(key, shape)
        self.gain = _lengths(self.weight) if weight_norm else None
        self.bias = jnp.zeros((layers, dim))
        self.norm = norm
        self.stride = stride

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Any], *, prefix: str = "", stride: int = 1
    ) -> "PositionalConvolution":
        """Builds a [`eqx_posemb.PositionalConvolution`][] with the weights of a
        checkpoint.

        These names must be there, after `prefix`, which is `encoder.pos_conv_embed.` in
        most models of transformers:

        - `conv.bias`, [dim], and `conv.weight`, [dim, dim / groups, kernel].
        - With weight normalization `conv.parametrizations.weight.original0`, [1, 1,
            kernel], and `…original1` in place of `conv.weight`; in older checkpoints
            `conv.weight_g` and `conv.weight_v`.
        - For the stack of data2vec `layers.0.conv.weight`, `layers.0.conv.bias` and so
            on, whose layers have norms.

        !!! Example

            ```python
            import numpy as np
            import eqx_posemb as pe

            state = {
                "conv.weight_g": np.ones((1, 1, 128)),
                "conv.weight_v": np.ones((64, 4, 128)),
                "conv.bias": np.zeros(64),
            }
            layer = pe.PositionalConvolution.from_state_dict(state)
            ```

        **Arguments:**

        - `state`: arrays by name, of NumPy or anything that it understands.
        - `prefix`: what comes before the names.
        - `stride`: as in `PositionalConvolution`; a checkpoint does not say.

        **Returns:** the layer, in JAX's default float dtype.

        **Raises:** a `ValueError` if a name is missing or an array does not fit. The
        same if there is a batch norm, as in some configurations of HuBERT.
        """
        if f"{prefix}batch_norm.weight" in state:
            raise ValueError(
                "`state` must have no batch norm before the convolution, but got "
                f"{prefix}batch_norm.weight. Apply the batch norm in the model."
            )
        stacked = f"{prefix}layers.0.conv.bias" in state
        count = 0
        while stacked and f"{prefix}layers.{count}.conv.bias" in state:
            count += 1
        names = [f"{prefix}layers.{i}.conv." for i in range(count)]
        weights, gains, biases = [], [], []
        for name in names or [f"{prefix}conv."]:
            chosen = only(
                state, name, "weight", "weight_v", "parametrizations.weight.original1"
            )
            weights.append(array(state, chosen))
            biases.append(array(state, f"{name}bias"))
            if chosen != f"{name}weight":
                gain = only(
                    state, name, "weight_g", "parametrizations.weight.original0"
                )
                gains.append(array(state, gain).reshape(-1))
        weight = jnp.stack(weights)
        layers, dim, each, kernel = weight.shape
        made = cls(
            dim,
            kernel=kernel,
            groups=dim // each,
            layers=layers,
            weight_norm=bool(gains),
            norm=stacked,
            stride=stride,
            key=jr.key(0),
        )
        arrays = {"gain": jnp.stack(gains)} if gains else {}
        return filled(made, weight=weight, bias=jnp.stack(biases), **arrays)

    @jax.named_scope("eqx_posemb.PositionalConvolution")
    def __call__(
        self, x: Float[Array, "seq dim"], *, mask: Bool[Array, " seq"] | None = None
    ) -> Float[Array, "strided dim"]:
        """**Arguments:**

        - `x`: the tokens of one recording, in a row.
        - `mask`: False for padding, which counts as zeros.

        **Returns:**

        The tokens with the convolution added, in the dtype of `x`; computed in at least
        float32. There are `seq // stride` of them.

        **Raises:** a `ValueError` if `x` has another number of channels.
        """
        dim = self.weight.shape[1]
        rule = f"have {dim} channels, as the convolution has"
        require(x.shape[-1] == dim, "x", rule, x.shape)
        tokens = as_float(x)
        if mask is not None:
            tokens = jnp.where(mask[:, None], tokens, 0)
        count = tokens.shape[0] // self.stride
        added = tokens
        for layer in range(self.weight.shape[0]):
            stride = self.stride if layer == 0 else 1
            added = self._convolved(layer, added, stride)[:count]
        pooled = tokens[: count * self.stride].reshape(count, self.stride, dim).mean(1)
        return (pooled + added).astype(x.dtype)

    def _convolved(self, layer, x, stride):
        weight = as_float(self.weight[layer])
        if self.gain is not None:
            length = _lengths(weight[None])[0]
            weight = weight * (as_float(self.gain[layer]) / length)[None, None]
        dim, each, kernel = weight.shape
        # An even kernel reads one token more before than after.
        out = jax.lax.conv_general_dilated(
            x.T[None],
            weight.astype(x.dtype),
            (stride,),
            [(kernel // 2, (kernel - 1) // 2)],
            feature_group_count=dim // each,
            # Accelerators round the factors of a float32 convolution by default.
            precision="highest",
        )
        out = out[0].T + as_float(self.bias[layer])[None]
        if self.norm:
            out = layer_norm(out)
        # PyTorch's GELU is exact by default, and JAX's is an approximation.
        return jax.nn.gelu(out, approximate=False)


def _lengths(weight):
    """The length of each tap of each layer."""
    return jnp.sqrt((weight**2).sum((1, 2)))
