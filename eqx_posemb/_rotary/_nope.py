"""The identity as a rotary embedding."""

from jaxtyping import Array, Float, Num

from .._given import Positions
from ._abstract import AbstractRotary, AbstractRotation


# The identity does not depend on positions, so one class is the embedding and its
# rotation.
class NoPE(AbstractRotary, AbstractRotation):
    r"""No positional embedding (NoPE), Kazemnejad et al. 2023.

    It does not change queries and keys:

    $$q \mapsto q, \qquad k \mapsto k$$

    A causal decoder still learns some order from the mask, since the first token
    attends to one key, the second token to two keys, and so on. It replaces a
    [`eqx_posemb.Rotary`][] in layers without positions, which Llama 4 and SmolLM3 have
    between rotary layers. Without a causal mask, the tokens are a set.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        q = jnp.ones((10, 64))
        assert pe.NoPE()(jnp.arange(10)).queries(q) is q
        ```

    ??? cite "Reference"

        [The Impact of Positional Encoding on Length Generalization in
        Transformers](https://arxiv.org/abs/2305.19466).

        ```bibtex
        @inproceedings{kazemnejad2023impact,
            author={Kazemnejad, Amirhossein and Padhi, Inkit and Natesan Ramamurthy,
                    Karthikeyan and Das, Payel and Reddy, Siva},
            title={The Impact of Positional Encoding on Length Generalization in
                   Transformers},
            booktitle={Advances in Neural Information Processing Systems},
            year={2023},
        }
        ```
    """

    @property
    def heads(self) -> None:
        """All heads are treated alike."""
        return None

    def __call__(self, positions: Num[Positions, "seq *axes"]) -> "NoPE":
        """Returns itself: it is the same at all positions."""
        del positions
        return self

    def queries(self, q: Float[Array, "... dim"]) -> Float[Array, "... dim"]:
        """Returns `q`."""
        return q

    def keys(self, k: Float[Array, "... dim"]) -> Float[Array, "... dim"]:
        """Returns `k`."""
        return k

    def inverse(self) -> "NoPE":
        """Returns itself."""
        return self
