"""What the explorer shows of a unit, the graph, comparisons and the report, beside what the library says in Python."""

import base64
import copy
import io
import json
from importlib.resources import files

import numpy as np
import pytest
import torch
from pages import Page
from PIL import Image
from served import served

import neuronpath as nph
from neuronpath.page.explorer.explorer import Explored
from neuronpath.page.explorer.gallery import digits

HEAD, NEURON = ["head", 4, 0], ["neuron", 4, 163]
NAMED = {"head": ("head", 4, 0), "neuron": (4, 163)}


@pytest.fixture(scope="module")
def site(demo):
    other = copy.deepcopy(demo[0])
    with torch.no_grad():
        other.blocks[7].mlp.fc2.weight *= 0.5
    models = [Explored("demo", demo[0], "nph.load_model('demo')"), Explored("other", other, "other")]
    with served(models, digits()) as found:
        yield found


@pytest.fixture(scope="module")
def numbers(site):
    return site.explorer.surveys[0].numbers


@pytest.mark.parametrize("unit", [HEAD, NEURON], ids=str)
def test_a_units_value_favourites_and_name(site, demo, numbers, unit):
    model, images, labels = demo
    named = NAMED[unit[0]]
    found = site.ask("unit", {"image": "4", "unit": unit})
    best, at, _ = nph.most_active(model, images[numbers], [named], 8, token="all")
    assert [number for number, _ in found["likes"]["images"]] == [numbers[i] for i in at[0].tolist()]
    assert [value for _, value in found["likes"]["images"]] == pytest.approx(best[0].tolist(), rel=1e-3)
    assert found["likes"]["of"] == 60
    shares = np.bincount(labels[[number for number, _ in found["likes"]["images"]]]) / 8
    assert found["likes"]["purity"] == pytest.approx(shares.max())
    value, _, _ = nph.most_active(model, images[4:5], [named], 1, token="all")
    assert found["value"] == pytest.approx(float(value), rel=1e-3)
    table = nph.name_units(model, images[numbers], [named], labels[numbers], token="all").iloc[0]
    assert found["name"]["name"] == table["name"]
    assert found["name"]["score"] == pytest.approx(table["score"], abs=2e-3)
    assert found["name"]["control"] == pytest.approx(table["control"], abs=2e-3)
    path = torch.zeros(16, 1, dtype=torch.long)
    path[2 * 4 + (unit[0] == "neuron")] = unit[2]
    maps = nph.activation_maps(model, images[4:5], path, units="both")[0, 2 * 4 + (unit[0] == "neuron"), 0]
    shown = np.frombuffer(base64.b64decode(found["maps"][0]), np.int8) / 127 * found["peaks"][0]
    assert np.allclose(shown, maps.flatten(), atol=0.51 / 127 * abs(found["peaks"][0]) + 1e-4)


def test_the_pixels_that_drive_a_unit(site, demo):
    model, images, _ = demo
    found = site.ask("pixels", {"image": "4", "unit": NEURON})
    driven = nph.pixel_attribution(model, images[4:5], [(4, 163)], token="all", n_steps=32)
    assert found["change"] == pytest.approx(float(driven.change), rel=1e-3)
    assert found["missing"] == pytest.approx(abs(float(driven.delta / driven.change)), abs=1e-4)
    assert found["missing"] < 0.01
    shown = np.frombuffer(base64.b64decode(found["pixels"]), np.int8).astype(float)
    expected = driven.attribution[0, 0].sum(0).flatten().numpy()
    assert found["size"] == [32, 32]
    most = np.quantile(np.abs(expected), 0.995)  # beyond it the colours don't deepen
    assert np.allclose(shown / 127 * most, expected.clip(-most, most), atol=0.01 * most)


def test_the_image_made_for_a_unit(site, demo, numbers):
    found = site.ask("made", {"image": "4", "unit": HEAD})
    made = nph.visualise(demo[0], [("head", 4, 0)], steps=128, token="all")
    assert found["value"] == pytest.approx(float(made.values), rel=2e-2)
    best, _, _ = nph.most_active(demo[0], demo[1][numbers], [("head", 4, 0)], 1, token="all")
    assert found["best"] == pytest.approx(float(best), rel=1e-3)
    kind, _, content = found["picture"].partition(",")
    assert kind == "data:image/png;base64"
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))) / 255
    assert np.abs(picture - made.pixels[0, 0].numpy()).mean() < 0.02


def test_the_graph_is_path_graphs(site, demo):
    model, images, _ = demo
    graph = nph.path_graph(model, images[4:5], nph.find_path(model, images[4:5]))
    page = Page(site.ask("graph", {"image": "4", "kind": "path"})["html"])
    titles = [text for _, text in page.all("path", "edge")]
    assert titles == [
        f"{edge.sender} to {edge.receiver or 'the output'}: {edge.effect:+.3g}"
        for edge in reversed(graph.edges_of(0)[:40])
    ]


def test_two_images_and_two_models_are_compared(site, demo):
    model, images, _ = demo
    paths = nph.find_path(model, images[4:6])
    found = site.ask("compare", {"image": "4", "kind": "path", "other": {"image": "5"}})
    shared = set(paths.units_of(0)) & set(paths.units_of(1))
    assert found["shared"]["units"] == len(shared)
    assert found["shared"]["of"] == len(set(paths.units_of(0)) | set(paths.units_of(1)))
    assert found["shared"]["chance"] == pytest.approx(8 * (1 / 4 + 1 / 256), abs=0.01)
    rows = {row["what"]: row for row in found["rows"]}
    assert rows["says"]["cells"] == [str(int(label)) for label in paths.predicted]
    for block in range(8):
        for site_, kind in enumerate(("heads", "neurons")):
            mine = paths.units[:, 2 * block + site_, 0].tolist()
            row = rows[f"block {block}, {kind}"]
            assert [cell.split()[0] for cell in row["cells"]] == [str(index) for index in mine]
            assert row["differs"] == (mine[0] != mine[1])
    found = site.ask("compare", {"image": "4", "kind": "circuit", "other": {"model": 1}})
    assert [side["model"] for side in found["sides"]] == ["demo", "other"]
    assert found["shared"] is None
    assert "model is 7" in site.ask("compare", {"image": "4", "kind": "path", "other": {"model": 7}}, 400)["error"]
    assert "other names" in site.ask("compare", {"image": "4", "kind": "path"}, 400)["error"]


def test_the_report_holds_what_was_found(site, demo):
    jsonschema = pytest.importorskip("jsonschema")
    evil = "%3Cscript%3Ealert(1)%3C%2Fscript%3E.png"
    pixels = io.BytesIO()
    Image.fromarray(((demo[1][4, 0] + 1) * 127.5).round().byte().numpy()).save(pixels, "PNG")
    own = site.upload(pixels.getvalue(), evil)["id"]
    ask = {"image": own, "kind": "path"}
    scene = site.ask("explain", ask)["scene"]
    jsonschema.validate(scene, json.loads((files("neuronpath") / "page" / "scene.schema.json").read_text()))
    point = scene["images"][0]["views"][0]["drawing"]["points"][8]
    unit = [point["kind"], point["block"], point["index"]]
    site.ask("explain", {**ask, "kind": "circuit"})
    site.ask("graph", ask)
    made = site.ask("made", {**ask, "unit": unit})
    named = site.ask("unit", {**ask, "unit": unit})["name"]
    changes = [[*unit, "off"]]
    changed = site.ask("change", {**ask, "changes": changes})
    status, _, content = site.request(
        "POST", "/api/report", json.dumps({**ask, "changes": changes}).encode(), Content_Type="application/json"
    )
    assert status == 200
    text = content.decode()
    page = Page(text)
    assert "<script>alert" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert len(page.all("section", "way")) == 4  # two ways, in the head and of the image
    assert page.all("path", "edge")
    assert "".join(text for attrs, text in page.all("pre")).strip() == changed["code"].strip()
    data = json.loads(next(text for attrs, text in page.all("script") if attrs.get("id") == "data"))
    face = data["faces"][point["key"]]
    assert face["made"] == made["picture"]
    assert face["name"] is None if named["name"] is None else named["name"] in face["name"]
    assert f"{point['title']}: off" in " ".join(text for _, text in page.all("p"))
    plain = site.request(
        "POST", "/api/report", json.dumps({**ask, "changes": []}).encode(), Content_Type="application/json"
    )
    assert b"Changed by hand" not in plain[2]
