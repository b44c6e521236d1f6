"""The names at the top: what most models are built from."""

from ._bias._alibi import ALiBi as ALiBi
from ._bias._bam import BAM as BAM
from ._bias._beit import BEiTBias as BEiTBias
from ._bias._clipped import ClippedBias as ClippedBias
from ._bias._dynamic import DynamicBias as DynamicBias
from ._bias._fire import FIRE as FIRE
from ._bias._forgetting import ForgetGate as ForgetGate, Forgetting as Forgetting
from ._bias._grid_alibi import GridALiBi as GridALiBi
from ._bias._kerple import KERPLE as KERPLE
from ._bias._learned_alibi import LearnedALiBi as LearnedALiBi
from ._bias._levit import LeViTBias as LeViTBias
from ._bias._log_cpb import LogCPB as LogCPB
from ._bias._reset import ResetBias as ResetBias
from ._bias._sandwich import Sandwich as Sandwich
from ._bias._sum import SumBias as SumBias
from ._bias._swin import SwinBias as SwinBias
from ._bias._t5 import T5Bias as T5Bias
from ._bias._t5_grid import T5GridBias as T5GridBias
from ._bias._tisa import TISA as TISA
from ._bias._tupe import TUPE as TUPE, tupe as tupe
from ._bundle import PositionalEmbedding as PositionalEmbedding
from ._compare._compare import compare as compare
from ._compare._comparison import Comparison as Comparison
from ._encoding._axial import AxialLearned as AxialLearned
from ._encoding._box import LearnedBox as LearnedBox
from ._encoding._convolution import PositionalConvolution as PositionalConvolution
from ._encoding._fourier import Fourier as Fourier, GaussianFourier as GaussianFourier
from ._encoding._learned import Learned as Learned
from ._encoding._learned_fourier import LearnedFourier as LearnedFourier
from ._encoding._learned_grid import LearnedGrid as LearnedGrid
from ._encoding._scaled_sinusoidal import ScaledSinusoidal as ScaledSinusoidal
from ._encoding._sinusoidal import Sinusoidal as Sinusoidal
from ._encoding._sinusoidal_grid import SinusoidalGrid as SinusoidalGrid
from ._make import make as make
from ._placed import Placed as Placed
from ._registry import variants as variants
from ._rotary._comrope import ComRoPE as ComRoPE
from ._rotary._extension import (
    DualChunk as DualChunk,
    ReRoPE as ReRoPE,
    SelfExtend as SelfExtend,
)
from ._rotary._fope import FoPE as FoPE
from ._rotary._lie import LieRE as LieRE
from ._rotary._nope import NoPE as NoPE
from ._rotary._path import PaTH as PaTH
from ._rotary._pope import PoPE as PoPE
from ._rotary._recipes._axes import (
    axial_rope as axial_rope,
    mixed_rope as mixed_rope,
    mrope as mrope,
    string_rope as string_rope,
)
from ._rotary._recipes._by_parts import (
    llama3_rope as llama3_rope,
    longrope as longrope,
    yarn as yarn,
)
from ._rotary._recipes._diffusion import (
    dype_rope as dype_rope,
    riflex_rope as riflex_rope,
)
from ._rotary._recipes._periods import (
    clipped_rope as clipped_rope,
    resonance_rope as resonance_rope,
    rope_id as rope_id,
)
from ._rotary._recipes._rope import (
    grape_rope as grape_rope,
    proportional_rope as proportional_rope,
    rope as rope,
    xpos as xpos,
)
from ._rotary._recipes._scaling import (
    dynamic_ntk_rope as dynamic_ntk_rope,
    linear_rope as linear_rope,
    ntk_rope as ntk_rope,
)
from ._rotary._rotary import Rotary as Rotary
from ._rotary._temperature import (
    ScalableSoftmax as ScalableSoftmax,
    Temperature as Temperature,
)
from ._rotary._wall import Wall as Wall
from ._score._cope import CoPE as CoPE
from ._score._deberta import DeBERTa as DeBERTa
from ._score._decomposed import Decomposed as Decomposed
from ._score._enformer import Enformer as Enformer
from ._score._inkling import Inkling as Inkling
from ._score._music_transformer import MusicTransformer as MusicTransformer
from ._score._shaw import Shaw as Shaw
from ._score._transformer_xl import TransformerXL as TransformerXL
from ._score._wavlm import WavLM as WavLM
