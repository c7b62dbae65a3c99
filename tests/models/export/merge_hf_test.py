"""`amalgam merge --write-hf`: the command comes to the folder that `hf` makes of the same tensors."""

import os
import subprocess
import unittest
from pathlib import Path

import torch
import transformers
from amalgam_export.encoder import EncoderOptions, export_encoder
from amalgam_export.hf import write_hf
from amalgam_export.source import find_source
from safetensors.torch import load_file, save_file
from tiny import ExportCase, configs, save_tiny, tokens

COMMAND = os.environ.get("AMALGAM_COMMAND", "")
RECIPE = """name: run
base: {{model: base.pt}}
private: ["heads.*"]
tasks:
  - {{name: red, data: {{format: tensors, root: data}}, output: red, expert: {{model: red.pt}}}}
  - {{name: blue, data: {{format: tensors, root: data}}, output: blue, expert: {{model: blue.pt}}}}
merge: [{rows}]
"""


@unittest.skipUnless(COMMAND, "AMALGAM_COMMAND names no program")
class MergeHf(ExportCase):
    def prepare(self, name: str, kind: type = transformers.AutoModel) -> None:
        save_tiny(self.folder / "model", configs()[name], kind)
        export_encoder(find_source(str(self.folder / "model")), self.folder / "base.pt", EncoderOptions({"red": 2, "blue": 3}))
        for task, factor in (("red", 1.5), ("blue", 0.75)):
            expert = torch.jit.load(str(self.folder / "base.pt"))
            with torch.no_grad():
                for parameter in expert.parameters():
                    parameter.mul_(factor)
            torch.jit.save(expert, str(self.folder / f"{task}.pt"))
        (self.folder / "data").mkdir()
        ids, mask = tokens(4, 6, 3)
        for split in ("train", "val", "test"):
            save_file({"input.input_ids": ids, "input.attention_mask": mask, "target": torch.tensor([0, 1, 1, 0])},
                      self.folder / f"data/{split}.safetensors")

    def merge(self, *words: str, rows: str = "average") -> subprocess.CompletedProcess:
        (self.folder / "recipe.yaml").write_text(RECIPE.format(rows=rows))
        return subprocess.run([COMMAND, "merge", "recipe.yaml", *words], cwd=self.folder, capture_output=True, text=True, check=False)

    def files(self, folder: str) -> dict[str, bytes]:
        root = self.folder / folder
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.suffix != ".safetensors"}

    def require_same_tensors(self, one: str, other: str) -> None:
        left, right = (load_file(self.folder / folder / "model.safetensors") for folder in (one, other))
        self.assertEqual(left.keys(), right.keys())
        for name, tensor in left.items():
            self.assertEqual(tensor.dtype, right[name].dtype)
            self.assertTrue(torch.equal(tensor, right[name]), name)

    def test_writes_what_hf_writes(self) -> None:
        for name, kind in (("bert", transformers.BertForMaskedLM), ("t5", transformers.AutoModel)):
            with self.subTest(name):
                self.setUp()
                self.prepare(name, kind)
                done = self.merge("--write-hf", "out")
                self.assertEqual(done.returncode, 0, done.stderr)
                write_hf(self.folder / "base.pt", self.folder / "runs/run/merged/average.safetensors", self.folder / "again", check=True)
                self.assertEqual(self.files("out"), self.files("again"))
                self.require_same_tensors("out", "again")

    def test_refuses_before_it_merges(self) -> None:
        self.prepare("bert")
        done = self.merge("--write-hf", "out", rows="average, task_arithmetic")
        self.assertEqual((done.returncode, "--method" in done.stderr), (2, True), done.stderr)
        (self.folder / "base.hf/config.json").unlink()
        done = self.merge("--write-hf", "out")
        self.assertEqual((done.returncode, "lacks config.json" in done.stderr), (2, True), done.stderr)
        self.assertFalse(Path(self.folder / "runs/run/merged").exists())
