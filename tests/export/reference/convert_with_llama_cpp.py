"""Converts a Hugging Face Pixtral with llama.cpp's own converter, for comparison.

    python convert_with_llama_cpp.py LLAMA_CPP_FOLDER MODEL_FOLDER OUT_FOLDER

Runs under another Python, with the converter's PyTorch and transformers. Two changes: the row of `[IMG_BREAK]` may pass
the filter that loses it, and a vocabulary made for the test counts as Pixtral's. Result: text.gguf and mmproj.gguf.
"""

import sys
from pathlib import Path

source, model, out = (Path(argument).resolve() for argument in sys.argv[1:])
sys.path[:0] = [str(source / "gguf-py"), str(source)]

import gguf
from conversion import ModelBase, ModelType
from conversion.llava import LlavaVisionModel

_filter = LlavaVisionModel.filter_tensors.__func__


def filter_tensors(cls: type, item: tuple) -> tuple | None:
    """Let the embedding through; modify_tensors takes its one row."""
    return item if item[0].endswith("embed_tokens.weight") else _filter(cls, item)


def convert(kind: ModelType, name: str) -> None:
    """Write one file."""
    hparams = ModelBase.load_hparams(model, is_mistral_format=False)
    made = ModelBase.from_model_architecture(hparams["architectures"][0], model_type=kind)
    made.get_vocab_base_pre = lambda *_: "pixtral"
    instance = made(model, gguf.LlamaFileType.MOSTLY_F16, out / name, model_name="tiny")
    instance.write()


LlavaVisionModel.filter_tensors = classmethod(filter_tensors)
convert(ModelType.TEXT, "text.gguf")
convert(ModelType.MMPROJ, "mmproj.gguf")
