"""The identity as a rotary embedding."""

from jaxtyping import Array, Float, Num

from .._given import Positions
from ._abstract import AbstractRotary, AbstractRotation


# The identity does not depend on positions, so one class is the embedding and its
# rotation.
class NoPE(AbstractRotary, AbstractRotation):
    r"""Leaves queries and keys as they are: no positional embedding.

    $$q \mapsto q, \qquad k \mapsto k$$

    A causal decoder still learns something of position from the mask alone, since the
    first token sees one key, the second two, and so on. It stands wherever a
    [`eqx_posemb.Rotary`][] does, and so serves the layers without position that Llama 4
    or SmolLM3 have between rotary ones. Without a causal mask the tokens are a set.

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
