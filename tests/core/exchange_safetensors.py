"""Safetensors files between Python's own library and amalgam, with tensors whose values follow from their names.

exchange_safetensors.py write FOLDER   writes an index and two shards as Hugging Face does
exchange_safetensors.py read INDEX     checks shards and index that amalgam wrote, and their digests
"""

import hashlib
import json
import pathlib
import sys

import numpy
from safetensors import safe_open
from safetensors.numpy import save_file

expected = {
    "a.weight": numpy.arange(12, dtype=numpy.float32).reshape(3, 4),
    "b": numpy.arange(5, dtype=numpy.int64),
    "c.half": numpy.arange(6, dtype=numpy.float16).reshape(2, 3),
    "empty": numpy.zeros((0, 2), dtype=numpy.float64),
    "flag": numpy.array([True, False, True]),
}


def write(folder):
    shards = {"model-00001-of-00002.safetensors": ["a.weight", "flag"], "model-00002-of-00002.safetensors": ["b", "c.half", "empty"]}
    for file, names in shards.items():
        save_file({name: expected[name] for name in names}, folder / file, metadata={"format": "pt"})
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in expected.values()), "key": "value"},
        "weight_map": {name: file for file, names in shards.items() for name in names},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def read(index_file):
    index = json.loads(index_file.read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in expected.values())
    assert index["metadata"]["key"] == "value"
    assert sorted(index["weight_map"]) == sorted(expected)
    for file in set(index["weight_map"].values()):
        content = (index_file.parent / file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == index["metadata"]["shard_sha256"][file]
        with safe_open(index_file.parent / file, framework="numpy") as shard:
            names = [name for name, where in index["weight_map"].items() if where == file]
            assert sorted(shard.keys()) == sorted(names)
            for name in names:
                found = shard.get_tensor(name)
                assert found.dtype == expected[name].dtype and found.shape == expected[name].shape, name
                assert (found == expected[name]).all(), name


{"write": write, "read": read}[sys.argv[1]](pathlib.Path(sys.argv[2]))
