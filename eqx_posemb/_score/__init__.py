"""The fourth place: added to the logits, with an eye on the content."""

from ._abstract import AbstractScore as AbstractScore
from ._deberta import DeBERTa as DeBERTa
from ._decomposed import Decomposed as Decomposed
from ._enformer import (
    Enformer as Enformer,
    EnformerBasis as EnformerBasis,
    KEPT as KEPT,
)
from ._from_state import (
    enformer_from_state_dict as enformer_from_state_dict,
    sam_from_state_dict as sam_from_state_dict,
    shaw_from_state_dict as shaw_from_state_dict,
    transformer_xl_from_state_dict as transformer_xl_from_state_dict,
)
from ._inkling import Inkling as Inkling
from ._music_transformer import MusicTransformer as MusicTransformer
from ._shaw import Shaw as Shaw, shaw_values as shaw_values
from ._transformer_xl import TransformerXL as TransformerXL
from ._wavlm import WavLM as WavLM
