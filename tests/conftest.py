import pytest

import neuronpath as nph


@pytest.fixture(scope="session")
def demo():
    return nph.demo.load()
