"""Settings of a wrong type, at every constructor: an error in few words."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe


BASE, SIX = pe.frequencies.Geometric(8), pe.frequencies.Geometric(12)
REQUIRED = dict(
    axes=2,
    back=4,
    base=BASE,
    beta=0.1,
    bias=pe.ALiBi(2),
    chunk=4,
    clip=8,
    count=2,
    dim=8,
    factor=4.0,
    fraction=0.5,
    frequencies=BASE,
    group=2,
    head_dim=8,
    heads=2,
    height=4,
    hidden=8,
    keep=2,
    key=np.zeros(2, np.uint32),
    length=64,
    long=BASE,
    original_length=8,
    pair=2,
    rotary=pe.rope(8),
    shape=(4, 4),
    short=BASE,
    size=4,
    sizes=(2, 1, 1),
    theta=1e4,
    training_length=16,
    weight=jnp.ones(4),
    width=4,
    window=(3, 3),
)
WRONG = "8", object(), [1.5]


def settings():
    """Every number and every key that a class or a recipe has as a setting."""
    for module in pe, pe.frequencies:
        for name in filter(lambda name: name[0] != "_", dir(module)):
            make = getattr(module, name)
            if not callable(make) or inspect.isabstract(make):
                continue
            parameters = inspect.signature(make).parameters.values()
            needed = {p.name for p in parameters if p.default is p.empty}
            if not needed <= REQUIRED.keys() or "config" in needed:
                continue
            for parameter in parameters:
                kind = str(parameter.annotation)
                if parameter.annotation in (int, float) or "PRNGKey" in kind:
                    yield pytest.param(
                        make, needed, parameter.name, id=f"{name}.{parameter.name}"
                    )


@pytest.mark.parametrize("make, needed, name", list(settings()))
@pytest.mark.usefixtures("as_users_have_it")
def test_a_setting_of_a_wrong_type_is_an_error_in_few_words(make, needed, name):
    given = {needed: REQUIRED[needed] for needed in needed}
    for wrong in WRONG:
        with pytest.raises((ValueError, TypeError), match="`") as error:
            make(**given | {name: wrong})
        assert len(str(error.value)) < 350
