"""`encoder`: what it writes computes what transformers computes."""

import os
import subprocess
import sys

import torch
import transformers
from amalgam_export.encoder import EncoderOptions, export_encoder
from amalgam_export.heads import parse_heads
from amalgam_export.quiet import quiet
from amalgam_export.record import read_record
from amalgam_export.source import find_source
from tiny import ExportCase, configs, save_tiny, tokens

EPS = torch.finfo(torch.float32).eps


class Encoder(ExportCase):
    def export(self, name: str, **options: object) -> torch.jit.ScriptModule:
        save_tiny(self.folder / name, configs()[name])
        export_encoder(find_source(str(self.folder / name)), self.folder / "base.pt",
                       EncoderOptions(**{"heads": {"red": 2, "blue": 3}, **options}))
        return torch.jit.load(str(self.folder / "base.pt"))

    def close(self, given: torch.Tensor, expected: torch.Tensor) -> None:
        self.assertEqual(given.shape, expected.shape)
        self.assertLessEqual((given - expected).abs().max().item(), 64 * EPS * expected.abs().max().item())

    def hidden(self, name: str, *inputs: torch.Tensor) -> torch.Tensor:
        kind = transformers.T5EncoderModel if name == "t5" else transformers.AutoModel
        with quiet(), torch.no_grad():
            return kind.from_pretrained(self.folder / name, attn_implementation="eager").eval()(*inputs).last_hidden_state

    def test_gives_the_logits_of_every_family_at_sizes_that_it_was_not_traced_with(self) -> None:
        for name in configs():
            with self.subTest(name):
                base = self.export(name)
                if name == "vit":
                    inputs = (torch.randn(3, 3, 8, 8),)
                    features = self.hidden(name, *inputs).mean(1)
                else:
                    inputs = tokens(3, 19, 6)
                    rows = self.hidden(name, *inputs)
                    features = torch.stack([rows[0].mean(0), rows[1].mean(0), rows[2, :6].mean(0)])
                with torch.no_grad():
                    base.heads.blue.bias.copy_(torch.tensor([1.0, -2.0, 3.0]))  # a new head's zeros would hide it
                logits = base(*inputs)
                self.assertEqual(list(logits), ["red", "blue"])
                self.close(logits["red"], features @ base.heads.red.weight.T)
                self.close(logits["blue"], features @ base.heads.blue.weight.T + torch.tensor([1.0, -2.0, 3.0]))

    def test_pools_as_asked(self) -> None:
        ids, mask = tokens(2, 9, 4)
        for pool, expected in (("cls", lambda rows: rows[:, 0]), ("none", lambda rows: rows)):
            base = self.export("bert", pool=pool)
            self.close(base(ids, mask)["red"], expected(self.hidden("bert", ids, mask)) @ base.heads.red.weight.T)

    def test_names_heads_and_body_and_leaves_the_pooler_out(self) -> None:
        base = self.export("bert")
        names = {name for name, _ in base.named_parameters()}
        self.assertEqual({name for name in names if name.startswith("heads.")},
                         {f"heads.{task}.{part}" for task in ("red", "blue") for part in ("weight", "bias")})
        self.assertIn("body.encoder.layer.1.output.dense.weight", names)
        self.assertFalse([name for name in names if "pooler" in name])
        arguments = [argument.name for argument in base.forward.schema.arguments]
        self.assertEqual(arguments, ["self", "input_ids", "attention_mask"])
        self.assertEqual(str(base.forward.schema.returns[0].type), "Dict[str, Tensor]")

    def test_can_be_trained_on(self) -> None:
        base = self.export("bert")
        base(*tokens(2, 5, 3))["red"].sum().backward()
        without = {name for name, parameter in base.named_parameters() if parameter.grad is None}
        self.assertEqual(without, {"heads.blue.weight", "heads.blue.bias"})

    def test_remembers_where_each_tensor_came_from(self) -> None:
        self.export("bert")
        record = read_record(self.folder / "base.pt")
        self.assertEqual((record.model_type, record.pool, record.private), ("bert", "mean", ["heads.*"]))
        self.assertEqual(record.heads, {"red": 2, "blue": 3})
        self.assertEqual(record.tensors["body.embeddings.LayerNorm.bias"].name, "embeddings.LayerNorm.bias")
        self.assertEqual((self.folder / "base.names.json").read_text(), record.to_json())
        self.assertEqual({path.name for path in (self.folder / "base.hf").iterdir()}, {"config.json", "rest.safetensors"})

    def test_a_head_depends_on_the_seed_and_its_task_alone(self) -> None:
        one = self.export("bert", heads={"red": 2}).heads.red.weight
        two = self.export("bert", heads={"blue": 3, "red": 2}).heads.red.weight
        other = self.export("bert", heads={"red": 2}, seed=1).heads.red.weight
        self.assertTrue(torch.equal(one, two))
        self.assertFalse(torch.equal(one, other))

    def test_writes_the_same_bytes_in_every_process(self) -> None:
        save_tiny(self.folder / "bert", configs()["bert"])
        written = []
        for seed in ("1", "2"):
            (self.folder / seed).mkdir()
            words = "-m amalgam_export encoder ../bert --output base.pt --head red=2 --head blue=3"
            subprocess.run([sys.executable, *words.split()], check=True, cwd=self.folder / seed, stdout=subprocess.DEVNULL,
                           env={**os.environ, "PYTHONHASHSEED": seed})
            files = ("base.pt", "base.names.json", "base.hf/rest.safetensors")
            written.append([(self.folder / seed / name).read_bytes() for name in files])
        self.assertEqual(written[0], written[1])

    def test_replaces_an_older_export(self) -> None:
        self.export("bert")
        self.export("distilbert")
        self.assertEqual(read_record(self.folder / "base.pt").model_type, "distilbert")
        self.assertEqual({path.name for path in (self.folder / "base.hf").iterdir()}, {"config.json"})


class Checkpoints(ExportCase):
    """Names and shapes of checkpoints as they are met."""

    def record(self) -> object:
        export_encoder(find_source(str(self.folder / "model")), self.folder / "base.pt", EncoderOptions({"red": 2}))
        return read_record(self.folder / "base.pt")

    def test_finds_the_names_of_a_checkpoint_with_a_head(self) -> None:
        save_tiny(self.folder / "model", configs()["bert"], transformers.BertForMaskedLM)
        record = self.record()
        self.assertEqual(record.tensors["body.embeddings.LayerNorm.bias"].name, "bert.embeddings.LayerNorm.bias")

    def test_finds_old_names_of_norms(self) -> None:
        save_tiny(self.folder / "model", configs()["bert"], safe_serialization=False)
        file = self.folder / "model/pytorch_model.bin"
        old = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
               for name, tensor in torch.load(file).items()}
        torch.save(old, file)
        self.assertEqual(self.record().tensors["body.embeddings.LayerNorm.bias"].name, "embeddings.LayerNorm.beta")

    def test_reads_shards_and_half_precision(self) -> None:
        save_tiny(self.folder / "model", configs()["bert"], max_shard_size="8KB")
        self.assertGreater(len(self.record().weights), 1)
        with quiet():
            model = transformers.AutoModel.from_pretrained(self.folder / "model", dtype=torch.bfloat16)
            model.save_pretrained(self.folder / "half")
        export_encoder(find_source(str(self.folder / "half")), self.folder / "half.pt", EncoderOptions({"red": 2}))
        record = read_record(self.folder / "half.pt")
        self.assertEqual(record.tensors["body.embeddings.word_embeddings.weight"].dtype, "bfloat16")
        base = torch.jit.load(str(self.folder / "half.pt"))
        self.assertEqual(base.body.embeddings.word_embeddings.weight.dtype, torch.float32)

    def test_refuses_a_checkpoint_with_holes(self) -> None:
        save_tiny(self.folder / "model", configs()["bert"], safe_serialization=False)
        file = self.folder / "model/pytorch_model.bin"
        tensors = torch.load(file)
        del tensors["encoder.layer.1.output.dense.weight"]
        torch.save(tensors, file)
        with self.refuses("lacks encoder.layer.1.output.dense.weight", "random"):
            self.record()
        self.assertEqual(self.files(), {"model"})

    def test_refuses_what_is_no_model(self) -> None:
        for name, parts in (("nowhere/at-all", ("'nowhere/at-all'", "nothing is downloaded")), ("minilmm", ("did you mean 'minilm'",))):
            with self.refuses(*parts):
                find_source(name)
        (self.folder / "model").mkdir()
        with self.refuses("no config.json"):
            find_source(str(self.folder / "model"))
        configs()["bert"].save_pretrained(self.folder / "model")
        with self.refuses("model"):
            self.record()

    def test_refuses_a_model_without_rows_of_features(self) -> None:
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], image_size=16)
        save_tiny(self.folder / "model", config)
        with self.refuses("ResNetModel", "[2, 8,", "[N, T, D]", "`module`"):
            self.record()

    def test_leaves_nothing_where_a_model_cannot_be_traced(self) -> None:
        save_tiny(self.folder / "model", transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=40))
        with self.refuses("GPT2Model cannot be traced", "`module`"):
            self.record()
        self.assertEqual(self.files(), {"model"})


class Heads(ExportCase):
    def test_says_what_a_head_is(self) -> None:
        self.assertEqual(parse_heads(["sst2=2", "trec6=6"]), {"sst2": 2, "trec6": 6})
        for given, parts in ((["sst2"], ("TASK=CLASSES",)), (["sst2=0"], ("TASK=CLASSES",)), (["sst2=two"], ("TASK=CLASSES",)),
                             (["2sst=2"], ("cannot name a task",)), (["class=2"], ("cannot name a task",)), (["half=2"], ("attribute",)),
                             (["a=2", "a=3"], ("already",))):
            with self.subTest(given), self.refuses("--head", *parts):
                parse_heads(given)
