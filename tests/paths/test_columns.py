"""Results as Parquet: the same as JSON, and refused in one line where damaged."""

import json
import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import neuronpath as nph


@pytest.fixture(scope="module")
def paths(demo):
    model, images, _ = demo
    return nph.find_path(model, images[:3], method="causal", units="both", top_k=2, names=["a", "b", "ü"])


def test_paths_as_parquet_are_those_as_json(paths, tmp_path):
    paths.save(tmp_path / "p.parquet")
    paths.save(tmp_path / "p.json")
    found = nph.NeuronPaths.load(tmp_path / "p.parquet")
    assert found == paths == nph.NeuronPaths.load(tmp_path / "p.json")
    assert found.settings == paths.settings
    frame = pd.read_parquet(tmp_path / "p.parquet")
    assert frame["id"].tolist() == ["a", "b", "ü"]
    assert frame["units"][1].tolist() == paths.units[1].flatten().tolist()
    assert frame["predicted"].tolist() == paths.predicted.tolist()
    with pytest.raises(nph.InputError, match="exists already"):
        paths.save(tmp_path / "p.parquet")


def test_circuits_as_parquet(demo, tmp_path):
    model, images, _ = demo
    circuits = nph.find_circuit(model, images[:3], criterion="break", controls=False)
    circuits.save(tmp_path / "c.parquet")
    assert nph.Circuit.load(tmp_path / "c.parquet") == circuits
    assert pd.read_parquet(tmp_path / "c.parquet")["units"][0][0] == circuits.units[0][0]._asdict()


def forged(table, column=None, values=None, **about):
    """The table with another column, and saying other things of itself."""
    said = json.loads(table.schema.metadata[b"neuronpath"]) | about
    if column is not None:
        table = table.set_column(table.schema.names.index(column), column, values)
    return table.replace_schema_metadata({b"neuronpath": json.dumps(said)})


def test_damaged_files_are_refused_in_one_line(paths, tmp_path):
    file = tmp_path / "p.parquet"
    paths.save(file)
    whole, table = file.read_bytes(), pq.read_table(file)
    units = table["units"].to_pylist()
    for wrong in (
        whole[:50], whole[:-30], b"", b"PAR1", table.replace_schema_metadata(None), table.drop_columns("left"),
        forged(table, format="neuronpath.circuit"), forged(table, version=9), forged(table, shape=[3, 1]),
        forged(table, shape="x"), forged(table, settings={"method": 1, "units": 2}), forged(table, settings=None),
        forged(table, class_names=[1]), forged(table, "units", pa.array([[999] * len(row) for row in units])),
        forged(table, "units", pa.array([["x"]] * 3)), forged(table, "left", pa.array(["x"] * 3)),
    ):  # fmt: skip
        file.write_bytes(wrong) if isinstance(wrong, bytes) else pq.write_table(wrong, file)
        with pytest.raises(nph.InputError, match=r"p\.parquet") as refusal:
            nph.NeuronPaths.load(file)
        assert "\n" not in str(refusal.value)


def test_names_that_are_no_utf_8_are_refused(paths, demo, tmp_path):
    odd = paths.renamed([os.fsdecode(b"caf\xe9.png"), "b", "c"])
    circuits = nph.find_circuit(demo[0], demo[1][:1], controls=False, names=odd.names[:1])
    for result in (odd, circuits):
        with pytest.raises(nph.InputError, match=r"^caf\\udce9\.png is no UTF-8, which \.parquet wants of names"):
            result.save(tmp_path / "p.parquet")
        assert type(result).load(result.save(tmp_path / "p.json", overwrite=True)) == result
    assert [file.name for file in tmp_path.iterdir()] == ["p.json"]
