"""The explorer as it is used: started by its command, in a browser, by mouse and by keyboard."""

import io
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import timm
from PIL import Image
from served import served

import neuronpath as nph
from neuronpath.page.explorer.explorer import Explored
from neuronpath.page.explorer.gallery import digits

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")
EVIL = '<img src=x onerror="document.title=1">.png'


@pytest.fixture(scope="module")
def address(browser, tmp_path_factory):
    """Of the explorer, started as a person would."""
    log = tmp_path_factory.mktemp("log") / "err"
    with log.open("w") as err:
        code = "import sys; sys.argv[0] = 'neuronpath'; from neuronpath.cli.start import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, "explore", "--port", "0", "--limit", "40"], stderr=err, stdout=err,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        while not (found := re.search(r"http://\S+/", log.read_text())):
            assert process.poll() is None, log.read_text()
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        yield found[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert log.read_text().count("\n") == 2  # where it is, and that it was ended


@pytest.fixture
def tab(browser, address):
    yield from opened(browser, address)


def opened(browser, address, **options):
    context = browser.new_context(viewport={"width": options.pop("width", 1280), "height": 900}, **options)
    tab = context.new_page()
    tab.said = []
    tab.on("console", lambda message: tab.said.append(message.text))
    tab.on("pageerror", lambda error: tab.said.append(str(error)))
    tab.on("dialog", lambda dialog: tab.said.append(dialog.message))
    tab.on("request", lambda r: r.url.startswith((address, "data:", "blob:")) or tab.said.append(r.url))
    tab.goto(address)
    tab.locator("#way .point").first.wait_for()
    yield tab
    assert tab.said == []
    assert tab.evaluate("document.documentElement.scrollWidth") == tab.viewport_size["width"]
    context.close()


def choose_image(tab, number):
    tab.locator(f"#images button[data-id='{number}']").click()
    holds(tab, "#caption", f"digit {number}")
    tab.locator("#way .point").first.wait_for()


def holds(tab, selector, text):
    """Wait until a place of the page holds a text."""
    sync_api.expect(tab.locator(selector)).to_contain_text(text)


def says(tab):
    """What the bars say, by class."""
    rows = tab.locator("#says li").all()
    return {row.locator(".name").inner_text(): row.locator(".number").inner_text() for row in rows}


def test_units_are_switched_off_by_mouse(tab, demo):
    model, images, _ = demo
    choose_image(tab, 4)
    paths = nph.find_path(model, images[4:5])
    names = [str(unit) for unit in paths.units_of(0)]
    points = tab.locator("#way .point")
    assert [point.get_attribute("data-unit") for point in points.all()] == names
    before = says(tab)
    assert before["5"] == "84.6 %"
    points.nth(2).click()
    assert tab.locator("#unit-name").inner_text().lower() == names[2]
    tab.locator("#do input[value=off]").check()
    tab.locator("#says .random").first.wait_for()
    unit = paths.units_of(0)[2]
    with nph.remove(model, [tuple(unit)], tokens="all"):
        expected = float(model(images[4:5]).softmax(1)[0, 5].detach())
    sync_api.expect(tab.locator("#says .number").first).to_have_text(f"{100 * expected:.1f} %")
    assert "off" in points.nth(2).get_attribute("class").split()
    assert tab.locator("#changes li").count() == 1
    tab.locator("#all button[data-do=off]").click()
    holds(tab, "#says", f"{100 * float(paths.left[0]):.2g} %")
    holds(tab, "#verdict", "Now it says 9.")
    assert tab.locator("#changes li").count() == 16
    tab.locator("#changes .back").first.click()
    sync_api.expect(tab.locator("#changes li")).to_have_count(15)
    tab.locator("#reset").click()
    tab.locator("#says .random").first.wait_for(state="detached")
    assert says(tab) == before


def test_and_by_keyboard(tab):
    choose_image(tab, 6)
    points = tab.locator("#way .point")
    points.first.focus()
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
    assert points.nth(3).evaluate("point => point === document.activeElement")
    tab.keyboard.press("Enter")
    assert tab.locator("#unit-name").inner_text().lower() == points.nth(3).get_attribute("data-unit")
    for key, word in (("o", "off"), ("d", "doubled"), ("m", "its mean")):
        tab.keyboard.press(key)
        assert word in tab.locator("#changes li").inner_text()
        assert tab.locator("#do input:checked").get_attribute("value") == {"o": "off", "d": "double", "m": "mean"}[key]
    tab.keyboard.press("m")
    assert tab.locator("#changes li").count() == 0
    tab.locator("#tab-path").focus()
    tab.keyboard.press("ArrowRight")
    tab.locator("#way .point").first.wait_for()
    assert tab.locator("#tab-circuit").get_attribute("aria-selected") == "true"
    assert "of them heads" in tab.locator("#way .facts").inner_text()
    assert tab.locator("#images button[tabindex='0']").count() == 1  # Tab passes the others by
    tab.locator("#images button[tabindex='0']").focus()
    for _ in range(4):
        tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("Enter")
    holds(tab, "#caption", "digit 2")


def test_what_cant_be_done_is_taken_back(tab):
    choose_image(tab, 3)
    tab.route("**/api/change", lambda route: route.fulfill(status=400, json={"error": "a mean wants <b>images</b>"}))
    tab.locator("#way .point").first.focus()
    tab.keyboard.press("m")
    sync_api.expect(tab.locator("#problem")).to_have_text("a mean wants <b>images</b>")
    sync_api.expect(tab.locator("#changes li")).to_have_count(0)
    assert "mean" not in tab.locator("#way .point").first.get_attribute("class").split()
    tab.said[:] = [each for each in tab.said if "400 (Bad Request)" not in each]


def test_a_units_faces(tab):
    choose_image(tab, 4)
    tab.locator("#any select").select_option("neuron")
    tab.locator("#any input[name=block]").fill("4")
    tab.locator("#any input[name=index]").fill("163")
    tab.keyboard.press("Enter")
    assert tab.locator("#unit-name").inner_text() == "Block 4, neuron 163"
    tab.locator("#map.mapped canvas").wait_for()
    for face in ("#pixels", "#made"):
        button = tab.locator(f"{face} button")
        if button.is_enabled():  # on a slow machine it waits to be asked
            button.click()
        tab.locator(f"{face}.there").wait_for()
    assert tab.locator("#likes button").count() == 8
    assert re.search(r"Goes with (no class: )?\d", tab.locator("#goes").inner_text())
    best = tab.locator("#likes img").first.get_attribute("alt").split()[1]
    tab.locator("#likes button").first.click()
    holds(tab, "#caption", f"digit {best}")
    tab.locator("#any input[name=index]").fill("256")
    tab.keyboard.press("Enter")
    assert "has 256 neurons; expected a number from 0 to 255" in tab.locator("#problem").inner_text()
    tab.locator("#any input[name=index]").fill("0")


def test_compared_saved_and_copied(tab, tmp_path):
    choose_image(tab, 4)
    tab.locator("#feeds summary").click()
    tab.locator("#feeds .edge").first.wait_for()
    tab.locator("#feeds .node").nth(2).click()
    tab.locator("#do input[value=off]").check()
    tab.locator("#compare").click()
    tab.locator("#images button[data-id='5']").click()
    tab.locator("#compared .differs td").first.wait_for()
    assert "held-out digit 4" in tab.locator("#caption").inner_text()  # still
    assert re.match(r"\d+ of \d+ units are in both", tab.locator("#compared .facts").inner_text())
    hidden = tab.locator("#compared .same").first
    assert not hidden.is_visible()
    tab.locator("#differing").uncheck()
    assert hidden.is_visible()
    with tab.expect_download() as download:
        tab.locator("#save").click()
    assert download.value.suggested_filename == "held-out-digit-4.html"
    download.value.save_as(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Changed by hand" in text
    assert 'class="edge' in text
    tab.locator("#copy").click()
    tab.locator("#code").wait_for()
    assert "nph.remove(model, [" in tab.locator("#code").inner_text()


def test_uploads(tab, tmp_path):
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[4:16, 9:12] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")

    def give(name, content):
        tab.locator("#file").set_input_files({"name": name, "mimeType": "image/png", "buffer": content})

    give(EVIL, file.getvalue())
    holds(tab, "#caption", "onerror")
    tab.locator("#way .point").first.wait_for()
    assert tab.title() == "neuronpath explorer"
    assert tab.locator("#images button").first.get_attribute("title") == EVIL
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" onload="document.title=1"><script>document.title=1</script></svg>'
    for name, content, words in (
        ("a.svg", svg, "a.svg is damaged or no image"), ("b.png", b"", "b.png is empty"),
        ("c.png", file.getvalue()[:50], "c.png is damaged"),
    ):  # fmt: skip
        give(name, content)
        holds(tab, "#problem", words)
        assert "\n" not in tab.locator("#problem").inner_text()
    (tmp_path / "<b>.png").write_bytes(bytes(21 * 2**20))
    tab.locator("#file").set_input_files(tmp_path / "<b>.png")
    holds(tab, "#problem", "<b>.png has 22,020,096 bytes; expected at most")
    tab.said[:] = [each for each in tab.said if "400 (Bad Request)" not in each]  # Chromium tells of each refusal
    assert tab.title() == "neuronpath explorer"
    assert "onerror" in tab.locator("#caption").inner_text()  # what was there is still there


def test_on_a_phone_in_the_dark(browser, address):
    pages = opened(browser, address, width=390, has_touch=True, color_scheme="dark")
    tab = next(pages)
    tab.locator("#way .point").nth(3).click()
    tab.locator("#do input[value=off]").check()
    tab.locator("#float").wait_for()
    assert re.match(r"\d: [\d.]+ %, was", tab.locator("#float").inner_text())
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"
    for _ in pages:
        raise AssertionError


def test_images_that_a_model_refuses_are_not_waited_for(browser, demo):
    other = timm.create_model("vit_tiny_patch16_224", num_classes=5, depth=2)
    with served([Explored("demo", demo[0], ""), Explored("other", other, "")], digits(), limit=8) as site:
        for tab in opened(browser, site.url):
            holds(tab, "#reading", "other can't read the images: the model refuses images of shape (1, 32, 32)")
            with pytest.raises(sync_api.TimeoutError), tab.expect_request("**/api/images*", timeout=2500):
                pass


# ---- answers that come late


def settle(tab):
    """Give the page time to make what it will of an answer."""
    tab.wait_for_timeout(200)


def held(tab, routes, number):
    """One of the requests that were held, once the page has sent it."""
    for _ in range(500):
        if len(routes) > number:
            return routes[number]
        tab.wait_for_timeout(20)
    raise AssertionError(f"{len(routes)} requests; expected {number + 1}")


def test_a_late_answer_is_not_drawn_under_another_image(tab):
    def slowly(route):  # pixels wait for their button, as where they take long
        answer = route.fetch()
        found = answer.json()
        found["seconds"].update(pixels=100, made=100)
        route.fulfill(response=answer, json=found)

    late, ways = [], []
    tab.route("**/api/predict", slowly)
    tab.route("**/api/pixels", lambda route: late.append(route))
    choose_image(tab, 0)
    tab.locator("#way .point").nth(4).click()
    tab.locator("#pixels button").click()
    sync_api.expect(tab.locator("#pixels button")).to_be_disabled()
    tab.route("**/api/explain", lambda route: ways.append(route))
    tab.locator("#images button[data-id='7']").click()
    holds(tab, "#caption", "digit 7")
    sync_api.expect(tab.locator("#unit-facts")).to_have_text("…")  # what stood there was of digit 0
    assert not tab.locator("#map.mapped").count()
    held(tab, ways, 0).continue_()
    holds(tab, "#unit-facts", "Value")
    with tab.expect_event("requestfinished", lambda request: request.url.endswith("pixels")):
        held(tab, late, 0).continue_()
    settle(tab)
    assert not tab.locator("#pixels.there").count()
    sync_api.expect(tab.locator("#pixels button")).to_have_text("Find the pixels, about 100 s")
    tab.locator("#pixels button").click()
    held(tab, late, 1).continue_()
    tab.locator("#pixels.there").wait_for()
    assert [route.request.post_data_json["image"] for route in late] == ["0", "7"]


def test_of_two_comparisons_the_later_is_shown(tab):
    choose_image(tab, 4)
    late = []
    tab.route("**/api/compare", lambda route: late.append(route))
    for other in "56":
        tab.locator("#compare").click()
        tab.locator(f"#images button[data-id='{other}']").click()
        holds(tab, "#compared", "Comparing the paths")
    settle(tab)
    holds(tab, "#compared", "Comparing the paths")
    held(tab, late, 1).continue_()
    tab.locator("#compared .differs td").first.wait_for()
    holds(tab, "#compared thead", "held-out digit 6")


def test_of_two_ways_the_later_is_waited_for_and_its_graph_is_drawn(tab):
    choose_image(tab, 4)
    graphs, ways = [], []
    tab.route("**/api/graph", lambda route: graphs.append(route))
    tab.route("**/api/explain", lambda route: ways.append(route))
    tab.locator("#feeds summary").click()
    holds(tab, "#feeds", "Drawing the graph")
    tab.locator("#tab-circuit").click()
    holds(tab, "#way", "Finding the circuit")
    tab.locator("#tab-path").click()
    tab.locator("#images button[data-id='5']").click()
    holds(tab, "#caption", "digit 5")
    settle(tab)
    holds(tab, "#way", "Finding the path")
    with tab.expect_event("requestfinished", lambda request: request.url.endswith("graph")):
        held(tab, graphs, 0).continue_()
    settle(tab)
    assert not tab.locator("#feeds .edge").count()
    ways[-1].continue_()
    holds(tab, "#feeds", "Drawing the graph")
    held(tab, graphs, 1).continue_()
    tab.locator("#feeds .edge").first.wait_for()
    assert [route.request.post_data_json["image"] for route in graphs] == ["4", "5"]
