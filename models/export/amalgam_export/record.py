"""What the export remembers: which tensor of the TorchScript is which of the original."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from .errors import ExportError

KEY = "names.json"  # the extra file's name inside the .pt
VERSION = 1


@dataclass(frozen=True)
class Original:
    """A tensor of the original: what its checkpoint calls it, and how it is kept there."""
    name: str
    dtype: str  # as torch names it: "float32"
    shape: list[int]  # there
    transposed: bool = False  # whether the TorchScript has it the other way round


@dataclass
class Record:
    kind: str  # "encoder": transformers reads it; "module": a plain torch.nn.Module
    model: str  # class
    source: str  # as the user named it
    inputs: list[str]  # arguments of forward
    heads: dict[str, int]  # classes by task; empty where the module's output is the base's
    private: list[str]  # for the recipe
    tensors: dict[str, Original]  # by the TorchScript's name
    aliases: dict[str, str]  # a tied tensor's further names in the TorchScript -> its first
    model_type: str = ""
    pool: str = ""
    folder: str = ""  # of the files, beside the base
    files: list[str] = field(default_factory=list)
    weights: dict[str, str] = field(default_factory=dict)  # SHA-256 by file
    vectors: dict[str, str] = field(default_factory=dict)  # of (IA)³, by name: whether it scales its module's "input" or "output"
    rest: str = ""  # file in `folder` with the tensors of the checkpoint that the base lacks
    version: int = VERSION

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


def record_from_json(text: str, where: str) -> Record:
    """@throws ExportError if it is not what `Record.to_json` writes."""
    try:
        values = json.loads(text)
        if values["version"] != VERSION:
            raise ExportError(f"{where}: names of version {values['version']}, and this program reads {VERSION}; export the base again")
        for name in (*values.get("files", ()), values.get("rest", "")):
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ExportError(f"{where}: it names '{name}', which is not inside the folder of its files; export the base again")
        values["tensors"] = {name: Original(**tensor) for name, tensor in values["tensors"].items()}
        return Record(**values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(f"{where}: not the names of an export ({error}); export the base again") from error


def names_file(base: Path) -> Path:
    return base.with_suffix(".names.json")


def files_folder(base: Path) -> Path:
    return base.with_suffix(".hf")


def read_record(base: Path) -> Record:
    """From inside the .pt; from the file beside it where another program has written the .pt anew."""
    if not base.is_file():
        raise ExportError(f"{base}: no such file; expected is a base that this program exported")
    extra = {KEY: ""}
    try:
        torch.jit.load(str(base), map_location="cpu", _extra_files=extra)
    except RuntimeError as error:
        raise ExportError(f"{base}: not a TorchScript file ({str(error).splitlines()[0]})") from error
    if extra[KEY]:
        text = extra[KEY]
        return record_from_json(text if isinstance(text, str) else text.decode(), str(base))
    beside = names_file(base)
    if not beside.is_file():
        raise ExportError(f"{base}: it holds no original names, and there is no {beside.name} beside it; give the base that was "
                          "exported, or put that file beside it")
    return record_from_json(beside.read_text(encoding="utf-8"), str(beside))
