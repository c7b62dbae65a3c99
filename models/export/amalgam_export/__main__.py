"""The command line."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from .errors import ExportError

MODEL = "a folder as save_pretrained writes it, a name in the local cache of transformers, or minilm"


def base_path(text: str) -> Path:
    path = Path(text)
    if path.suffix != ".pt":
        raise argparse.ArgumentTypeError(f"'{text}' must end with .pt")
    return path


def positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no positive integer")
    return int(text)


def run_encoder(arguments: argparse.Namespace) -> None:
    from .encoder import EncoderOptions, export_encoder
    from .heads import parse_heads
    from .source import find_source
    options = EncoderOptions(parse_heads(arguments.head), arguments.pool, arguments.seed, arguments.ia3)
    agreement = export_encoder(find_source(arguments.model), arguments.output, options)
    print(f"{arguments.output}: written; {agreement}")


def run_module(arguments: argparse.Namespace) -> None:
    from .heads import parse_heads
    from .module import ModuleOptions, export_module, parse_arguments
    options = ModuleOptions(arguments.factory, parse_arguments(arguments.argument), parse_heads(arguments.head), arguments.seed)
    agreement, how = export_module(arguments.output, options)
    print(f"{arguments.output}: written ({how}); {agreement}")


def run_hf(arguments: argparse.Namespace) -> None:
    from .hf import write_hf
    agreement = write_hf(arguments.base, arguments.tensors, arguments.output, arguments.check)
    print(f"{arguments.output}: written{f'; {agreement}' if agreement else ''}")


def run_cast(arguments: argparse.Namespace) -> None:
    from .cast import cast
    print(f"{arguments.output}: written, {cast(arguments.model, arguments.output, arguments.dtype)} tensors as {arguments.dtype}")


def run_tokenizer(arguments: argparse.Namespace) -> None:
    from .tokenizer import train_tokenizer
    print(f"{arguments.output}: written, {train_tokenizer(arguments.folder, arguments.output, arguments.vocabulary)} tokens")


def run_text(arguments: argparse.Namespace) -> None:
    from .source import find_tokenizer
    from .text import LanguageTokenizer, Tokenizer, convert_text
    kind = LanguageTokenizer if arguments.language_model else Tokenizer
    tokenizer = kind(find_tokenizer(arguments.tokenizer), arguments.length)
    for folder in arguments.folder:
        for written in convert_text(folder, arguments.output / folder.resolve().name, tokenizer, arguments.classes):
            print(f"{written.path}: {written.texts} texts, {written.cut} of them cut off at {arguments.length} tokens")


def add_encoder(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("encoder", help="a pretrained encoder with heads -> base.pt, base.names.json, base.hf/")
    command.add_argument("model", help=MODEL)
    command.add_argument("--output", type=base_path, required=True, metavar="BASE.pt")
    command.add_argument("--head", action="append", required=True, metavar="TASK=CLASSES", help="a linear head; once for each task")
    command.add_argument("--pool", choices=("mean", "cls", "none"), default="mean",
                         help="what a head sees: the mean of the tokens that the mask keeps, the first token, or each token "
                              "(default: mean)")
    command.add_argument("--seed", type=int, default=0, help="of the heads' weights (default: 0)")
    command.add_argument("--ia3", action="store_true", help="with vectors of ones, parameters *.ia3_l, that scale keys, values and the "
                                                            "hidden activations of feed-forward networks, to be fine-tuned alone")
    command.set_defaults(run=run_encoder)


def add_module(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "module", help="any torch.nn.Module -> base.pt, base.names.json",
        description="FUNCTION returns (module, inputs). The module is put in evaluation mode. The inputs are a tensor, a tuple of "
                    "tensors, or a dict of tensors by the names of forward's first arguments; the first axis is the example, two of "
                    "them at least. With --head the module must return features, one tensor [N, D] or [N, T, D]; without, what it "
                    "returns is what the base returns.")
    command.add_argument("--factory", required=True, metavar="PACKAGE.MODULE:FUNCTION")
    command.add_argument("--argument", action="append", default=[], metavar="KEY=VALUE", help="of FUNCTION; VALUE is JSON, or else text")
    command.add_argument("--output", type=base_path, required=True, metavar="BASE.pt")
    command.add_argument("--head", action="append", default=[], metavar="TASK=CLASSES", help="a linear head; once for each task")
    command.add_argument("--seed", type=int, default=0, help="of the heads' weights, and of PyTorch when FUNCTION is called (default: 0)")
    command.set_defaults(run=run_module)


def add_hf(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("hf", help="merged tensors -> a folder that transformers loads")
    command.add_argument("--base", type=base_path, required=True, metavar="BASE.pt", help="as `encoder` wrote it, BASE.hf beside it")
    command.add_argument("--tensors", type=Path, required=True, metavar="FILE", help="runs/NAME/merged/ROW.safetensors, or an expert's .pt")
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="must not be there, or be empty")
    command.add_argument("--check", action="store_true", help="load DIR by transformers and compare tensors, hidden states and logits with "
                                                              "the TorchScript")
    command.set_defaults(run=run_hf)


def add_text(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("text", help="TSV files -> token files (format `tensors`)")
    command.add_argument("folder", type=Path, nargs="+", help="holds train.tsv, test.tsv, perhaps val.tsv (header: label<TAB>text), and "
                                                              "classes.txt (the labels' names, in order)")
    command.add_argument("--tokenizer", required=True, metavar="MODEL", help=MODEL + "; the BASE.hf of an export; or what `tokenizer` wrote")
    command.add_argument("--length", type=positive, required=True, help="tokens of a text, special ones included: longer texts are cut "
                                                                        "off, shorter ones padded")
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="a folder DIR/NAME for each FOLDER of that name")
    command.add_argument("--classes", type=positive, help="where there is no classes.txt")
    command.add_argument("--language-model", action="store_true", help="targets are the next tokens; labels and classes.txt are not read")
    command.set_defaults(run=run_text)


def add_tokenizer(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("tokenizer", help="TSV files -> a tokenizer of their own, byte-level BPE")
    command.add_argument("folder", type=Path, nargs="+", help="holds train.tsv, as for `text`")
    command.add_argument("--vocabulary", type=positive, required=True, help="tokens at most, special ones and 256 bytes included")
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="for `text --tokenizer`; transformers reads it")
    command.set_defaults(run=run_tokenizer)


def add_cast(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("cast", help="a TorchScript model's weights in another precision")
    command.add_argument("model", type=base_path, metavar="MODEL.pt", help="a base, or an expert of a run")
    command.add_argument("--dtype", required=True, choices=("float32", "bfloat16", "float16"))
    command.add_argument("--output", type=base_path, required=True, metavar="OTHER.pt")
    command.set_defaults(run=run_cast)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="amalgam_export", description="Turns pretrained models and text into what amalgam reads. "
                                                                        "Nothing is downloaded.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    adders: tuple[Callable, ...] = (add_encoder, add_module, add_text, add_tokenizer, add_hf, add_cast)
    for add in adders:
        add(commands)
    return parser


def main(words: list[str] | None = None) -> int:
    """0 done, 1 failed, 2 the command line is wrong."""
    arguments = make_parser().parse_args(words)
    try:
        arguments.run(arguments)
    except ExportError as error:
        print(f"amalgam_export: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
