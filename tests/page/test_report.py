"""The page of a run: parsed, its figures compared with the paths', and used in a browser where there is one."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from pages import Page
from PIL import Image

import neuronpath as nph
from neuronpath.data.pixels import to_pixels

EVIL = "<script>alert(1)</script>.png"


@pytest.fixture(scope="module")
def ways(demo):
    names = [f"/some/where/{EVIL}", "no \udcff UTF-8.png", *(f"digit {i}.png" for i in range(2, 12))]
    return {m: nph.find_path(demo[0], demo[1][:12], method=m, names=names) for m in ("joint", "causal")}


@pytest.fixture(scope="module")
def file(demo, ways, tmp_path_factory):
    return nph.report(
        demo[0], demo[1][:12], ways, tmp_path_factory.mktemp("report") / "r.html", title="<b>Digits & paths</b>"
    )


@pytest.fixture(scope="module")
def page(file):
    return Page(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data(page):
    return json.loads(next(text for attrs, text in page.all("script") if attrs.get("id") == "data"))


def test_every_neuron_is_drawn_with_its_figures(page, ways):
    points = iter(page.all("g", "point"))
    for image in range(12):
        for paths in ways.values():
            for block in range(8):
                attrs, text = next(points)
                neuron, worth = int(paths.neurons[image, block, 0]), float(paths.attribution[image, block, 0])
                assert attrs["data-unit"] == f"block {block}, neuron {neuron}"
                assert text.split()[-1] == (str(neuron) if worth >= 0 else f"({neuron})")
                assert float(attrs["data-attribution"]) == pytest.approx(worth, rel=1e-3)
                assert float(attrs["data-activation"]) == pytest.approx(
                    float(paths.activations[image, block, 0]), rel=1e-3
                )
                assert ("raises" in attrs["class"]) == (worth >= 0)
                assert f"block {block}, neuron {neuron}: attribution" in attrs["aria-label"]
    assert next(points, None) is None


def test_scores_and_decisions_are_the_paths(page, ways):
    facts = page.all("p", "facts")
    for name, figure in (
        ("score", lambda p: p.score),
        ("attribution", lambda p: p.attribution.sum((1, 2))),
        ("delta", lambda p: p.relative_delta),
    ):
        shown = np.array([float(text) for _, text in page.all("b", name)]).reshape(12, 2)
        true = torch.stack([figure(paths) for paths in ways.values()], 1).numpy()
        assert np.allclose(shown, true, rtol=0.5 if name == "delta" else 1e-3)  # delta has one digit
    for i, (_, text) in enumerate(facts[::2]):
        path = ways["joint"][i]
        assert f"Target: {int(path.target)}, probability {float(path.probability):.3f}." in text
    assert [text for _, text in page.all("figcaption")] == [
        f"Predicted: {int(p.predicted)}, probability {float(p.predicted_probability):.3f}" for p in ways["joint"]
    ]


def test_removing_and_enhancing_were_really_run(demo, page, ways):
    model, images, _ = demo
    removed = np.array([float(text) for _, text in page.all("td", "removed")]).reshape(12, 2)
    enhanced = np.array([float(text) for _, text in page.all("td", "enhanced")]).reshape(12, 2)
    clean = np.array([float(text) for _, text in page.all("td", "clean")]).reshape(12, 2)
    for column, paths in enumerate(ways.values()):
        assert np.allclose(clean[:, column], paths.probability, atol=6e-4)
        assert np.allclose(removed[:, column], paths.probability - paths.removal, atol=6e-4)
        with nph.enhance(model, paths, 2.0), torch.no_grad():
            stronger = model(images[:12]).softmax(-1).gather(1, paths.target[:, None])[:, 0]
        assert np.allclose(enhanced[:, column], stronger, atol=6e-4)
    assert (np.abs(removed - clean) > 1e-3).any()


def test_maps_and_favourites_are_what_the_model_does(demo, data, ways):
    model, images, _ = demo
    for way, paths in zip(data["ways"], ways.values(), strict=True):
        maps = nph.activation_maps(model, images[:12], paths)[:, :, 0]
        assert way["grid"] == [8, 8]
        for image, block in np.ndindex(12, 8):
            shown = np.frombuffer(base64.b64decode(way["maps"][image][block]), np.int8).reshape(8, 8) / 127
            peak = way["peaks"][image][block]
            assert np.allclose(shown * peak, maps[image, block], atol=0.005 * peak)
        block, neuron = 4, int(paths.neurons[3, 4, 0])
        best, numbers, _ = nph.most_active(model, images[:12], [(block, neuron)], 4)
        assert [number for number, _ in way["likes"][f"block-{block}-neuron-{neuron}"]] == numbers[0].tolist()
        assert [value for _, value in way["likes"][f"block-{block}-neuron-{neuron}"]] == pytest.approx(
            best[0].tolist(), rel=1e-3
        )


def test_pictures_are_kept_once_each(demo, file, page):
    sources = [attrs["src"] for attrs, _ in page.all("img")]
    assert len(sources) == 12 == file.read_text().count("data:image")
    for source, image in zip(sources, demo[1][:12], strict=True):
        with Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) as picture:
            assert np.array_equal(np.asarray(picture), to_pixels(image, demo[0]))


def test_classes_count_their_neurons(page, ways):
    rows = [text for attrs, text in page.all("th") if attrs.get("scope") == "row" and "image" in text]
    labels = ways["joint"].target.unique().tolist()
    assert len(rows) == 2 * len(labels)
    counts = [text for _, text in page.all("span", "count")]
    members = ways["joint"][ways["joint"].target == labels[0]]
    found, times = np.unique(members.neurons[:, 0], return_counts=True)
    assert counts[0] == f"{found[times.argmax()]} \N{MULTIPLICATION SIGN} {times.max()}"


def test_names_stay_text(file, page):
    text = file.read_text(encoding="utf-8")
    assert EVIL not in text
    assert len(page.all("script")) == 2
    assert page.all("h1")[0][1] == "<b>Digits & paths</b>"
    assert page.all("h2")[0] == ({"id": "name-0", "title": f"/some/where/{EVIL}"}, "script>.png")
    assert page.all("h2")[1] == ({"id": "name-1", "title": r"no \udcff UTF-8.png"}, r"no \udcff UTF-8.png")
    raw = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert raw is not None
    assert "<" not in raw[1]


def test_names_stay_text_inside_the_json_too(demo, tmp_path):
    way = "</script><script>alert(2)</script>"
    paths = nph.find_path(demo[0], demo[1][:1], method="joint", names=[EVIL.replace("/", "")])
    text = nph.report(demo[0], demo[1][:1], {way: paths, "b": paths}, tmp_path / "r.html").read_text()
    page = Page(text)
    assert len(page.all("script")) == 2
    assert way in [text for _, text in page.all("h3")]
    assert page.all("h2")[0][1] == EVIL.replace("/", "")


def test_nothing_comes_from_outside(file, page):
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"data:[^\"]+|//[^\n]*", "", text))
    for tag, attrs, _ in page.elements:
        assert tag not in {"link", "iframe", "object", "embed"}
        for name in ("src", "href", "action", "xlink:href"):
            assert attrs.get(name, "#").startswith(("#", "data:image/")), (tag, attrs)
    assert "default-src 'none'" in text


def test_settings_and_versions_stand_at_the_foot(page, ways):
    body = " ".join(text for _, text in page.all("footer"))
    for value in ("gaussradau", "gausslegendre", "neuronpath_digits", "8 blocks of 256 neurons", torch.__version__):
        assert value in body
    assert ways["joint"].settings.fingerprint in body


def test_twenty_photographs_in_three_megabytes(tmp_path):
    model = nph.load_model("vit_tiny_patch16_224", pretrained=False)
    images = (
        torch.rand(20, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    )  # noise: nothing packs worse
    paths = nph.find_path(model, images[:1], method="causal", n_steps=1)[[0] * 20]
    file = nph.report(model, images, {"a": paths, "b": paths}, tmp_path / "r.html")
    assert file.stat().st_size < 3e6


def test_several_neurons_a_block_and_no_classes(demo, tmp_path):
    model, images, _ = demo
    two = nph.find_path(model, images[:2], method="joint", top_k=2)
    page = Page(nph.report(model, images[:2], two, tmp_path / "two.html").read_text())
    assert len(page.all("g", "point")) == 2 * 8 * 2
    assert not page.all("fieldset")
    body = (
        nph.demo.create_model()
        .__class__(img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=0)
        .eval()
    )
    pixels = torch.randn(2, 3, 16, 16)
    paths = nph.find_path(body, pixels, method="joint", output=lambda features, target: features[:, 0])
    page = Page(nph.report(body, pixels, paths, tmp_path / "body.html").read_text())
    assert not page.all("table", "effects")
    assert "Target" not in page.all("p", "facts")[0][1]


def test_bad_input_is_refused_and_files_are_kept(demo, ways, tmp_path, random_vit):
    model, images, _ = demo
    kept = tmp_path / "kept.html"
    kept.write_text("precious")
    for words, call in (
        ("kept.html exists already", lambda: nph.report(model, images[:12], ways, kept)),
        ("there is no folder", lambda: nph.report(model, images[:12], ways, tmp_path / "no" / "r.html")),
        ("3 images for 12 paths of 'joint'", lambda: nph.report(model, images[:3], ways, tmp_path / "r.html")),
        ("made for another model", lambda: nph.report(random_vit(0), images[:12], ways, tmp_path / "r.html")),
        ("paths names no methods", lambda: nph.report(model, images[:12], {}, tmp_path / "r.html")),
        (
            "paths is []; expected NeuronPaths, Circuit, a mapping of texts to NeuronPaths or Circuit, or Run",
            lambda: nph.report(model, images[:12], [], tmp_path / "r.html"),
        ),
        (
            "paths is a dict; expected NeuronPaths, Circuit, a mapping of texts",
            lambda: nph.report(model, images[:12], {"a": 1}, tmp_path / "r.html"),
        ),
        ("factor is nan", lambda: nph.report(model, images[:12], ways, tmp_path / "r.html", factor=float("nan"))),
        ("n_likes is 0", lambda: nph.report(model, images[:12], ways, tmp_path / "r.html", n_likes=0)),
    ):
        with pytest.raises(nph.InputError, match=re.escape(words)):
            call()
    assert kept.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [kept]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 1100), ("light", 390)])
def test_in_a_browser(browser, file, ways, scheme, width):
    tab = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(dialog.message))
    tab.on("request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url))
    tab.goto(file.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.locator("nav img").count() == 12

    article = tab.locator("#image-2")
    joint, causal = article.locator("section").all()
    path = ways["joint"].neurons[2, :, 0].tolist()
    joint.locator(".point").nth(3).hover()
    assert f"block 3, neuron {path[3]}:" in joint.locator(".detail").inner_text()
    assert article.locator(".mapped").count() == 1
    assert joint.locator(".likes img").count() == 4
    painted = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v > 200)"
    assert article.locator("canvas").evaluate(painted)

    joint.locator(".point").nth(3).focus()
    for key, block in (("ArrowRight", 4), ("End", 7), ("ArrowLeft", 6), ("Home", 0)):
        tab.keyboard.press(key)
        assert f"block {block}, neuron {path[block]}:" in joint.locator(".detail").inner_text()
        assert tab.evaluate("document.activeElement.dataset.unit").startswith(f"block {block}, ")
    tab.keyboard.press("Escape")
    assert article.locator(".mapped").count() == 0

    assert (joint.is_visible(), causal.is_visible()) == (True, False)
    tab.locator("input[name=way]").first.focus()
    tab.keyboard.press("ArrowRight")
    assert (joint.is_visible(), causal.is_visible()) == (False, True)
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 200) == (scheme == "dark")
    assert said == []
    tab.close()


def test_without_its_script_all_is_there(browser, file):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(file.as_uri())
    assert all(section.is_visible() for section in tab.locator("#image-0 section").all())
    context.close()


def test_the_model_is_left_as_it_was(demo, ways, tmp_path):
    model, images, _ = demo
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        before = model(images[:12])
    model.train()
    try:
        nph.report(model, images[:12], ways, tmp_path / "r.html")
        assert all(module.training for module in model.modules())
    finally:
        model.eval()
    with torch.no_grad():
        assert torch.equal(model(images[:12]), before)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_a_recursive_model_s_page_says_which_loop(demo, tmp_path):
    looped = nph.recursive(demo[0], 2, init="lower")
    ways = {
        "path": nph.find_path(looped, demo[1][:2], method="causal"),
        "circuit": nph.find_circuit(looped, demo[1][:2], controls=False),
    }
    shown = Page(nph.report(looped, demo[1][:2], ways, tmp_path / "r.html").read_text(encoding="utf-8"))
    names = {attrs["data-unit"] for attrs, _ in shown.all("g", "point")}
    paths, circuits = ways.values()
    units = [*paths.units_of(0), *circuits.units_of(0)]
    assert {f"loop {unit.block // 2}, block {unit.block % 2}, {unit.kind} {unit.index}" for unit in units} <= names
    ticks = [text for _, text in shown.all("text", "tick")]
    assert ticks.count("loop.block") >= 2
    assert {"0.0", "0.1", "3.1"} <= set(ticks)
