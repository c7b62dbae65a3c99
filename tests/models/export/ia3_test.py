"""`encoder --ia3`: vectors as parameters of the base, and back."""

import contextlib
import io
from pathlib import Path

import torch
import transformers
from amalgam_export.__main__ import main
from amalgam_export.encoder import EncoderOptions, export_encoder
from amalgam_export.hf import write_hf
from amalgam_export.quiet import quiet
from amalgam_export.record import read_record
from amalgam_export.source import find_source
from safetensors.torch import save_file
from tiny import ExportCase, configs, save_tiny, tokens

EPS = torch.finfo(torch.float32).eps
KNOWN = ("bert", "roberta", "distilbert", "electra", "mpnet", "vit")


class Ia3(ExportCase):
    def export(self, name: str, ia3: bool = True, to: str = "base.pt") -> torch.jit.ScriptModule:
        save_tiny(self.folder / name, configs()[name])
        export_encoder(find_source(str(self.folder / name)), self.folder / to, EncoderOptions({"red": 2, "blue": 3}, ia3=ia3))
        return torch.jit.load(str(self.folder / to))

    def test_puts_three_vectors_into_each_layer_of_the_known_families(self) -> None:
        for name in KNOWN:
            with self.subTest(name):
                base = self.export(name)
                vectors = {name: vector for name, vector in base.named_parameters() if name.endswith(".ia3_l")}
                self.assertEqual(sorted(list(vector.shape) for vector in vectors.values()), 4 * [[16]] + 2 * [[32]])
                self.assertTrue(all(torch.equal(vector, torch.ones_like(vector)) for vector in vectors.values()))

    def test_is_asked_for_on_the_command_line(self) -> None:
        save_tiny(self.folder / "bert", configs()["bert"])
        words = ["encoder", str(self.folder / "bert"), "--head", "red=2", "--output", str(self.folder / "base.pt")]
        for option, count in (([], 0), (["--ia3"], 6)):
            with contextlib.redirect_stdout(io.StringIO()):
                self.assertEqual(main(words + option), 0)
            names = [name for name, _ in torch.jit.load(str(self.folder / "base.pt")).named_parameters()]
            self.assertEqual(sum(name.endswith(".ia3_l") for name in names), count)

    def test_vectors_of_ones_change_nothing(self) -> None:
        plain, with_vectors = self.export("bert", ia3=False), self.export("bert")
        ids, mask = tokens(3, 9, 4)
        self.assertTrue(torch.allclose(plain(ids, mask)["red"], with_vectors(ids, mask)["red"], rtol=0, atol=1e-6))

    def test_vectors_scale_what_they_are_named_after(self) -> None:
        base, plain = self.export("bert"), self.export("bert", ia3=False, to="plain.pt")
        own, other = dict(base.named_parameters()), dict(plain.named_parameters())
        layer = "body.encoder.layer.0"
        with torch.no_grad():
            for place, axis in ((f"{layer}.attention.self.key", 0), (f"{layer}.attention.self.value", 0), (f"{layer}.output.dense", 1)):
                vector = own[f"{place}.ia3_l"]
                vector.copy_(torch.linspace(0.5, 2, vector.numel()))
                other[f"{place}.weight"].mul_(vector.unsqueeze(1 - axis) if axis == 1 else vector.unsqueeze(1))
                if axis == 0:
                    other[f"{place}.bias"].mul_(vector)
        ids, mask = tokens(3, 9, 4)
        self.assertTrue(torch.allclose(base(ids, mask)["red"], plain(ids, mask)["red"], rtol=0, atol=1e-5))

    def test_hf_folds_the_vectors_into_the_weights(self) -> None:
        for name in KNOWN:
            with self.subTest(name):
                base = self.export(name)
                with torch.no_grad():
                    for key, value in base.named_parameters():
                        if key.endswith("ia3_l"):
                            value.copy_(torch.linspace(0.5, 2, value.numel()))
                merged = {key: value.detach().contiguous() for key, value in base.named_parameters() if key.startswith("body.")}
                save_file(merged, self.folder / "merged.safetensors")
                write_hf(self.folder / "base.pt", self.folder / "merged.safetensors", self.folder / f"out-{name}", check=True)
                inputs = (torch.randn(3, 3, 8, 8),) if name == "vit" else tokens(3, 9, 4)
                with quiet(), torch.no_grad():
                    model, info = transformers.AutoModel.from_pretrained(self.folder / f"out-{name}", output_loading_info=True)
                    given, expected = model.eval()(*inputs).last_hidden_state, base.body(*inputs)
                self.assertEqual(info["unexpected_keys"], [])
                self.assertLessEqual((given - expected).abs().max().item(), 1000 * EPS * expected.abs().max().item())

    def test_the_record_says_what_each_vector_scales(self) -> None:
        self.export("bert")
        vectors = read_record(self.folder / "base.pt").vectors
        self.assertEqual(len(vectors), 6)
        self.assertEqual({name for name, side in vectors.items() if side == "input"},
                         {f"body.encoder.layer.{layer}.output.dense.ia3_l" for layer in range(2)})

    def test_the_record_names_the_original_tensors_alone(self) -> None:
        self.export("bert")
        self.assertFalse([name for name in read_record(self.folder / "base.pt").tensors if name.endswith("ia3_l")])

    def test_hf_refuses_a_merge_without_the_vectors(self) -> None:
        base = self.export("bert")
        merged = {name: value.detach().contiguous() for name, value in base.named_parameters()
                  if name.startswith("body.") and not name.endswith("ia3_l")}
        save_file(merged, self.folder / "merged.safetensors")
        with self.refuses("ia3_l", "missing"):
            write_hf(self.folder / "base.pt", self.folder / "merged.safetensors", self.folder / "out", check=False)

    def test_refuses_a_model_whose_modules_it_does_not_know(self) -> None:
        for name in ("albert", "t5", "modernbert"):
            with self.subTest(name), self.refuses("--ia3", "`module`"):
                self.export(name)
        self.assertFalse(Path(self.folder / "base.pt").exists())
