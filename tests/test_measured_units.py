"""What the pages on circuits, edges, faithfulness and pruning say in words of measured figures is what docs/measured holds."""

import json

import pytest
from measured_tables import MEASURED, only, percent, points, rows_of, said

FILES = {"digits": "", "MNIST": "-mnist", "ViT-S/14": "-vits14"}


def of_criterion(file, criterion):
    return only(rows_of(file), criterion=criterion)


def board(file):
    return {(row["kind"], row["method"]): row for row in json.loads((MEASURED / f"{file}.json").read_text())["figures"]}


def takes(file):
    """What the live path takes, and the next best ranking or path, and the random one, in %."""
    found = {key: round(100 * row["takes"][0]) for key, row in board(file).items() if key[0] != "importance"}
    live, random = found.pop(("path", "live")), found.pop(("path", "random"))
    return live, max(found.values()), random


def neurons_alone(model, baseline):
    return round(100 * only(rows_of(f"default_path{FILES[model]}"), units="neurons", baseline=baseline)["takes"][0])


def beside_paper(model, tokens):
    """The default path of neurons beside the published algorithm's."""
    figures = only(rows_of(f"quality{FILES[model]}"), method=f"live, {tokens} tokens")["removal / paper's"]
    value, interval = figures.split(" ", 1)
    ends = (f"{float(end):.2f}" for end in interval.strip("[]").split(", "))
    return f"{float(value):.2f} [{', '.join(ends)}]"


def every(units, baseline):
    value, low, high = only(rows_of("every_choice-mnist"), units=units, baseline=baseline)["takes"]
    return f"{points(value)} % [{points(low)}, {points(high)}]"


def pruned(by, keep, scope="block", file="pruning", figure="accuracy"):
    rows = json.loads((MEASURED / f"{file}.json").read_text())
    return only(rows, importance=by, keep=keep, scope=scope)[figure]


def by_tokens(by, tokens):
    rows = [
        row for row in rows_of("pruned_units") if (row["units"], row["by"], row["tokens"]) == ("neurons", by, tokens)
    ]
    return [points(row["accuracy"]) for row in rows]


def compensated(by, keep):
    """Accuracy with compensation, and without."""
    return points(pruned(by, keep, file="pruning-compensated")), points(pruned(by, keep))


def before(by, keep, scope):
    return f"{100 * (pruned('path', keep, scope) - pruned(by, keep, scope)):.0f}"


keep, break_ = of_criterion("circuits", "keep"), of_criterion("circuits", "break")
photo_keep, photo_break = of_criterion("circuits-vits14", "keep"), of_criterion("circuits-vits14", "break")
mnist_keep, mnist_break = of_criterion("circuits-mnist", "keep"), of_criterion("circuits-mnist", "break")
classes, fewer = (of_criterion(file, "both") for file in ("class_circuits", "class_circuits-fewer"))
of_prob = [
    row["pearson, median"] for end in FILES.values() for row in rows_of(f"edges{end}") if row["output"] == "prob"
]
photo_edges, mnist_edges = (
    only(rows_of(file), of="path", baseline="zero", output="log-odds") for file in ("edges-vits14", "edges-mnist")
)
digits, mnist, photos = (takes(f"scoreboard{end}") for end in FILES.values())
rankings = board("scoreboard")
plants = {row["kind"]: row for row in json.loads((MEASURED / "planted.json").read_text())["plants"]}
planted = {row["method"]: row for row in rows_of("planted")}
_, keeping, _ = json.loads((MEASURED / "vits14.json").read_text())["tables"]
size = "{:.0f} [{:.0f}, {:.0f}]".format(*keeping["rows"][0]["units, median"])
recovered = [row for row in json.loads((MEASURED / "pruning-recovered.json").read_text()) if row["recovered"]]
behind = only(recovered, importance="magnitude", scope="global", keep=0.0625)

SAID = [
    ("circuits", f"To keep a digit takes {keep['units, median']:.0f} of 2,080 units, to keep a photograph "
                 f"{photo_keep['units, median']:.0f} of 18,504, which is {percent(photo_keep['units, median'] / 18504)} "
                 f"(on 200 photographs: [{size}]"),
    ("circuits", f"But {photo_keep['heads, median']:.0f} of these are heads"),
    ("circuits", f"takes {break_['heads, median']:.0f} heads of a digit's, {photo_break['heads, median']:.0f} of a photograph's"),
    ("circuits", f"For {keep['n'] - keep['wrong class found']} of {keep['n']} digits no circuit has the model say the runner-up"),
    ("circuits", f"it takes {keep['wrong class, median']:.0f} units, where {keep['units, median']:.0f} keep the right class"),
    ("circuits", f"{photo_keep['wrong class, median']:.0f} units where {photo_keep['units, median']:.0f} keep the right class"),
    ("circuits", f"a digit's circuit keeps {keep['rechecked']:.2f} where it kept {keep['alone']:.2f}"),
    ("circuits", f"for {mnist_keep['wrong class found']} of {mnist_keep['n']} images a circuit has the runner-up instead"),
    ("circuits", f"{(1 - mnist_break['found']) * mnist_break['n']:.0f} of {mnist_break['n']} decisions can't be broken"),
    ("circuits", f"{classes['units, median']:.0f} units decide for a class: alone they keep {percent(classes['same'][0])} of its "
                 f"decisions on new images, and without them {percent(classes['flips'][0])} change ({percent(fewer['flips'][0])} with "
                 "the mean over 100"),
    ("circuits", f"say it for {percent(classes['says'][0])} of other classes' images, random units for "
                 f"{percent(classes['random says'][0])}"),
    ("edges", f"the medians are {min(of_prob):.3f} to {max(of_prob):.3f}"),
    ("edges", f"take the time of {photo_edges['estimated']:.0f} forwards of the image, patching it for real that of "
              f"{photo_edges['patched']:.0f}"),
    ("edges", f"the one at {mnist_edges['pearson, lowest']:.3f} above"),
    ("faithfulness", f"On digits it takes {digits[0]} % where the next best takes {digits[1]} %, on the ViT-S/14 {photos[0]} % "
                     f"where that takes {photos[1]} %, and random units {digits[2]} and {photos[2]} %"),
    ("faithfulness", f"On MNIST the lead, {mnist[0]} against {mnist[1]} %"),
    ("faithfulness", f"do it with {rankings['path', 'live']['k_flip'][0]:.0f} digit units (median), that by growth with "
                     f"{rankings['ranking', 'growth']['k_flip'][0]:.0f}"),
    ("faithfulness", f"random other heads and neurons {percent(plants['chain']['stands without random others'])} do (carrier: "
                     f"{percent(plants['carrier']['stands without random others'], 2)})"),
    ("faithfulness", "growth {}, {} and {}, live {}, {} and {}".format(
        *(planted[method][f"{kind}: recall at size"].split()[0] for method in ("ranking: growth", "path: live") for kind in plants))),
    ("faithfulness", '`criterion="both"` finds {:.2f}, {:.2f} and {:.2f}'.format(
        *(planted["circuit: both"][f"{kind}: whole"] for kind in plants))),
    ("faithfulness", f"has a precision of {planted['circuit: break']['redundant: precision']:.2f}"),
    ("faithfulness", f"takes of digits {neurons_alone('digits', 'zero')} % (zero) and {neurons_alone('digits', 'mean')} % (mean), of "
                     f"MNIST {neurons_alone('MNIST', 'zero')} % at most, of the ViT-S/14 {neurons_alone('ViT-S/14', 'zero')} and "
                     f"{neurons_alone('ViT-S/14', 'mean')} %"),
    ("faithfulness", "takes {} times as much as `preset=\"paper\"` of the 360 digits, {} times of 200 of MNIST, {} times of 100 of the "
                     "ViT-S/14".format(*(beside_paper(model, "all") for model in FILES))),
    ("faithfulness", "the paper's setting, {}, {} and {} times".format(*(beside_paper(model, "pooled") for model in FILES))),
    ("faithfulness", "the best takes {} (zero) and {} (mean), the live path of heads {} and {}".format(
        *(every(units, baseline) for units in ("best choice of heads", "path of heads") for baseline in ("zero", "mean")))),
    ("faithfulness", "of heads and neurons {} % and {} %".format(
        *(every("path of both", baseline).split()[0] for baseline in ("zero", "mean")))),
    ("pruning", f"Paths lead random neurons by {before('random', 0.125, 'block')} points and magnitude by "
                f"{before('magnitude', 0.125, 'block')} at 0.125 of every block; at 0.0625 of all neurons by "
                f"{before('random', 0.0625, 'global')} and by {before('magnitude', 0.0625, 'global')}"),
    ("pruning", "Paths lead Taylor at 0.125 ({} points) and at 0.0625 ({}), where the complete attribution of every neuron "
                "(`complete`) leads by {} and {}".format(
                    *(points(pruned("path", kept, figure="lead"), "+") for kept in (0.125, 0.0625)),
                    *(points(pruned("complete", kept, figure="lead")) for kept in (0.125, 0.0625)))),
    ("pruning", "Accuracy {} and {} % (block, global) at 0.125, {} and {} % at 0.0625".format(
        *(points(pruned("path", kept, scope, "pruning-joint")) for kept in (0.125, 0.0625) for scope in ("block", "global")))),
    ("pruning", "`path` {} and {} % by all tokens, {} and {} % by the class token alone".format(
        *by_tokens("path", "all"), *by_tokens("path", "pooled"))),
    *(("pruning", "`{}` {} and {} against {} and {}".format(by, *by_tokens(by, "all"), *by_tokens(by, "pooled")))
      for by in ("complete", "taylor")),
    ("pruning", "at 0.25 of every block (`path` {} in place of {} %, `taylor` {} of {} %)".format(
        *compensated("path", 0.25), *compensated("taylor", 0.25))),
    ("pruning", "at 0.125 ({} in place of {} %, {} of {} %) and for random neurons ({} in place of {} %)".format(
        *compensated("path", 0.125), *compensated("taylor", 0.125), *compensated("random", 0.125))),
    ("pruning", "back to {} to {} %".format(*(points(end(row["accuracy"] for row in recovered)) for end in (min, max)))),
    ("pruning", f"stays {points(-behind['lead'])} points [{points(-behind['lead_high'])}, {points(-behind['lead_low'])}] behind"),
]  # fmt: skip


@pytest.mark.parametrize(("page", "sentence"), SAID, ids=[f"{page}: {sentence[:40]}" for page, sentence in SAID])
def test_the_page_says_what_was_measured(page, sentence):
    assert sentence in said(page)
