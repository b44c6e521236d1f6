"""BAM against `models/bam.py` of ArthurSBianchessi/BAM at 5a6579d."""

import numpy as np

import eqx_posemb as pe
from tests.parity.references import golden, replaced, run


BAM = golden("bam")
POSITIONS = np.arange(24)


def bias(part):
    return run(lambda part, p: part(p, p), part, POSITIONS)


def test_bam_starts_as_the_authors_do():
    np.testing.assert_allclose(bias(pe.BAM(heads=6)), BAM["start"], rtol=1e-6)


def test_bam_has_the_shape_the_scale_and_the_location_of_each_head():
    names = dict(shape=BAM["shape"], log_scale=BAM["scale"], location=BAM["loc"])
    found = bias(replaced(pe.BAM(heads=6), **names))
    # Powers of float32, whose bases are sums that cancel by up to two digits.
    np.testing.assert_allclose(found, BAM["bias"], rtol=5e-5)
