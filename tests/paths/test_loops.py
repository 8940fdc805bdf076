"""Results of recursive models say loop and shared block wherever they name a block."""

import torch

import neuronpath as nph


def test_results_and_pictures_of_a_recursive_model(demo, tmp_path):
    model, images, _ = demo
    looped = nph.recursive(model, 2, init="lower", rank=8)
    paths = nph.find_path(looped, images[:3], method="causal", units="neurons")
    assert paths.settings.passes == ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1))
    unit = paths.units_of(0)[5]
    assert paths.settings.name_of(unit) == f"loop 2, block 1, neuron {unit.index}"
    shown = paths.to_text().splitlines()[1]
    assert shown.count("|") == 3
    frame = paths.to_frame()
    assert frame.query("image == 0")["loop"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert frame.query("image == 0")["shared_block"].tolist() == [0, 1] * 4
    again = nph.NeuronPaths.load(paths.save(tmp_path / "a.json"))
    assert again.settings == paths.settings
    plain = nph.find_path(model, images[:3], method="causal", units="neurons")
    assert "passes" not in plain.settings.to_dict()
    assert "loop" not in plain.to_frame()
    assert "|" not in plain.to_text()

    circuit = nph.find_circuit(looped, images[:1], controls=False)
    blocks = circuit.to_frame()["block"]
    assert (circuit.to_frame()["loop"] == blocks // 2).all()
    graph = nph.path_graph(looped, images[:3], paths)
    for figure in (
        nph.plot_path(paths),
        nph.plots.plot_paths(paths),
        nph.plots.plot_circuit(circuit),
        nph.plots.plot_graph(graph),
    ):
        labels = [axes.get_xlabel() for axes in figure.axes] + [figure.get_supxlabel()]
        assert "loop.block" in labels
        ticks = [tick.get_text() for axes in figure.axes for tick in axes.get_xticklabels()]
        assert "2.1" in ticks
    maps = nph.plots.plot_places(looped, images[:3], paths)
    assert "loop 2, block 1" in "".join(axes.get_title() for axes in maps.axes)


def test_removing_by_block_acts_on_that_pass_alone(demo):
    """A unit of one pass, against a hook that zeroes it at that layer; the same unit of other passes stays."""
    model, images, _ = demo
    looped = nph.recursive(model, 2, init="lower", rank=8)
    with nph.remove(looped, [(4, 17)], tokens="all"), torch.no_grad():
        found = looped(images[:4])

    def zeroed(_module, args):
        x = args[0].clone()
        x[..., 17] = 0
        return (x,)

    handle = looped.blocks[4].mlp.fc2.register_forward_pre_hook(zeroed)
    with torch.no_grad():
        expected = looped(images[:4])
    handle.remove()
    assert torch.allclose(found, expected, atol=1e-6)
