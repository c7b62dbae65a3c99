"""The decoder of amalgam_export.factories, and models in another precision."""

import torch
from amalgam_export.cast import cast
from amalgam_export.decoder import Decoder, rotated
from amalgam_export.module import ModuleOptions, export_module
from amalgam_export.record import read_record
from tiny import ExportCase

EPS = torch.finfo(torch.float32).eps
SIZES = {"vocabulary": 19, "width": 16, "depth": 2, "heads": 2}


def naive(model: Decoder, ids: list[int]) -> torch.Tensor:
    """Logits of one text in float64, written from the formulas, a token at a time."""
    parameters = {name: tensor.double() for name, tensor in model.state_dict().items()}
    width, heads = SIZES["width"], SIZES["heads"]
    size = width // heads

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return x / (x.square().mean() + 1e-6).sqrt() * parameters[f"{name}.weight"]

    def turned(x: torch.Tensor, place: int) -> torch.Tensor:
        pairs = torch.complex(x.view(heads, 2, size // 2)[:, 0], x.view(heads, 2, size // 2)[:, 1])
        angles = torch.tensor([place * 10000 ** (-2 * i / size) for i in range(size // 2)], dtype=torch.float64)
        pairs = pairs * torch.polar(torch.ones_like(angles), angles)
        return torch.cat([pairs.real, pairs.imag], 1)  # [heads, size]

    states = [parameters["embedding"][token] for token in ids]
    for layer in range(SIZES["depth"]):
        of = {name.removeprefix(f"layers.{layer}."): tensor for name, tensor in parameters.items()}
        inputs = [norm(x, f"layers.{layer}.attention_norm") for x in states]
        keys = [turned(of["attention.key.weight"] @ x, place) for place, x in enumerate(inputs)]
        values = [(of["attention.value.weight"] @ x).view(heads, size) for x in inputs]
        after = []
        for place, x in enumerate(inputs):
            query = turned(of["attention.query.weight"] @ x, place)
            scores = torch.stack([(query * key).sum(1) for key in keys[:place + 1]]) / size**0.5  # [seen, heads]
            mixed = (scores.softmax(0).unsqueeze(2) * torch.stack(values[:place + 1])).sum(0)
            after.append(states[place] + of["attention.output.weight"] @ mixed.reshape(width))
        states = []
        for x in after:
            y = norm(x, f"layers.{layer}.feed_forward_norm")
            gate = of["feed_forward.gate.weight"] @ y
            states.append(x + of["feed_forward.down.weight"] @ (gate * gate.sigmoid() * (of["feed_forward.up.weight"] @ y)))
    return torch.stack([parameters["embedding"] @ norm(x, "norm") for x in states])


class DecoderCase(ExportCase):
    def model(self) -> Decoder:
        torch.manual_seed(0)
        model = Decoder(**SIZES)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
        return model

    def export(self, **arguments: int) -> torch.jit.ScriptModule:
        options = ModuleOptions("amalgam_export.factories:decoder", {**SIZES, **arguments})
        self.how = export_module(self.folder / "base.pt", options)[1]
        return torch.jit.load(str(self.folder / "base.pt"))


class Factory(DecoderCase):
    def test_computes_what_its_formulas_say(self) -> None:
        model, ids = self.model(), [3, 1, 4, 1, 5, 9, 2]
        expected = naive(model, ids)
        given = model(torch.tensor([ids]))[0].double()
        self.assertLessEqual((given - expected).abs().max().item(), 256 * EPS * expected.abs().max().item())

    def test_positions_turn_by_their_distance_alone(self) -> None:
        x = torch.randn(1, 1, 1, 8, generator=torch.Generator().manual_seed(1)).expand(1, 1, 9, 8)
        turned = rotated(x)[0, 0]
        products = turned @ turned.T
        self.assertLessEqual((products[:-2, :-2] - products[2:, 2:]).abs().max().item(), 32 * EPS * products.abs().max().item())

    def test_sees_no_later_token(self) -> None:
        model, ids = self.model(), torch.arange(12).view(2, 6)
        changed = ids.clone()
        changed[:, 4:] = 0
        self.assertTrue(torch.equal(model(ids)[:, :4], model(changed)[:, :4]))
        self.assertFalse(torch.equal(model(ids)[:, 4], model(changed)[:, 4]))

    def test_is_scripted_with_one_tied_matrix_of_tokens(self) -> None:
        base = self.export()
        self.assertEqual(self.how, "scripted")
        self.assertEqual([name for name, tensor in base.named_parameters() if 19 in tensor.shape], ["embedding"])
        self.assertEqual(list(base.named_buffers()), [])
        self.assertEqual(base(torch.zeros(2, 5, dtype=torch.long)).shape, (2, 5, 19))

    def test_refuses_heads_that_do_not_divide_the_width(self) -> None:
        with self.refuses("width=16", "heads=3"):
            self.export(heads=3)


class Cast(DecoderCase):
    def test_rounds_every_weight_once_and_keeps_the_names(self) -> None:
        base = self.export()
        self.assertEqual(cast(self.folder / "base.pt", self.folder / "half.pt", "bfloat16"), len(base.state_dict()))
        half = torch.jit.load(str(self.folder / "half.pt"))
        for name, tensor in base.state_dict().items():
            self.assertTrue(torch.equal(half.state_dict()[name], tensor.bfloat16()), name)
        self.assertEqual(read_record(self.folder / "half.pt"), read_record(self.folder / "base.pt"))
        ids = torch.arange(10).view(2, 5)
        far = (half(ids).float() - base(ids)).abs().max().item()
        self.assertLessEqual(far, 16 * 2**-8 * base(ids).abs().max().item())
        self.assertEqual(half(ids).dtype, torch.bfloat16)

    def test_refuses_what_is_no_model(self) -> None:
        with self.refuses("none.pt", "no such file"):
            cast(self.folder / "none.pt", self.folder / "half.pt", "bfloat16")
        (self.folder / "text.pt").write_text("text")
        with self.refuses("text.pt", "not a TorchScript file"):
            cast(self.folder / "text.pt", self.folder / "half.pt", "bfloat16")
        self.assertEqual(self.files(), {"text.pt"})
