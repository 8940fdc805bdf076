"""Files of results whose every value has become something else: one line says so, or the result works."""

import copy
import json
import math

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

import neuronpath as nph

DEEP: list = []
for _ in range(50):
    DEEP = [DEEP]
GONE = object()
ODD = [
    GONE, None, True, -1, 0, 7, 1.7, 1e300, math.nan, math.inf, 10**30, "", "x", "\x1b[31m\n\u202e\udcff", [], {}, [None], {"x": 1},
    DEEP,
]  # fmt: skip


@pytest.fixture(scope="module")
def results():
    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 1}
    model, images = VisionTransformer(**sizes, num_classes=3).eval(), torch.randn(2, 3, 16, 16)
    paths = nph.find_path(model, images, method="causal", class_names=["a", "b", "c"])
    return {
        "paths": paths,
        "circuit": nph.find_circuit(model, images, controls=False),
        "graph": nph.path_graph(model, images, paths),
    }


def places(value, at=()):
    """Where in a document something stands: of a list its first."""
    yield at
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*at, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*at, 0))


def with_odd(document, place, odd):
    found = copy.deepcopy(document)
    inside = found
    for key in place[:-1]:
        inside = inside[key]
    if odd is GONE:
        del inside[place[-1]]
    else:
        inside[place[-1]] = odd
    return found


def use(result, tmp_path):
    repr(result), result._repr_html_(), len(result), result == result
    result.to_text()
    result.to_frame()
    result.save(tmp_path / "again.json", overwrite=True)
    if len(result):
        {nph.NeuronPaths: nph.plots.plot_path, nph.Circuit: nph.plots.plot_circuit}.get(type(result), repr)(result[0])


@pytest.mark.parametrize("kind", ["paths", "circuit", "graph"])
def test_every_value_replaced(results, kind, tmp_path):
    result = results[kind]
    file = tmp_path / "a.json"
    result.save(file)
    document = json.loads(file.read_text())
    assert type(result).load(file) == result
    cases, failed = 0, []
    for place in places(document):
        for odd in ODD if place else ():
            file.write_text(json.dumps(with_odd(document, place, odd)))
            cases += 1
            try:
                use(type(result).load(file), tmp_path)
            except nph.InputError as error:
                if "\n" in str(error):
                    failed.append((place, odd, "not one line"))
            except Exception as error:
                failed.append((place, odd, f"{type(error).__name__}: {error}"))
    assert failed == []
    assert cases > 400


@pytest.mark.parametrize(
    "text", ["", "[", "[" * 100_000, "null", "5", '"x"', "[]", "{}", "\x00", "1" * 5000, '{"format": NaN}']
)
@pytest.mark.parametrize("kind", [nph.NeuronPaths, nph.Circuit, nph.PathGraph])
def test_odd_json(kind, text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(nph.InputError) as refusal:
        kind.load(tmp_path / "a.json")
    assert "a.json" in str(refusal.value)
