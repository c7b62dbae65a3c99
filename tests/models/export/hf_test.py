"""`hf`: merged tensors come back to transformers."""

import json
from pathlib import Path

import torch
import transformers
from amalgam_export.base import tensors_of
from amalgam_export.encoder import EncoderOptions, export_encoder
from amalgam_export.hf import write_hf
from amalgam_export.quiet import quiet
from amalgam_export.source import find_source
from safetensors.torch import load_file, save_file
from tiny import ExportCase, configs, save_tiny


class ManyTasks(torch.nn.Module):
    def forward(self, task: str, x: torch.Tensor) -> torch.Tensor:
        return x


class Hf(ExportCase):
    def export(self, name: str = "bert", kind: type = transformers.AutoModel, **options: object) -> dict[str, torch.Tensor]:
        """The base's shared parameters, each changed, as a merge writes them: in merged.safetensors under one name each."""
        save_tiny(self.folder / "model", configs()[name], kind, **options)
        export_encoder(find_source(str(self.folder / "model")), self.folder / "base.pt", EncoderOptions({"red": 2, "blue": 3}))
        base = torch.jit.load(str(self.folder / "base.pt"))
        merged = {name: (parameter.detach() * 1.25).contiguous() for name, parameter in base.named_parameters() if name.startswith("body.")}
        save_file(merged, self.folder / "merged.safetensors")
        return merged

    def write(self, tensors: str = "merged.safetensors", check: bool = True, output: str = "out") -> Path:
        write_hf(self.folder / "base.pt", self.folder / tensors, self.folder / output, check)
        return self.folder / output

    def weights(self, folder: str) -> dict[str, torch.Tensor]:
        tensors = {}
        for file in (self.folder / folder).glob("*.safetensors"):
            tensors.update(load_file(file))
        return tensors

    def test_every_family_loads_with_the_merged_values(self) -> None:
        for name in configs():
            with self.subTest(name):
                merged = self.export(name)
                out = self.write(output=f"out-{name}")
                kind = transformers.T5EncoderModel if name == "t5" else transformers.AutoModel
                with quiet():
                    model = kind.from_pretrained(out)
                loaded = dict(model.named_parameters(remove_duplicate=False))
                for parameter, value in merged.items():
                    self.assertTrue(torch.equal(loaded[parameter.removeprefix("body.")], value), parameter)

    def test_keeps_names_dtypes_and_what_the_base_lacks(self) -> None:
        merged = self.export("bert", transformers.BertForMaskedLM)
        self.write()
        before, after = self.weights("model"), self.weights("out")
        self.assertEqual(before.keys(), after.keys())
        for name, tensor in after.items():
            expected = merged.get("body." + name.removeprefix("bert."), before[name])
            self.assertTrue(torch.equal(tensor, expected), name)
        with quiet():
            _, info = transformers.BertForMaskedLM.from_pretrained(self.folder / "out", output_loading_info=True)
        self.assertEqual(info["missing_keys"], [])

    def test_writes_the_precision_of_the_checkpoint(self) -> None:
        self.export()
        with quiet():
            transformers.AutoModel.from_pretrained(self.folder / "model", dtype=torch.float16).save_pretrained(self.folder / "model")
        export_encoder(find_source(str(self.folder / "model")), self.folder / "base.pt", EncoderOptions({"red": 2}))
        self.write()
        self.assertEqual({tensor.dtype for tensor in self.weights("out").values()}, {torch.float16})

    def test_takes_a_tied_tensor_under_any_of_its_names(self) -> None:
        merged = self.export("t5")
        names = [name for name in ("body.shared.weight", "body.encoder.embed_tokens.weight") if name in merged]
        self.assertEqual(len(names), 1)
        value = merged.pop(names[0])
        for name in ("body.shared.weight", "body.encoder.embed_tokens.weight"):
            save_file({**merged, name: value}, self.folder / "merged.safetensors")
            out = self.write(output=name)
            with quiet():
                model = transformers.T5EncoderModel.from_pretrained(out)
            self.assertTrue(torch.equal(model.shared.weight, value))

    def test_takes_an_expert(self) -> None:
        self.export()
        model = torch.jit.load(str(self.folder / "base.pt"))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5)
        torch.jit.save(model, str(self.folder / "expert.pt"))
        self.write("expert.pt")
        name = "encoder.layer.0.output.dense.weight"
        self.assertTrue(torch.equal(self.weights("out")[name], tensors_of(model)["body." + name]))

    def test_says_which_file_to_give_for_a_model_of_many_tasks(self) -> None:
        self.export()
        torch.jit.script(ManyTasks()).save(str(self.folder / "merged.pt"))
        with self.refuses("merged.pt", "many tasks", ".safetensors beside it"):
            self.write("merged.pt")

    def test_reads_the_names_beside_a_base_that_was_written_anew(self) -> None:
        self.export()
        torch.jit.save(torch.jit.load(str(self.folder / "base.pt")), str(self.folder / "base.pt"))
        self.write()
        (self.folder / "base.names.json").unlink()
        with self.refuses("base.pt", "holds no original names", "base.names.json"):
            self.write(output="other")

    def test_refuses_names_of_files_outside_the_folder(self) -> None:
        self.export()
        torch.jit.save(torch.jit.load(str(self.folder / "base.pt")), str(self.folder / "base.pt"))
        names = self.folder / "base.names.json"
        record = json.loads(names.read_text())
        (self.folder / "secret").write_text("secret")
        for changes in ({"files": ["../secret"]}, {"files": [str(self.folder / "secret")]}, {"rest": "../secret"}):
            names.write_text(json.dumps({**record, **changes}))
            with self.subTest(changes), self.refuses("base.names.json", "secret", "not inside the folder"):
                self.write()
        self.assertFalse((self.folder / "out").exists())

    def test_refuses_tensors_of_another_base(self) -> None:
        merged = self.export()
        name = "body.encoder.layer.0.output.dense.weight"
        for tensors, parts in (({**merged, "body.encoder.layr": torch.zeros(2)}, ("no 'body.encoder.layr'",)),
                               ({**merged, name: torch.zeros(2, 2)}, (name, "[2, 2]", "[16, 32]")),
                               ({key: value for key, value in merged.items() if key != name}, (name, "missing", "private"))):
            save_file(tensors, self.folder / "merged.safetensors")
            with self.refuses("merged.safetensors", *parts):
                self.write()
        (self.folder / "merged.safetensors").write_bytes(b"no tensors")
        with self.refuses("merged.safetensors", "neither safetensors nor TorchScript"):
            self.write()
        self.assertFalse((self.folder / "out").exists())

    def test_refuses_a_folder_that_is_in_use_and_files_that_are_gone(self) -> None:
        self.export()
        (self.folder / "out").mkdir()
        (self.folder / "out/mine").write_text("mine")
        with self.refuses("it is there already"):
            self.write()
        (self.folder / "out/mine").unlink()
        (self.folder / "base.hf/config.json").unlink()
        with self.refuses("base.hf", "lacks config.json"):
            self.write()

    def test_the_check_finds_a_folder_that_computes_something_else(self) -> None:
        self.export()
        file = self.folder / "base.hf/config.json"
        config = json.loads(file.read_text())
        config["hidden_act"] = "relu"
        file.write_text(json.dumps(config))
        with self.refuses("output.0 differs"):
            self.write()
        self.assertFalse((self.folder / "out").exists())
        self.write(check=False)
