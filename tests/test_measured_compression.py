"""What docs/recursive.md prints is what ``neuronpath compress`` and the benchmarks wrote, kept beside it, or what its code prints."""

import json
import re

import pandas as pd
import pytest
from measured_tables import DOCS, MEASURED, line, rows_of, said

PAGE = (DOCS / "recursive.md").read_text()
SAID = said("recursive")
CALLED = {
    "recursive+low-rank": "recursive, then low-rank",
    "first-blocks": "first blocks",
    "every-other": "every other block",
}


def table_of(name):
    return pd.read_csv(MEASURED / "recursive" / f"{name}.csv")


def percent(value):
    return f"{100 * value:.1f}".removesuffix(".0") if round(100 * value, 1) == 100 else f"{100 * value:.1f}"


def share(value, digits=2):
    return f"{value:.{digits}f}".lstrip("0") if round(value, 2) != 1 else "1"


def right(row):
    return f"{percent(row.accuracy)} ({percent(row.low)} to {percent(row.high)})"


def as_they_are(table):
    for row in table.itertuples():
        kl = f"{row.kl:.{2 if row.kl > 0.1 else 1}g}".lstrip("0")
        called = "prune, heads too" if (row.method, row.share) == ("prune", 0.3) else CALLED.get(row.method, row.method)
        cells = (
            called,
            share(row.parameters),
            right(row),
            percent(row.agreement),
            kl,
            share(row.bytes),
            share(row.multiply_adds),
        )
        yield " | ".join(cells)


def distilled(table):
    before, after = (table[table["distilled"] == trained].set_index(["method", "share"]) for trained in (False, True))
    for (method, _), row in after.iterrows():
        whole = before.loc[(method, row.name[1])]
        yield " | ".join([CALLED.get(method, method), share(row.parameters), percent(whole.accuracy), percent(whole.agreement),
                          right(row), percent(row.agreement)])  # fmt: skip


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("digits", as_they_are),
        ("digits-distilled", distilled),
        ("cifar-distilled", distilled),
        ("vits14-distilled", distilled),
    ],
)
def test_the_page_prints_what_was_measured(name, lines):
    table = table_of(name)
    found = list(lines(table[table["method"] != "as it is"]))
    assert found
    assert [line for line in found if f"| {line} |" not in PAGE] == []


def test_the_originals():
    tables = [table_of(name).set_index("method") for name in ("digits", "cifar-distilled", "vits14-distilled")]
    wanted = [f"the original: {right(table.loc['as it is'])}" for table in tables]
    found = re.findall(r"the original: [\d.]+ % right, [\d.]+ to [\d.]+", SAID)
    assert [text.replace(" % right, ", " (") + ")" for text in found] == wanted


def test_the_lead_over_fewer_blocks():
    """Of the distilled recursive models, from the largest on; and how far the smallest is behind before that."""

    def leads(name):
        table = table_of(name).query("distilled").pivot(index="share", columns="method", values="accuracy")
        return [f"{100 * lead:.0f}" for lead in (table["recursive"] - table["first-blocks"]).dropna()[::-1]]

    cifar, (of_digits,) = leads("cifar-distilled"), set(leads("digits-distilled"))
    assert "leads one of fewer blocks by {}, {} and {} points".format(*cifar) in SAID
    least, *_, most = sorted(cifar, key=int)
    assert f"by {least} to {most} points, on the digits by {of_digits}, within the intervals" in SAID
    before = table_of("cifar-distilled").query("not distilled and share == 0.13").set_index("method")["accuracy"]
    assert f"({percent(before['recursive'])} against {percent(before['first-blocks'])} %)" in SAID


@pytest.mark.parametrize(
    ("run", "called"),
    [
        ("low-rank:0.45", "low-rank"),
        ("recursive:0.56:4:sequence", "recursive, K = 4, runs of neighbours, rank 64"),
        ("recursive+low-rank:0.45:6:sequence", "recursive, K = 6, then low-rank"),
    ],
)
def test_calibration_images(run, called):
    rows = {row["calibration"]: row for row in rows_of("smaller") if row["run"] == run}
    assert run in SAID
    agreements = (f"{percent(rows[count]['agreement'])} %" for count in (100, 400))
    assert line(called, share(rows[400]["parameters"]), *agreements) in PAGE


def test_too_high_a_rate():
    before, after = table_of("vits14-distilled-lr1e-4").set_index("method").loc["recursive", "agreement"]
    said = f"made the recursive one worse: of {percent(before)} % that say the same before training {percent(after)} % are left"
    assert said in SAID


def test_conversion():
    (row,) = rows_of("conversion")
    took = f"took {row['of them s of a CPU']:.0f} s of one CPU core and {row['peak GiB']:.1f} GiB at most"
    ran = f"merged it ran in {row['merged / model']:.2f} of the model's time, which ran in {row['model / itself']:.2f} of its own"
    assert f"{took}; {ran}" in SAID


def test_exits():
    about = json.loads((MEASURED / "serving.json").read_text())["about"]
    loops = f"{about['mean loops']:.2f} of {about['loops']} loops on average"
    last, early = (percent(about[f"accuracy {which}"]) for which in ("of the last block", "with exits"))
    assert last == early
    assert f"the 360 test digits leave after {loops}, and {early} % are right, as many as at the last block" in SAID
    assert f"the threshold {share(about['threshold'])} chosen" in SAID
    assert f"the threshold above ({loops})" in SAID


def test_schedules():
    rows = rows_of("serving")
    (waits,) = (row["ms an image"] for row in rows if row["schedule"] == "compact")
    for row in rows:
        alone = row["schedule"] in ("sync", "compact")
        median, least, most = (f"{row[name]:.1f}".removeprefix("0") for name in ("over full depth", "least", "most"))
        mix, wait = "" if alone else f'`"{row["mix"]}"`', row["ms an image"] / waits
        cells = (f"{median} ({least} to {most})", f"{row['on paper / measured']:.2f}".removeprefix("0"), f"{wait:.1f}")
        assert line(f'`"{row["schedule"]}"`', mix, *cells).replace("|  |", "| |") in PAGE


def test_neurons_that_passes_have_in_common():
    own, _, _, shared = rows_of("reuse")
    assert (own["rank"], own["distilled"], shared["rank"], shared["distilled"]) == (8, False, 0, True)
    assert (
        "have {best 1:.1%} of their path's neurons in common on the embedded digits (chance {chance 1:.1%}), and of their best "
        "16 neurons {best 16:.0%} (chance {chance 16:.0%})"
    ).format(**own).replace("%", " %") in SAID
    said = "they do: {best 1:.0%} of the path's neurons, {best 16:.0%} of the best 16".format(**shared)
    assert said.replace("%", " %") in SAID


def test_what_leaves_behind_the_first_loop():
    cells = json.loads((DOCS.parent / "notebooks" / "05_recursive.ipynb").read_text())["cells"]
    printed = ["".join(out.get("data", {}).get("text/plain", "")) for cell in cells for out in cell.get("outputs", [])]
    (counts,) = (re.findall(r"\d+", text.partition("images")[2]) for text in printed if text.startswith("blocks "))
    first, *others = map(int, counts)
    assert f"in which {first / (first + sum(others)):.0%}".replace("%", " %") + " leave behind the first loop" in SAID


def test_what_the_code_prints():
    """But for an image or two, which another processor may see otherwise."""
    said: list[str] = []
    printed: list[float] = []
    scope = {"print": lambda *values: printed.extend(map(float, values))}
    for code in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        if "print(share" in code:
            exec(code, scope)
            for comment in re.findall(r"print\(share.*  # ([\d., ]+)", code):
                said += re.findall(r"[\d.]+", comment)
    assert printed == pytest.approx([float(figure) for figure in said], abs=0.006)
    assert len(said) == 5
