"""What README and the docs say in words of measured figures is what docs/measured holds."""

import json

import pandas as pd
import pytest
from measured_tables import DOCS, MEASURED, multiple, only, percent, rows_of, said, share

from neuronpath.evaluation.claims import TABLES, claims
from neuronpath.evaluation.evaluate import as_text


def default(file, baseline="zero", units="both"):
    return only(rows_of(file), baseline=baseline, units=units, effort="standard")


def search(row):
    """F+B of a search, from its least to its most: the formula of performance.md."""
    begun = 1 / 3 + 1 + 2 + 1 / 3
    return begun + row["sweeps"], begun + row["sweeps"] * 5 / 3


def whole(row):
    return [cost + row["nodes"] for cost in search(row)]


def span(values):
    values = list(values)
    return f"{min(values):.0f} to {max(values):.0f}"


def taken_at_random(file):
    removing, *_ = json.loads((MEASURED / f"{file}.json").read_text())["tables"]
    return only(removing["rows"], path="random")["takes of p"]


def points(figure, sign):
    """By how much less knowledge's path changes the probability than causal's, in points."""
    row = only(rows_of("paper-rivals"), method="knowledge", figure=figure)
    ends = sorted(100 * sign * row[f"minus_first{end}"] for end in ("_low", "_high"))
    return "{:.2f} pp [{:.2f}, {:.2f}]".format(100 * sign * row["minus_first"], *ends)


def of_kinds(method):
    """What removing a method's paths takes, in points: of neurons, heads and both."""
    rows = [only(rows_of("heads"), method=method, figure="probability_removed", units=kind)
            for kind in ("neurons", "heads", "both")]  # fmt: skip
    cells = (
        "{:.1f} [{:.1f}, {:.1f}]".format(*(round(-100 * row[end], 1) + 0 for end in ("mean", "high", "low")))
        for row in rows
    )
    return f"| `{method}` | {' | '.join(cells)} |"


def masked(k, kept, share=1.0):
    return only(rows_of("masking"), k=k, kept=kept, masked=share)


def masking(k):
    cells = []
    for path, random in ((masked(k, "path", gone), masked(k, "random", gone)) for gone in (0.5, 1.0)):
        cells += [f"{100 * row['accuracy']:.1f}" for row in (path, random)]
        cells.append("{:+.1f} [{:.1f}, {:.1f}]".format(*path["lead"]))
    return f"| {k} | {' | '.join(cells)} |"


def taken_for_it(kept):
    return [f"{100 * masked(k, kept)['others_taken_for_it']:.1f}" for k in KEPT]


def summed(kind):
    return f"{100 * only(rows_of('heads'), method='joint', figure='attribution', units=kind)['mean']:.1f}"


KEPT = (1, 5, 10, 20, 50)
DIGITS, MNIST, PHOTOS = "default_path", "default_path-mnist", "default_path-vits14"
neurons = [default(file, units="neurons")["takes"] for file in (DIGITS, PHOTOS)]
by_random = [taken_at_random(file) for file in ("digits", "vits14")]
tried = [default(file, baseline) for file in (DIGITS, MNIST, PHOTOS) for baseline in ("zero", "mean")]
easy = tried[:4]  # digits and MNIST
cost = {row["method"]: multiple(row["F+B"]) for row in rows_of("cost") if row["model"] == "vit_small_patch16_224"}
(suite,) = json.loads((MEASURED / "cost-vits14.json").read_text())["tables"]
trained = {row["name"].removeprefix("path, "): multiple(row["F+B"][0]) for row in suite["rows"]}
circuit, photo_circuit = ({row["criterion"]: row for row in rows_of(f)} for f in ("circuits", "circuits-vits14"))
mnist_circuit = only(rows_of("circuits-mnist"), criterion="break")
found_by = ", ".join(f"{photo_circuit[name]['F+B, median']:.0f}" for name in ("keep", "break", "both"))
models = [line for line in (DOCS / "models.md").read_text().splitlines() if line.startswith("| ")]
models = [line for line in models if not line.startswith(("| architecture", "|---"))]
refused = sum("| refused: " in line for line in models)
pruned = sum(line.split(" | ")[3] == "yes" for line in models)

SAID = [
    ("README", f"{share(neurons[0])} of a digit's probability, {share(neurons[1])} of a photograph's (ablated to 0"),
    ("README", f"all else following | {cost['live']} | {trained['live']} |"),
    ("README", f"to first order | {cost['causal']} | {trained['causal']} |"),
    ("README", f"over all blocks at once | {cost['joint']} | {trained['joint']} |"),
    ("README", f"authors' release returns | {cost['paper']} | |"),
    ("README", f"break it, or both | | {found_by} |"),
    ("README", f"{len(models) - refused} of the {len(models)} architectures in timm's"),
    ("models", f"{len(models) - refused} of {len(models)} architectures work, {refused} are refused"),
    ("models", f"takes them out of {pruned}:"),
    ("limits", f"{refused} of {len(models)} timm ViTs are refused"),
    (
        "limits",
        f"ablated to 0, takes {share(neurons[0])} of a digit's probability, {share(neurons[1])} of a photograph's",
    ),
    (
        "limits",
        f"ablated to the mean: {share(by_random[0])} of a digit's probability, {share(by_random[1])} of a photograph's",
    ),
    ("limits", f"the path takes {share(default(MNIST, 'mean')['takes'])}, ablated to the mean"),
    ("limits", f"{(1 - mnist_circuit['found']) * mnist_circuit['n']:.0f} of {mnist_circuit['n']} decisions can't be"),
    ("limits", f"keep {circuit['keep']['rechecked']:.2f} of a digit's probability under another's, where it was "
               f"{circuit['keep']['alone']:.2f}"),
    ("limits", f"{photo_circuit['keep']['wrong class, median']:.0f} units have the model say the runner-up instead, where "
               f"{photo_circuit['keep']['units, median']:.0f} keep"),
    ("limits", f"{cost['live']} forward + backward passes an image with random weights, {trained['live']} with a trained"),
    ("limits", f"for digits and MNIST {span(f for row in easy for f in whole(row))} by"),
    ("limits", f"{span(row['nodes'] for row in easy)} of them for figures"),
    ("reading", f"for {percent(1 - default(DIGITS)['converged'])} of 200 digits, and "
                f"{percent(1 - default(PHOTOS)['converged'])} of 200 photographs"),
    ("tutorial", f"A digit costs {span(whole(default(DIGITS, 'mean')))} ["),
    ("benchmark", f"a default path takes {trained['live']} forward + backward passes, a circuit with its controls "
                  f"{trained['circuit that keeps']} ("),
    *(("concepts", of_kinds(method)) for method in ("joint", "causal", "knowledge", "activation", "random")),
    ("concepts", f"sum to {summed('heads')} points for heads, and to only {summed('both')} for both"),
    ("concepts", "| digits | {} | {} | {} |".format(
        *map(share, (default(DIGITS)["takes"], default(DIGITS)["random takes"], neurons[0])))),
    ("concepts", "1,536 neurons | {} | {} | {} |".format(
        *map(share, (default(PHOTOS)["takes"], default(PHOTOS)["random takes"], neurons[1])))),
    ("concepts", f"{span(f for row in tried for f in search(row))} forward + backward passes for the search"),
    ("concepts", f"{span(whole(default(PHOTOS)))} in all on that ViT-S/14"),
    *(("paper", masking(k)) for k in KEPT),
    ("paper", "{}, {}, {}, {} and {} % of them for K".format(*taken_for_it("path"))),
    ("paper", f"at most {max(taken_for_it('random'))} % with random neurons"),
    ("paper", f"removing `causal`'s path takes {points('probability_removed', 1)} more"),
    ("paper", f"doubling it adds {points('probability_enhanced', -1)} more"),
]  # fmt: skip


@pytest.mark.parametrize(("page", "sentence"), SAID, ids=[f"{page}: {sentence[:40]}" for page, sentence in SAID])
def test_the_page_says_what_was_measured(page, sentence):
    assert sentence in said(page)


def test_the_paper_s_tables_are_those_that_evaluate_wrote():
    page = (DOCS / "paper.md").read_text()
    found, rivals = (pd.DataFrame(rows_of(file)) for file in ("paper", "paper-rivals"))
    for title, figures in TABLES.items():
        assert f"{title}\n\n{as_text(found, figures=figures)}\n" in page
    assert f"```text\n{as_text(rivals)}\n```" in page
    for claim in claims(found, None):
        assert f"- {claim}\n" in page
