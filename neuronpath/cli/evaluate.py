"""The command neuronpath evaluate."""

from pathlib import Path
from typing import Annotated

from tqdm import tqdm

from ..checks import DONE, SOME_LEFT_OUT, InputError, printable
from ..options import Explained
from .options import (
    DETAILS,
    FIRST,
    INPUT,
    METHOD,
    OUTPUT,
    Baseline,
    BatchSize,
    Checkpoint,
    Classes,
    Device,
    Model,
    Pretrained,
    Quiet,
    Reference,
    Token,
    Units,
    Version,
)
from .sources import RANDOM, check_outputs, inputs, is_random, model_named, open_reference, paired
from .terminal import say, wrote


def evaluate(
    folder: Annotated[
        Path | None, FIRST(help="A folder with one folder of images a class. None: the 360 held-out digits.")
    ] = None,
    model: Model = None,
    pretrained: Pretrained = True,
    checkpoint: Checkpoint = None,
    methods: Annotated[
        str,
        METHOD(help="Methods and presets, with commas."),
    ] = "live,joint,causal,activation,knowledge,influence_pattern,conductance,random",
    paths: Annotated[
        list[Path] | None, INPUT(help="A file of find-path's for the same images, to be evaluated too.")
    ] = None,
    classes: Classes = None,
    units: Units = None,
    token: Token = None,
    baseline: Baseline = None,
    reference: Reference = None,
    target: Annotated[Explained, METHOD(help="The class to explain.")] = "label",
    limit: Annotated[int | None, INPUT(min=1, help="Take only so many images.")] = None,
    top_k: Annotated[int, METHOD(help="Units a site: neurons a block, heads a block.")] = 1,
    seed: Annotated[int, DETAILS(min=0, help="Of random units and of the bootstrap.")] = 0,
    paper: Annotated[
        bool, METHOD("--paper", help="The paper's tables and claims, on this model and these images.")
    ] = False,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    csv: Annotated[Path | None, OUTPUT(help="Write the table here.")] = None,
    json: Annotated[Path | None, OUTPUT(help="Write the table and its settings here.")] = None,
    curves: Annotated[
        Path | None,
        OUTPUT(help="Draw here how faithful the methods' paths are, and print their figures (.png, .svg, .pdf)."),
    ] = None,
    overwrite: Annotated[
        bool, OUTPUT("--overwrite", help="Let --csv, --json and --curves replace existing files.")
    ] = False,
    quiet: Quiet = False,
    version: Version = False,
) -> int:
    """Compare methods on the same images: scores, and what removing and enhancing their paths really does.

    Without arguments: the embedded model on 360 handwritten digits.
    """
    from .. import demo
    from ..data.labelled import labelled_batches, read_classes
    from ..evaluation.claims import WAYS as PAPER_WAYS
    from ..evaluation.claims import as_report
    from ..evaluation.evaluate import as_text, summary
    from ..files import check_spared, write_whole
    from ..jobs.evaluate import compare, curves_text, save
    from ..methods import way
    from ..models.load import load_model
    from ..models.view import view
    from ..paths.made_for import view_for
    from ..paths.neuron_paths import NeuronPaths
    from ..plots import plot_curves

    check_outputs([csv, json, curves], curves, overwrite)
    check_spared([csv, json, curves], inputs(paths or (), reference, folder, checkpoint, classes))
    ways = list(PAPER_WAYS) if paper else [name.strip() for name in methods.split(",") if name.strip()]
    for name in ways:
        way(name)
    called = [*ways, *(printable(path.stem) for path in paths or [])]
    if twice := [name for name in called if called.count(name) > 1]:
        raise InputError(
            f"{twice[0]!r} names two rows of the table (a file's row has its name); expected different names"
        )
    saved = {printable(path.stem): NeuronPaths.load(path) for path in paths or []}
    loaded = load_model(model_named(model, None if folder is None else [folder]), pretrained, checkpoint, device)
    view(loaded, token, units)
    for known in saved.values():
        view_for(known, loaded)
    if saved and units is None and token is None:  # as many units, on the same tokens
        first = next(iter(saved.values())).settings
        units, token = first.units, first.token
    others = open_reference(reference, baseline, None if folder is None else [folder], loaded)
    skipped: list[str] = []
    if folder is not None:
        mapping = None if classes is None else read_classes(classes)
        source, total = labelled_batches(loaded, folder, mapping, target == "label", limit, batch_size, skipped.append)
    elif model in (None, demo.NAME):
        source, total = demo.labelled_batches(limit, batch_size)
    else:
        raise InputError(f"no folder was named for {model}; expected one with a folder of images for each class")
    with tqdm(total=total * len(ways), unit="path", disable=True if quiet else None) as bar:
        measured, found, drawn = compare(
            loaded,
            paired(source, total, skipped, baseline, others),
            ways,
            explain=target,
            saved=saved,
            progress=bar,
            units=units,
            token=token,
            baseline=baseline,
            reference=others,
            top_k=top_k,
            seed=seed,
            curves=curves is not None,
        )
    for reason in skipped:
        say(f"skipped: {reason}")
    if is_random(model, pretrained, checkpoint):
        say(RANDOM)
    table = summary(measured, seed)
    save(table, csv, json, overwrite)
    if curves is not None:
        write_whole(curves, plot_curves(drawn).savefig, overwrite)
    if not quiet and paper:
        theirs = measured[measured["method"] == ways[0]]
        print(as_report(table, found[ways[0]], theirs["label"].tolist() if theirs["right"].notna().all() else None))
    elif not quiet:
        for images, title in (("all", "all images"), ("wrong", "those that the model gets wrong")):
            here = table[table["images"] == images]
            if len(here) and (images == "all" or here["n"].iloc[0] < table["n"].iloc[0]):
                print(f"{title}: {here['n'].iloc[0]}\n\n{as_text(table, images)}\n")
    if drawn and not quiet:
        print(
            f"What the first units of each path keep and take, all others at random behind them\n\n{curves_text(drawn, seed)}"
        )
    if not quiet:
        wrote(csv, json, curves)
    return SOME_LEFT_OUT if skipped else DONE
