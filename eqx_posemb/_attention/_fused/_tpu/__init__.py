"""The kernels for TPUs."""

from ._backward import backward as backward
from ._forward import forward as forward
from ._tiles import Tiles as Tiles
