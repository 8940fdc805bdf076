"""What a hand-made file may hold, and what it may not."""

import pytest
import torch

import neuronpath as nph
from neuronpath.paths.documents import check_circuit, check_units, whole_numbers
from neuronpath.paths.settings import Settings
from neuronpath.units import Place, Unit

PLACES = [Place(0, "head", 4), Place(0, "neuron", 8)]


def test_whole_numbers():
    assert torch.equal(whole_numbers("units", [[1, 2], [3, 4]]), torch.tensor([[1, 2], [3, 4]]))
    assert whole_numbers("units", []).dtype == torch.int64
    for values, odd in (([[1, 1.7]], "1.7"), ([2.0], "2.0"), ([True], "True")):
        with pytest.raises(nph.InputError, match=f"units holds {odd}[0-9]*; expected whole numbers"):
            whole_numbers("units", values)


def test_units():
    check_units(torch.tensor([[[3], [7]]]), PLACES)
    check_units(torch.tensor([[[9], [7]]]), [])
    check_units(torch.zeros(0, 2, 1, dtype=torch.long), PLACES)
    for units, places, words in (
        ([[[4], [7]]], PLACES, "head 4 of block 0 is out of range; expected 0 to 3"),
        ([[[3], [8]]], PLACES, "neuron 8 of block 0 is out of range; expected 0 to 7"),
        ([[[3], [-1]]], PLACES, "neuron -1 of block 0 is out of range"),
        ([[[3], [-1]]], [], "neuron -1 of block 1 is out of range"),
        ([[[1, 2], [5, 5]]], PLACES, "block 0 names a neuron twice"),
    ):
        with pytest.raises(nph.InputError, match=words):
            check_units(torch.tensor(units), places)


def test_circuits():
    check_circuit([Unit(0, 3, "head"), Unit(0, 3)], PLACES)
    check_circuit([], PLACES)
    for units, places, words in (
        ([Unit(0, 4, "head")], PLACES, "head 4 of block 0 is out of range; expected 0 to 3"),
        ([Unit(1, 4)], PLACES, "block 1 is out of range; expected 0 to 0"),
        ([Unit(0, -1)], PLACES, "neuron -1 of block 0 is out of range"),
        ([Unit(0, -1)], [], "block 0, neuron -1 is below 0"),
        ([Unit(0, 1), Unit(0, 1)], PLACES, "names a unit twice"),
    ):
        with pytest.raises(nph.InputError, match=words):
            check_circuit(units, places)


def test_sites_of_no_whole_numbers():
    for site in (
        [0, "neuron", 64.5],
        [0.0, "neuron", 64],
        ["0", "neuron", 64],
        [True, "neuron", 64],
        [0, ["neuron"], 64],
    ):
        with pytest.raises((ValueError, TypeError)):
            Settings.from_dict({"sites": [site]})
