"""The page in a notebook, and as a folder with a page a unit."""

import base64
import io
import json
import re

import numpy as np
import pytest
from pages import Page
from PIL import Image

import neuronpath as nph

EVIL = "<script>alert(1)</script>.png"


@pytest.fixture(scope="module")
def paths(demo):
    return nph.find_path(demo[0], demo[1][:10], names=[EVIL, *(f"digit {i}.png" for i in range(1, 10))])


@pytest.fixture(scope="module")
def folder(demo, paths, tmp_path_factory):
    ways = {"live": paths, "circuit": nph.find_circuit(demo[0], demo[1][:10], controls=False)}
    return nph.site(ways, demo[1][:10], demo[0], tmp_path_factory.mktemp("a") / "site", labels=demo[2][:10], n_likes=5)


def frame_of(shown):
    """The page in a cell's frame."""
    ((attrs, _),) = Page(shown._repr_html_()).all("iframe")
    assert attrs["sandbox"] == "allow-scripts"
    return attrs["srcdoc"]


def test_a_notebook_has_the_report(demo, paths, tmp_path):
    model, images, labels = demo
    shown = nph.show(paths, images[:10], model, labels=labels[:10])
    report = nph.report(model, images[:10], paths, tmp_path / "r.html", labels=labels[:10]).read_text(encoding="utf-8")
    assert shown.html == report
    assert frame_of(shown) == report
    assert "Shown(10 images)" in repr(shown)
    formatters = pytest.importorskip("IPython.core.formatters")
    assert "<iframe" in formatters.DisplayFormatter().format(shown)[0]["text/html"]


def test_without_a_model_what_paths_know(demo, paths):
    images = demo[1][:10]
    graph = nph.path_graph(demo[0], images, paths)
    page = Page(nph.show(paths, images, graph=graph).html)
    assert len(page.all("g", "point")) == 160
    assert [float(text) for _, text in page.all("td", "removed")] == pytest.approx(paths.left.tolist(), abs=6e-4)
    assert page.all("path", "edge")
    assert not page.all("td", "enhanced")
    data = json.loads(next(text for attrs, text in page.all("script") if attrs.get("id") == "data"))
    assert data["ways"][0]["likes"] == {}
    with pytest.raises(nph.InputError, match="height is 0"):
        nph.show(paths, images, height=0)
    with pytest.raises(nph.InputError, match="9 images for 10 paths"):
        nph.show(paths, images[:9])


def test_every_unit_has_its_page(folder, paths, demo):
    circuit = nph.find_circuit(demo[0], demo[1][:10], controls=False)
    units = {unit for i in range(10) for unit in [*paths.units_of(i), *circuit.units_of(i)]}
    found = {file.stem for file in (folder / "units").iterdir()}
    assert found == {f"block-{u.block}-{u.kind}-{u.index}" for u in units}
    assert sorted(p.name for p in folder.iterdir()) == ["images", "index.html", "style.css", "units"]
    unit = paths.units_of(4)[2]
    page = Page((folder / "units" / f"block-{unit.block}-{unit.kind}-{unit.index}.html").read_text(encoding="utf-8"))
    assert page.all("h1")[0][1] == str(unit).capitalize()
    best, numbers, _ = nph.most_active(demo[0], demo[1][:10], [unit], 5, token="all")
    links = [attrs["href"] for attrs, text in page.all("a") if "#image-" in attrs["href"]]
    assert links[:5] == [f"../index.html#image-{number}" for number in numbers[0].tolist()]
    values = [text.split(",")[0] for _, text in page.all("span") if re.match(r"[\d.]+, \d$", text)]
    assert [float(value) for value in values] == pytest.approx(best[0].tolist(), rel=1e-3)
    holders = [i for i in range(10) if unit in paths.units_of(i)]
    assert f"On {len(holders)} of 10 paths" in " ".join(text for _, text in page.all("p"))


def test_maps_are_the_activations(folder, paths, demo):
    unit = paths.units_of(4)[1]
    page = Page((folder / "units" / f"block-{unit.block}-{unit.kind}-{unit.index}.html").read_text(encoding="utf-8"))
    _, numbers, _ = nph.most_active(demo[0], demo[1][:10], [unit], 5, token="all")
    low, high = [float(text) for _, text in page.all("span") if re.fullmatch(r"-?[\d.]+(e-\d+)?", text)][-2:]
    for (attrs, _), number in zip(page.all("img", "map"), numbers[0].tolist(), strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(attrs["src"].split(",")[1])))
        row = paths.units[4].clone()[None]
        values = nph.activation_maps(demo[0], demo[1][number : number + 1], row, units="both")[0, 2 * unit.block + 1, 0]
        shown = np.asarray(picture) / 15 * (high - low) + low
        assert np.allclose(shown, values, atol=0.51 / 15 * (high - low) + 1e-3 * abs(high))


def test_addresses_stay_and_a_site_is_replaced(folder, demo, paths, tmp_path):
    model, images, _ = demo
    few = nph.site(paths[:3], images[:3], model, tmp_path / "site")
    before = {file.name for file in (few / "units").iterdir()}
    assert before <= {file.name for file in (folder / "units").iterdir()}
    with pytest.raises(nph.InputError, match=r"site exists already; .*overwrite=True"):
        nph.site(paths[:3], images[:3], model, few)
    nph.site(paths[:5], images[:5], model, few, overwrite=True)
    assert before < {file.name for file in (few / "units").iterdir()}
    assert [file.name for file in tmp_path.iterdir()] == ["site"]


def test_nothing_of_others_is_replaced(demo, paths, tmp_path):
    model, images, _ = demo
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for words, out in (
        ("mine holds something else than a site of neuronpath's", tmp_path / "mine"),
        ("file is no folder", tmp_path / "file"),
        ("there is no folder", tmp_path / "no" / "site"),
        ("out is empty|path is empty", ""),
    ):
        with pytest.raises(nph.InputError, match=words):
            nph.site(paths, images[:10], model, out, overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine"]


def test_links_hold_and_names_stay_text(folder):
    pages = {file: Page(file.read_text(encoding="utf-8")) for file in folder.rglob("*.html")}
    for file, page in pages.items():
        assert EVIL not in file.read_text(encoding="utf-8")
        for tag, attrs, _ in page.elements:
            for name in ("href", "src"):
                address = attrs.get(name, "#")
                if address.startswith(("#", "data:")):
                    continue
                target = (file.parent / address.partition("#")[0]).resolve()
                assert target.is_file(), (file.name, address)
                if tag == "a" and "#" in address:
                    ids = {each.get("id") for _, each, _ in pages[target].elements}
                    assert address.partition("#")[2] in ids
        pictures = [attrs for attrs, _ in page.all("img") if not attrs["src"].startswith("data:")]
        assert all(attrs.get("loading") == "lazy" for attrs in pictures)


def test_a_unit_takes_little_room(demo, tmp_path):
    """2,000 units are to take less than 50 MB, so one takes less than 25 kB."""
    sizes = {
        "img_size": 224,
        "patch_size": 16,
        "in_chans": 1,
        "embed_dim": 64,
        "depth": 3,
        "num_heads": 2,
        "num_classes": 10,
    }
    model = demo[0].__class__(**sizes).eval()
    images = demo[1][:12].repeat(1, 1, 7, 7)
    paths = nph.find_path(model, images, method="activation", units="both", top_k=2)
    out = nph.site(paths, images, model, tmp_path / "site")
    files = list((out / "units").iterdir())
    assert len(files) > 12
    assert max(file.stat().st_size for file in files) < 25e3


def test_a_site_in_a_browser(browser, folder):
    tab = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url))
    tab.goto((folder / "index.html").as_uri())
    tab.locator("#image-4 .point").nth(2).click()
    tab.locator("#image-4 .detail a").first.click()
    tab.wait_for_url("**/units/block-1-head-*.html")
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    assert tab.locator("li img").first.evaluate("i => i.complete && i.naturalWidth > 0")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"  # the style is read
    tab.locator("li a").first.click()
    tab.wait_for_url("**/index.html#image-*")
    assert said == []
    tab.close()


def test_a_cell_in_a_browser(browser, demo, paths, tmp_path):
    file = tmp_path / "cell.html"
    file.write_text(nph.show(paths, demo[1][:10], demo[0])._repr_html_(), encoding="utf-8")
    tab = browser.new_page()
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("dialog", lambda dialog: said.append(dialog.message))
    tab.goto(file.as_uri())
    frame = tab.frame_locator("iframe")
    frame.locator("#image-2 .point").nth(3).click()
    assert frame.locator("#image-2 .detail").inner_text().startswith(f"{paths.units_of(2)[3]}:")
    assert frame.locator("#image-2 .mapped").count() == 1
    assert said == []
    tab.close()


def test_a_run_is_shown_by_a_sample(demo, tmp_path):
    pixels, labels = nph.demo.load_pixels()
    for i, (digit, label) in enumerate(zip(pixels[:203], labels[:203], strict=True)):
        (tmp_path / "digits" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(digit * 15).save(tmp_path / f"digits/{label}/{i}.png")
    run = nph.run(tmp_path / "digits", demo[0], tmp_path / "run", method="causal", units="neurons")
    file = nph.report(demo[0], None, run, tmp_path / "a.html", graph=False, n_likes=1)
    page = Page(file.read_text(encoding="utf-8"))
    assert "on 200 of 203 images, drawn at random." in " ".join(" ".join(text for _, text in page.all("p")).split())
    names = [attrs["title"] for attrs, _ in page.all("h2") if "title" in attrs]
    assert names == list(run.sample().names)
    assert run.labels(names) == [int(name[0]) for name in names]
    frame = run.to_frame(["id", "label", "predicted"], [("id", "in", names)])
    marks = [attrs["class"].split()[-1] for attrs, _ in page.all("span", "truth")]
    assert marks.count("right") == (frame["label"] == frame["predicted"]).sum()
    titles = {ax.get_title() for ax in nph.plots.plot_distribution(run).axes}
    assert any("neurons of paths of 200 of 203 images, drawn at random" in title for title in titles)
    assert "paths of 200 of 203 images, drawn at random" in nph.plots.plot_paths(run).get_supxlabel()
    for refused, words in (
        (lambda: nph.report(demo[0], demo[1], run, tmp_path / "b.html"), "images are given beside a Run"),
        (lambda: nph.report(demo[0], None, run.sample(), tmp_path / "b.html"), "images is None; expected those of the paths"),
        (lambda: nph.show(run, None), "model is None; expected a model"),
        (lambda: run.labels(["none.png"]), "no image 'none.png' that is done"),
    ):  # fmt: skip
        with pytest.raises(nph.InputError, match=words):
            refused()


def test_what_the_commonest_unit_stands_for(demo, paths, tmp_path):
    model, images, labels = demo
    out = nph.site(paths, images[:10], model, tmp_path / "site", labels=labels[:10], faces=1, graph=False, n_likes=3)
    times = {unit: sum(unit in paths.units_of(i) for i in range(10)) for i in range(10) for unit in paths.units_of(i)}
    common = sorted(times, key=lambda unit: (-times[unit], unit))[:1]
    named = nph.name_units(model, images[:10], common, labels[:10], token="all")
    made = nph.visualise(model, common, token="all")
    shown = {file.stem: Page(file.read_text(encoding="utf-8")) for file in (out / "units").iterdir()}
    assert {key for key, page in shown.items() if page.all("article", "face")} == {
        f"block-{u.block}-{u.kind}-{u.index}" for u in common
    }
    for unit, row, value in zip(common, named.to_dict("records"), made.values.tolist(), strict=True):
        page = shown[f"block-{unit.block}-{unit.kind}-{unit.index}"]
        text = " ".join(text for _, text in page.all("p"))
        assert f"AUROC {row['score']:.3g}; 95 % of shuffled labels stay below {row['control']:.3g}" in text
        assert float(re.search(r"value ([\d.]+),", page.all("figcaption")[0][1])[1]) == pytest.approx(value, rel=2e-2)
        (_, first, _) = nph.most_active(model, images[:10], [unit], 1, token="all")
        driven = nph.pixel_attribution(model, images[first[0]], [unit], token="all", n_steps=32).attribution.sum(2)[
            0, 0
        ]
        attrs, _ = page.all("img", "pixels")[0]
        picture = Image.open(io.BytesIO(base64.b64decode(attrs["src"].split(",")[1]))).convert("RGB")
        blue = np.asarray(picture).astype(float)[..., 2] - np.asarray(picture).astype(float)[..., 0]
        assert np.corrcoef(blue.flatten(), driven.flatten().numpy())[0, 1] > 0.8
        assert len(page.all("img", "pixels")) == 3
    with pytest.raises(nph.InputError, match="faces is -1"):
        nph.site(paths, images[:10], model, tmp_path / "b", faces=-1)
