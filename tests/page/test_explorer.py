"""The explorer's server: its answers beside what the library says in Python, whom it refuses, and what it makes of uploads."""

import io
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from served import served

import neuronpath as nph
from neuronpath.page.explorer.explorer import Explored, Explorer
from neuronpath.page.explorer.gallery import HELD, digits, folder
from neuronpath.page.explorer.turns import Gone, Kept, Turns

OFF = [["head", 4, 0, "off"], ["neuron", 4, 163, "off"]]


@pytest.fixture(scope="module")
def site(demo):
    with served([Explored("demo", demo[0], "nph.load_model('demo')")], digits()) as found:
        yield found


def file_of(pixels, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


# ---- answers


def test_it_says_what_the_model_says(site, demo):
    model, images, labels = demo
    found = site.ask("predict", {"image": "7"})
    with torch.no_grad():
        best, order = model(images[7:8]).softmax(1)[0].topk(5)
    assert [each["label"] for each in found["classes"]] == order.tolist()
    assert [each["clean"] for each in found["classes"]] == pytest.approx(best.tolist(), rel=1e-5)
    assert found["truth"]["label"] == int(labels[7])


def test_the_path_and_the_circuit_are_the_librarys(site, demo):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((files("neuronpath") / "page" / "scene.schema.json").read_text())
    model, images, _ = demo
    for kind, way in (("path", nph.find_path(model, images[4:5])), ("circuit", nph.find_circuit(model, images[4:5]))):
        found = site.ask("explain", {"image": "4", "kind": kind})
        jsonschema.validate(found["scene"], schema)
        view = found["scene"]["images"][0]["views"][0]
        named = [f"block-{u.block}-{u.kind}-{u.index}" for u in way.units_of(0)]
        assert [point["key"] for point in view["drawing"]["points"]] == named
        assert found["html"].count('class="point') == len(named)
        left = next(effect["value"] for effect in view["effects"] if effect["kind"] == "removed")
        assert left == pytest.approx(float(way.left[0]), abs=1e-5)


@pytest.mark.parametrize(
    "changes",
    [OFF, [["head", 0, 2, "double"]], [["neuron", 5, 200, "mean"]], [*OFF, ["head", 7, 1, "mean"], ["neuron", 1, 118, "double"]]],
)  # fmt: skip
def test_changed_units_and_the_same_in_python(site, demo, changes):
    found = site.ask("change", {"image": "4", "changes": changes})
    names: dict = {}
    exec(found["code"], names)
    if not any(way == "mean" for *_, way in changes):  # the explorer here has read the means of 60 digits alone
        expected = names["probabilities"][0].detach()
        assert [each["now"] for each in found["classes"]] == pytest.approx(
            [float(expected[each["label"]]) for each in found["classes"]], abs=1e-5
        )
        assert found["flips"] == (int(expected.argmax()) != 5)
    clean = demo[0](demo[1][4:5]).softmax(1)[0].detach()
    assert [each["clean"] for each in found["classes"]] == pytest.approx(
        [float(clean[each["label"]]) for each in found["classes"]], abs=1e-5
    )
    again = site.ask("change", {"image": "4", "changes": changes[::-1]})
    assert again["classes"] == found["classes"]  # the control's units too are drawn anew the same


def test_a_mean_is_that_of_the_images_read(site, demo):
    model, images, _ = demo
    numbers = site.explorer.surveys[0].numbers
    assert len(numbers) == 60
    means = nph.mean_activations(model, images[numbers], units="both", token="all")
    units = [("head", 4, 0), (5, 200)]
    with nph.set_to(model, units, means, units="both", tokens="all"), torch.no_grad():
        expected = model(images[4:5]).softmax(1)[0]
    found = site.ask("change", {"image": "4", "changes": [["head", 4, 0, "mean"], ["neuron", 5, 200, "mean"]]})
    assert [each["now"] for each in found["classes"]] == pytest.approx(
        [float(expected[each["label"]]) for each in found["classes"]], abs=1e-5
    )


def test_a_mean_is_that_of_the_reference(demo, tmp_path):
    model, images, _ = demo
    others = nph.demo.load("train")[1][:5]
    for i, pixels in enumerate(others):
        Image.fromarray(((pixels[0] + 1) * 127.5).round().byte().numpy()).save(tmp_path / f"{i}.png")
    reference = folder(tmp_path, model, lambda reason: None)
    with served([Explored("demo", model, "nph.load_model('demo')")], digits(), reference=reference) as site:
        changes = [["head", 4, 0, "mean"], ["neuron", 5, 200, "mean"]]
        found = site.ask("change", {"image": "4", "changes": changes})
        means = nph.mean_activations(model, others, units="both", token="all")
        with nph.set_to(model, [("head", 4, 0), (5, 200)], means, units="both", tokens="all"), torch.no_grad():
            expected = model(images[4:5]).softmax(1)[0]
        names: dict = {}
        exec(found["code"], names)
        for said in (expected, names["probabilities"][0].detach()):
            assert [each["now"] for each in found["classes"]] == pytest.approx(
                [float(said[each["label"]]) for each in found["classes"]],
                abs=2e-3,  # a file's levels are whole ones
            )
        assert site.ask("unit", {"image": "4", "unit": ["neuron", 5, 200]})["likes"]["of"] == 60  # still of those given


def test_a_model_that_refuses_the_images_says_so(demo):
    other = timm.create_model("vit_tiny_patch16_224", num_classes=5, depth=2)
    with served([Explored("demo", demo[0], ""), Explored("other", other, "")], digits()) as site:
        found = json.loads(site.get("/api/images")[2])
        assert len(found["problems"]) == 1
        assert found["problems"][0].startswith(
            "other can't read the images: the model refuses images of shape (1, 32, 32)"
        )
        assert (found["read"], found["reading"]) == (60, 60)  # by the one that takes them
        mean = {"image": "4", "changes": [["neuron", 1, 0, "mean"]]}
        assert site.ask("change", mean)["classes"]
        with pytest.raises(nph.InputError, match="a mean wants all images, which can't be read: the model refuses"):
            site.explorer.surveys[1].means()
    with served([Explored("other", other, "")], digits()) as site:
        found = json.loads(site.get("/api/images")[2])
        assert (found["read"], found["reading"]) == (0, 0)  # nothing to wait for


def test_without_changes_all_is_as_it_was(site, demo):
    found = site.ask("change", {"image": "4", "changes": []})
    assert [each["now"] for each in found["classes"]] == [each["clean"] for each in found["classes"]]
    assert all(each["random"] is None for each in found["classes"])
    names: dict = {}
    exec(found["code"], names)
    assert torch.allclose(names["probabilities"], demo[0](demo[1][4:5]).softmax(1))


def test_the_control_is_other_units_of_the_same_make(demo):
    from neuronpath.page.explorer.changes import as_changes, control_of

    vit = nph.view(demo[0], "all", "both")
    changes = as_changes([["head", 3, i, "off"] for i in range(3)] + [["neuron", 2, 7, "double"]], vit)
    control = control_of(changes, vit)
    assert not control.keys() & changes.keys()
    assert sorted((u.block, u.kind, way) for u, way in control.items()) == [(2, "neuron", "double"), (3, "head", "off")]
    many = as_changes([["neuron", 2, i, "off"] for i in range(50)], vit)
    assert len(control_of(many, vit)) == 50


# ---- whom it answers


def test_only_its_own_page_is_answered(site):
    status, headers, page = site.get("/")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert b"http" not in page.replace(b"<!doctype html>", b"")
    for path in ("/", "/explorer.js", "/api/images", "/picture/3"):
        assert site.get(path)[0] == 200
        assert site.get(path, Host="localhost:9999")[0] == 200  # through a tunnel
        assert site.get(path, Host="[::1]:7860")[0] == 200
        for host in ("evil.example", "127.0.0.1.evil.example:7860", "", "localhost.evil.example", "[", "[::1"):
            assert site.get(path, Host=host)[0] == 403, (path, host)
    assert site.get("/picture/3", Sec_Fetch_Site="cross-site")[0] == 403
    body = json.dumps({"image": "3"}).encode()
    good = {"Content_Type": "application/json", "Host": "localhost:1"}
    assert site.request("POST", "/api/predict", body, **good, Origin="http://localhost:1")[0] == 200
    for origin in ("http://evil.example", "null", "https://localhost:1", "http://localhost:2"):
        assert site.request("POST", "/api/predict", body, **good, Origin=origin)[0] == 403
    assert site.request("POST", "/api/predict", body, Content_Type="text/plain")[0] == 415
    assert site.request("OPTIONS", "/api/predict", **good)[0] == 501  # so that no other site's page may even ask


def test_a_bad_question_is_one_line(site):
    for words, question, body in (
        ("no JSON object", "predict", [1]),
        ("no image '999'", "predict", {"image": "999"}),
        ("no image", "predict", {"image": "-1"}),
        ("image is None", "predict", {}),
        ("model is 1", "predict", {"image": "1", "model": 1}),
        ("kind is 'edge'", "explain", {"image": "1", "kind": "edge"}),
        ("out of range", "change", {"image": "1", "changes": [["head", 4, 9, "off"]]}),
        ("block 99", "change", {"image": "1", "changes": [["head", 99, 0, "off"]]}),
        ("one of off", "change", {"image": "1", "changes": [["head", 4, 0, "__import__"]]}),
        ("no unit|kind of unit", "change", {"image": "1", "changes": [["../head", 4, 0, "off"]]}),
        ("no unit", "change", {"image": "1", "changes": [["head", 1.5, 0, "off"]]}),
        ("one of off", "change", {"image": "1", "changes": [["head", 4, 0, []]]}),
        ("changes", "change", {"image": "1", "changes": [OFF[0]] * 5000}),
    ):
        line = site.ask(question, body, 400)["error"]
        assert "\n" not in line
        assert any(word in line for word in words.split("|")), line
    assert site.request("POST", "/api/predict", b"{", Content_Type="application/json")[0] == 400
    assert site.request("POST", "/api/predict", b"[" * 100_000, Content_Type="application/json")[0] == 400
    assert site.get("/../../etc/passwd")[0] == 404
    assert site.get("http://[", Host="localhost")[0] == 404
    assert site.request("POST", "http://[", b"{}", Content_Type="application/json", Host="localhost")[0] == 404
    assert site.get("/picture/..%2F..%2Fetc%2Fpasswd")[0] == 400
    assert site.get("/api/images?from=-5")[0] == 400


# ---- uploads


def test_an_upload_is_as_if_it_had_been_loaded(site, demo, tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (40, 50, 3), dtype=np.uint8)
    (tmp_path / "cat.png").write_bytes(file_of(pixels))
    found = site.upload((tmp_path / "cat.png").read_bytes(), "cat.png")
    assert found["name"] == "cat.png"
    images, _ = nph.load_images(tmp_path / "cat.png", demo[0])
    best = demo[0](images).softmax(1)[0].detach().topk(5)
    said = site.ask("predict", {"image": found["id"]})
    assert [each["label"] for each in said["classes"]] == best.indices.tolist()
    assert [each["now"] for each in said["classes"]] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert said["truth"] is None
    assert "load_images('cat.png', model)" in site.ask("change", {"image": found["id"], "changes": OFF})["code"]
    status, headers, picture = site.get(f"/picture/{found['id']}")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(picture)).size == (32, 32)


def bomb():
    """A PNG of 60,000 x 60,000 pixels in a few kilobytes."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = (60_000).to_bytes(4, "big")
    rows = zlib.compress(bytes(7_501 * 200), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size * 2 + b"\x01\0\0\0\0") + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_hostile_uploads_are_one_line(site, capfd):
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch /tmp/owned) (w) file\n"
    damaged = (
        svg, postscript, b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n", file_of(np.eye(99, dtype=np.uint8))[:70], b"BM" + bytes(300),
    )  # fmt: skip
    for words, content in (
        ("is empty", b""), ("is too large; expected at most 50,000,000 pixels", bomb()),
        *(("is damaged or no image", each) for each in damaged),
    ):  # fmt: skip
        line = site.upload(content, "evil%0A%3Cb%3E.png", 400)["error"]
        assert words in line
        assert "\n" not in line
    assert "too many" in site.upload(bytes(200 * 2**20), status=413)["error"]
    assert site.request("POST", "/api/upload?name=a", b"x", Content_Type="image/png")[0] == 415
    assert capfd.readouterr().err == ""


def test_a_polyglot_is_its_pixels_alone(site):
    evil = b"<script>alert(1)</script>"
    content = (
        file_of(np.full((40, 40, 3), 99, np.uint8), "JPEG", comment=evil) + b"\n" + evil + b"PK\x05\x06" + bytes(18)
    )
    found = site.upload(content, "a.html")
    _, headers, picture = site.get(f"/picture/{found['id']}")
    assert headers["Content-Type"] == "image/png"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert b"script" not in picture


def test_names_stay_text(site):
    evil = "<img src=x onerror=alert(1)>.png"
    found = site.upload(file_of(np.zeros((9, 9), np.uint8)), "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E.png")
    assert found["name"] == evil
    drawn = site.ask("explain", {"image": found["id"], "kind": "path"})
    assert evil not in drawn["html"]


# ---- many at once, and what is kept


def test_twenty_at_once_in_bounded_memory(site):
    def session(seed):
        pixels = np.random.RandomState(seed).randint(0, 256, (16, 16), dtype=np.uint8)
        own = site.upload(file_of(pixels), f"{seed}.png")["id"]
        said = [site.ask("change", {"image": image, "changes": OFF}) for image in (own, str(seed))]
        return own, [each["classes"] for each in said]

    with ThreadPoolExecutor(20) as pool:
        many = list(pool.map(session, range(40)))
    assert [session(seed) for seed in (0, 21, 39)] == [many[seed] for seed in (0, 21, 39)]
    assert len({own for own, _ in many}) == 40
    for seed in range(HELD):
        site.upload(file_of(np.full((8, 8), seed, np.uint8)))
    gone = site.ask("predict", {"image": many[0][0]}, 410)
    assert "no longer in memory" in gone["error"]
    kept = Kept(3)
    for i in range(9):
        kept.put(i, i)
        kept.get(0)
    assert [i for i in range(9) if kept.get(i) is not None] == [0, 7, 8]


def test_turns_are_taken_in_order_and_those_who_left_are_passed_over():
    turns, seen = Turns(), []
    here = ThreadPoolExecutor(4)

    def wait(name, gone=lambda: False):
        with turns.turn(gone):
            seen.append(name)

    with turns.turn():
        left = here.submit(wait, "left", lambda: True)
        assert isinstance(left.exception(timeout=5), Gone)
        waiting = [here.submit(wait, name) for name in "ab"]
    for each in waiting:
        each.result(timeout=5)
    with turns.spare():
        pass
    assert sorted(seen) == ["a", "b"]
    here.shutdown()


def test_slow_work_is_done_on_a_clean_copy(demo):
    for _ in range(3):
        explorer = Explorer([Explored("demo", demo[0], "")], digits(), 360)
        explorer.begin()  # which has hooks on the model
        copied = explorer.models[0].apart.model
        assert 0 <= explorer.surveys[0].done < 360
        explorer.ended.set()
        assert not any(module._forward_pre_hooks for module in copied.modules())
        assert torch.equal(copied(demo[1][:2]), nph.demo.load()[0](demo[1][:2]))


# ---- folders


def test_a_folder_of_classes(demo, tmp_path):
    model, images, labels = demo
    for i in range(12):
        place = tmp_path / str(int(labels[i]))
        place.mkdir(exist_ok=True)
        Image.fromarray(((images[i, 0] + 1) * 127.5).round().byte().numpy()).save(place / f"{i}.png")
    (tmp_path / "3" / "broken.png").write_bytes(b"no")
    given = folder(tmp_path, model, lambda reason: None)
    assert len(given.names) == 13
    with served([Explored("demo", model, "nph.load_model('demo')")], given, limit=10) as site:
        survey = site.explorer.surveys[0]
        shown = json.loads(site.get("/api/images")[2])
        assert shown["of"] == 13
        assert [each["truth"] for each in shown["images"]] == sorted(each["truth"] for each in shown["images"])
        assert {given.labels[i] for i in survey.numbers} == set(given.labels)  # of each class some
        broken = next(i for i, name in enumerate(given.names) if "broken" in name)
        assert "damaged" in site.ask("predict", {"image": str(broken)}, 400)["error"]
        fine = next(i for i, name in enumerate(given.names) if name.endswith("4.png"))
        names: dict = {}
        exec(site.ask("change", {"image": str(fine), "changes": OFF})["code"], names)
        found = site.ask("change", {"image": str(fine), "changes": OFF})
        top = found["classes"][0]
        assert top["now"] == pytest.approx(float(names["probabilities"].detach()[0, top["label"]]), abs=1e-5)
