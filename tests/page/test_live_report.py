"""The page of live paths and circuits: what is left beside the control, the graph, pinning, filtering, and the scene behind it."""

import json
import re
from importlib.resources import files

import pytest
import torch
from pages import Page

import neuronpath as nph
from neuronpath.page.drawing import key_of
from neuronpath.page.report import as_ways, measure
from neuronpath.page.scene import scene


@pytest.fixture(scope="module")
def reference():
    return nph.demo.load("train")[1][:60]


@pytest.fixture(scope="module")
def ways(demo, reference):
    images = demo[1][:8]
    return {
        "live": nph.find_path(demo[0], images, reference=reference),
        "circuit": nph.find_circuit(demo[0], images, reference=reference),
    }


@pytest.fixture(scope="module")
def file(demo, ways, reference, tmp_path_factory):
    model, images, labels = demo
    wrong = labels[:8].clone()
    wrong[3] = (wrong[3] + 1) % 10
    out = tmp_path_factory.mktemp("live") / "r.html"
    return nph.report(model, images[:8], ways, out, labels=wrong, reference=reference)


@pytest.fixture(scope="module")
def page(file):
    return Page(file.read_text(encoding="utf-8"))


def cells(page, kind):
    return [float(text) for _, text in page.all("td", kind)]


def test_what_is_left_stands_beside_the_control(page, ways):
    paths, circuit = ways["live"], ways["circuit"]
    both = zip(paths.left.tolist(), circuit.left.tolist(), strict=True)
    assert cells(page, "removed") == pytest.approx([left for pair in both for left in pair], abs=6e-4)
    controls = zip(paths.random_left, circuit.random_kept, circuit.random_left, strict=True)
    assert cells(page, "random") == pytest.approx([float(p) for each in controls for p in each], abs=6e-4)
    assert cells(page, "alone") == pytest.approx(circuit.kept.tolist(), abs=6e-4)
    notes = [text for _, text in page.all("td", "note")]
    for i in range(8):
        said = notes[9 * i + 1]
        word = "says" if paths.decision_flipped[i] else "still"
        assert said == f"{word} {int(paths.predicted_without[i])}"
    assert [text for _, text in page.all("p", "summary")] == [f"{n}: {way.summary()}." for n, way in ways.items()]


def test_units_that_lower_the_output_are_marked(page, ways):
    paths = ways["live"]
    assert (paths.attribution < 0).any()
    marked = [attrs["data-unit"] for attrs, _ in page.all("g", "point") if "lowers" in attrs["class"]]
    units = [
        str(u)
        for i in range(8)
        for u, w in zip(paths.units_of(i), paths.attribution[i].flatten(), strict=True)
        if w < 0
    ]
    assert marked == units
    told = [int(text.split()[0]) for _, text in page.all("span", "negative")]
    assert told == [int(n) for n in (paths.attribution < 0).sum((1, 2)) if n]


def test_the_graph_is_path_graphs(demo, page, ways, reference):
    graphs = [nph.path_graph(demo[0], demo[1][:8], way, reference=reference) for way in ways.values()]
    assert 0 < (ways["circuit"].size <= 48).sum() < 8  # of larger circuits none is drawn unless asked for
    small = [(graph, image) for image in range(8) for graph in graphs if len(graph.units[image]) <= 48]
    drawn = [edge for graph, image in small for edge in reversed(graph.edges_of(image)[:40])]
    found = [(attrs["data-from"], text, attrs["class"]) for attrs, text in page.all("path", "edge")]
    assert found == [
        (
            key_of(edge.sender),
            f"{edge.sender} to {edge.receiver or 'the output'}: {edge.effect:+.3g}",
            f"edge {'raises' if edge.effect >= 0 else 'lowers'}",
        )
        for edge in drawn
    ]


def test_a_graph_that_was_made_and_none(demo, ways, tmp_path):
    model, images, _ = demo
    paths = nph.find_path(model, images[:2])
    graph = nph.path_graph(model, images[:2], paths, check=True)
    page = Page(nph.report(model, images[:2], paths, tmp_path / "a.html", graph=graph).read_text())
    assert "patched for real" in " ".join(text for _, text in page.all("p", "facts"))
    assert not Page(nph.report(model, images[:2], paths, tmp_path / "b.html", graph=False).read_text()).all(
        "path", "edge"
    )
    # of another baseline than 0 the graph wants its reference, so that none is drawn unless asked for
    live = ways["live"]
    assert not Page(nph.report(model, images[:8], live, tmp_path / "c.html").read_text()).all("path", "edge")
    with pytest.raises(nph.InputError, match="reference"):
        nph.report(model, images[:8], live, tmp_path / "d.html", graph=True)
    with pytest.raises(nph.InputError, match="graph is of other units"):
        nph.report(model, images[:8], live, tmp_path / "d.html", graph=graph)


def test_the_scene_is_plain_data_of_a_version(demo, ways, reference):
    jsonschema = pytest.importorskip("jsonschema")
    model, images, labels = demo
    options = {"graph": None, "reference": reference, "factor": 2.0, "n_likes": 3, "batch_size": 5, "progress": False}
    truth, found = measure(nph.view(model), images[:8], as_ways(ways, images[:8]), labels[:8], **options)
    shown = scene(images[:8], ways, found, model=model, labels=truth)
    text = json.dumps(shown, allow_nan=False)
    assert json.loads(text) == shown
    jsonschema.validate(shown, json.loads((files("neuronpath") / "page" / "scene.schema.json").read_text()))
    assert shown["images"][2]["truth"]["label"] == int(labels[2])
    taken = [image["views"][0]["taken"] for image in shown["images"]]
    assert taken == pytest.approx((1 - ways["live"].left / ways["live"].probability).tolist(), abs=1e-4)
    assert [p["rank"] for p in shown["images"][1]["views"][1]["drawing"]["points"]] == list(
        range(1, len(ways["circuit"].units[1]) + 1)
    )


def test_a_circuit_of_no_units(demo, tmp_path):
    model, images, _ = demo
    circuit = nph.find_circuit(model, images[:1], keep=1e-6)
    assert not circuit.units[0]
    page = Page(nph.report(model, images[:1], circuit, tmp_path / "r.html").read_text())
    assert not page.all("g", "point")
    assert len(page.all("td", "alone")) == 1


def open_page(browser, file, **options):
    tab = browser.new_page(viewport={"width": options.pop("width", 1100), "height": 844}, **options)
    tab.said = []
    tab.on("console", lambda message: tab.said.append(message.text))
    tab.on("pageerror", lambda error: tab.said.append(str(error)))
    tab.goto(file.as_uri())
    return tab


def test_a_click_pins_a_unit(browser, file, ways):
    tab = open_page(browser, file)
    section = tab.locator("#image-2 section").first
    points, detail = section.locator(".point"), section.locator(".detail")
    names = [str(unit) for unit in ways["live"].units_of(2)]
    points.nth(4).click()
    assert detail.inner_text().startswith(f"{names[4]}:")
    assert points.nth(4).get_attribute("aria-pressed") == "true"
    assert "Pinned" in detail.inner_text()
    points.nth(9).hover()
    assert detail.inner_text().startswith(f"{names[9]}:")
    tab.locator("h1").hover()
    assert detail.inner_text().startswith(f"{names[4]}:")  # back to the pinned one
    assert tab.locator("#image-2 .mapped").count() == 1
    assert "0" in tab.locator("#image-2 .scale").inner_text()
    picked = section.locator(".edge.on")
    key = points.nth(4).get_attribute("data-key")
    assert picked.count() == sum(
        key in (e.get_attribute("data-from"), e.get_attribute("data-to")) for e in section.locator(".edge").all()
    )
    tab.keyboard.press("Escape")
    assert points.nth(4).get_attribute("aria-pressed") == "false"
    assert tab.locator("#image-2 .mapped").count() == 0
    assert "Pinned" not in detail.inner_text()
    points.nth(1).focus()
    tab.keyboard.press("Enter")
    assert points.nth(1).get_attribute("aria-pressed") == "true"
    tab.keyboard.press("Enter")
    assert points.nth(1).get_attribute("aria-pressed") == "false"
    points.nth(2).click()
    detail.locator("a").first.click()  # a favourite: the link is followed although the point loses the focus
    assert "#image-" in tab.url
    points.nth(2).click()
    section.locator(".node").first.click()
    assert section.locator(".point.pinned").count() == 1
    assert tab.said == []
    tab.close()


def test_images_are_filtered_and_sorted(browser, file, ways):
    tab = open_page(browser, file)
    paths = ways["live"]

    def shown():
        return [
            int(a.get_attribute("data-number")) for a in tab.locator("article[data-number]").all() if a.is_visible()
        ]

    assert shown() == list(range(8))
    tab.select_option("#decision", "wrong")
    assert shown() == [i for i in range(8) if tab.locator(f"#image-{i} .truth.wrong").count()]
    assert 3 in shown()
    tab.select_option("#decision", "right")
    assert 3 not in shown()
    tab.select_option("#decision", "flips")
    assert shown() == paths.decision_flipped.nonzero()[:, 0].tolist()
    assert tab.locator("#count").inner_text() == f"{len(shown())} of 8"
    tab.select_option("#decision", "")
    label = str(int(paths.target[0]))
    tab.select_option("#class", label)
    assert shown() == (paths.target == int(label)).nonzero()[:, 0].tolist()
    assert [link.is_visible() for link in tab.locator("nav a").all()].count(True) == len(shown())
    tab.select_option("#class", "")
    taken = 1 - paths.left / paths.probability
    for order, by in (("most", -taken), ("least", taken), ("sure", -paths.probability), ("class", paths.target)):
        tab.select_option("#order", order)
        assert shown() == torch.sort(by, stable=True).indices.tolist(), order
    tab.locator("input[name=way]").last.check()
    tab.select_option("#order", "most")
    assert shown() == torch.sort(ways["circuit"].left / ways["circuit"].probability, stable=True).indices.tolist()
    assert tab.said == []
    tab.close()


def test_drawings_scroll_sideways_on_a_phone(browser, file):
    tab = open_page(browser, file, width=390, has_touch=True, color_scheme="dark")
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    box = tab.locator("#image-0 .scroll").first
    wide, seen = box.evaluate("e => [e.scrollWidth, e.clientWidth]")
    assert wide > 1.2 * seen
    box.evaluate("e => { e.scrollLeft = 1000 }")
    assert box.evaluate("e => e.scrollLeft") == wide - seen
    assert (
        float(re.findall(r"[\d.]+", box.locator(".label").first.evaluate("e => getComputedStyle(e).fontSize"))[0]) >= 12
    )
    assert tab.said == []
    tab.close()
