"""A trained model as one file for other programs: written, read back, compared, and only then given its name.

What torch-export and onnx files hold takes pictures as they are, ``(N, 3, H, W)`` uint8 RGB of any number and size, and
gives logits ``(N, C, H, W)`` float32: the normalisation of the training is part of the program. A safetensors file has
the weights alone. What else a user needs (classes, colours, mean and standard deviation) is in each file's metadata
under ``segctl``.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as tracing_settings

from segctl.config.schema import Config, Input
from segctl.errors import ExportError
from segctl.runs.files import replacing
from segctl_jobs import checkpoint
from segctl_jobs.build import create_model
from segctl_jobs.evaluate import trained_model
from segctl_jobs.export_check import Comparison, Program, compare
from segctl_jobs.inference import logits_of, normalize
from segctl_jobs.onnx_operations import translations

__all__ = ["export"]

METADATA = "segctl"
_NUMBER_ALONE = re.compile(r"L\['image'\]\.size\(\)\[0\] (?:!=|>) 1")
EXAMPLE = (2, 3, 96, 128)  # traced with; every side but the channels is left open


class FromPixels(nn.Module):
    """A model behind its normalisation: ``(N, 3, H, W)`` uint8 to logits ``(N, C, H, W)`` float32."""

    def __init__(self, model: nn.Module, input: Input) -> None:
        super().__init__()
        self.model = model
        black, white = (normalize(torch.full((3, 1, 1), value, dtype=torch.uint8), input) for value in (0, 255))
        self.register_buffer("factor", (white - black) / 255)
        self.register_buffer("offset", black)

    def forward(self, image: Tensor) -> Tensor:
        return logits_of(self.model(image.to(torch.float32) * self.factor + self.offset)).float()


def export(
    checkpoint_path: Path,
    config: Config,
    format: str,
    out: Path,
    *,
    origin: Mapping[str, str],
    samples: int,
    on_progress: Callable[[str], None] = lambda doing: None,
) -> Comparison:
    """Writes the trained model to `out`, once what was written has proved equal to it.

    Args:
        checkpoint_path: A checkpoint of a trained run; its moving average of the weights is taken where it has one.
        config: That run's configuration.
        format: ``torch-export``, ``onnx`` or ``safetensors``.
        out: The file; an existing one is replaced.
        origin: Where the model comes from, for the metadata: the run's id, the version of segctl.
        samples: Images of the evaluation split on which the mIoU is compared; 0: none.
        on_progress: Called with what is being done.

    Raises:
        ExportError: The model cannot be exported so, or what was written gives something else; nothing is left then.
        CheckpointError: The checkpoint is missing, damaged or another model's.
        DataError: The data set, on which the mIoU is compared, is missing or faulty.
    """
    state = checkpoint.read(checkpoint_path)
    model = trained_model(config, state, checkpoint_path, torch.device("cpu")).to(memory_format=torch.contiguous_format)
    program = FromPixels(model, config.input).eval()
    on_progress(f"Exporting to {format}")
    content = _ENCODERS[format](program, config, _metadata(state, config, checkpoint_path, origin))
    draft = out.with_name(f".tmp-{out.name}")
    try:
        with _told(out):
            out.parent.mkdir(exist_ok=True)
            with replacing(draft) as file:
                file.write(content)
        del content
        restored = _DECODERS[format](draft, config, len(state["dataset_info"]["classes"]))
        comparison = compare(
            program, restored, state, config, checkpoint_path, samples=samples, on_progress=on_progress
        )
        if not comparison.equal:
            raise ExportError(f"What was exported does not equal the model: {comparison.faults}. It was deleted.")
        with _told(out):
            os.replace(draft, out)
    finally:
        draft.unlink(missing_ok=True)
    return comparison


@contextlib.contextmanager
def _told(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(
            f"{out} cannot be written: {error.strerror or error}.", "Choose another file with -o."
        ) from error


def _metadata(state: Mapping[str, Any], config: Config, path: Path, origin: Mapping[str, str]) -> str:
    info = state["dataset_info"]
    facts = {
        **origin,
        "checkpoint": path.name,
        "step": state["step"],
        "weights": "model" if state["ema"] is None else "ema",
        "model": config.model.model_dump(),
        "dataset": config.dataset.name,
        **{key: info.get(key) for key in ("classes", "palette", "ignore_index", "labels")},
        "mean": config.input.mean,
        "std": config.input.std,
    }
    return json.dumps(facts)


# --- Writing ---


def _encode_program(program: nn.Module, config: Config, metadata: str) -> bytes:
    file = io.BytesIO()
    torch.export.save(_traced(program, config), file, extra_files={f"{METADATA}.json": metadata})
    return file.getvalue()


def _encode_onnx(program: nn.Module, config: Config, metadata: str) -> bytes:
    traced = _traced(program, config)
    with _quiet(), _explained(config, "ONNX"):
        converted = torch.onnx.export(
            traced,
            (),
            dynamo=True,
            input_names=["image"],
            output_names=["logits"],
            custom_translation_table=dict(translations()),
            external_data=False,
            verbose=False,
        )
        proto = converted.model_proto
    proto.metadata_props.add(key=METADATA, value=metadata)
    # The tracer's own names (s40) for the sides that are left open mean nothing to a reader.
    for value in (*proto.graph.input, *proto.graph.output):
        for side, name in {0: "batch", 2: "height", 3: "width"}.items():
            value.type.tensor_type.shape.dim[side].dim_param = name
    del proto.graph.value_info[:]  # sizes of what is in between, in terms of those names
    content: bytes = proto.SerializeToString()
    return content


def _encode_weights(program: FromPixels, config: Config, metadata: str) -> bytes:
    from safetensors.torch import save

    # Cloned: weights that are shared, or views, are no shared storage in the file.
    state = {name: value.detach().clone().contiguous() for name, value in program.model.state_dict().items()}
    content: bytes = save(state, {METADATA: metadata, "format": "pt"})
    return content


def _traced(program: nn.Module, config: Config) -> ExportedProgram:
    example = torch.randint(0, 256, EXAMPLE, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    open_sides = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    with _quiet(), _explained(config, "a program of torch.export"), _any_size(), torch.no_grad():
        traced = torch.export.export(program, (example,), dynamic_shapes=(open_sides,), strict=False)
    return _for_a_single_image(traced)


def _for_a_single_image(traced: ExportedProgram) -> ExportedProgram:
    """Takes out the tracer's conditions on the number of images alone.

    A convolution that is given a map in channels-last order (behind attention) makes it note that there are several
    images, because for a single one that order and the usual one are the same memory. The program holds for one image
    too: that is what is compared first.
    """
    conditions = getattr(traced, "_guards_code", None)  # versions of torch that keep none check none
    if conditions:
        traced._guards_code = [each for each in conditions if not _NUMBER_ALONE.fullmatch(each)]
    return traced


def _any_size() -> contextlib.AbstractContextManager[Any]:
    """Keeps the tracer from taking what holds for the example's size alone for a condition on every size.

    Without it a map that is cut back to the image's size (DUNet, U-Net) must then always, or never, be cut, and a deep
    feature map may not be a single pixel (DFANet at 64 pixels).
    """
    name = "backed_size_oblivious"  # a setting that not every version of torch has
    known = hasattr(tracing_settings, name)
    return tracing_settings.patch(**{name: True}) if known else contextlib.nullcontext()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The tracer warns about itself at length."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _explained(config: Config, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # what a tracer or converter raises on a model that it does not know how to take
        raise ExportError(
            f"Model {config.model.name} cannot become {what} for images of any size: {_reason(error)}.",
            "safetensors works for every model." if what != "ONNX" else "torch-export and safetensors may do.",
        ) from error


def _reason(error: BaseException) -> str:
    """The operation that could not be translated, where one is named, and the innermost cause's first line."""
    operation = re.search(r"target=torch\.ops\.(\w+\.\w+)", str(error))
    if operation:
        return f"there is no translation of {operation[1]} as it is used"
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0][:200].rstrip(".: ")


# --- Reading back ---


def _decode_program(path: Path, config: Config, num_classes: int) -> Program:
    with path.open("rb") as file:  # of a path it wants a certain ending
        module = torch.export.load(file).module()
    return lambda image: module(image)  # as a part of another module it would be asked to change its mode


def _decode_onnx(path: Path, config: Config, num_classes: int) -> Program:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"image": image.contiguous().numpy()})[0])

    return run


def _decode_weights(path: Path, config: Config, num_classes: int) -> Program:
    from safetensors.torch import load_file

    model = create_model(config.model, num_classes, from_checkpoint=True)
    model.load_state_dict(load_file(path))
    return FromPixels(model, config.input).eval()


_ENCODERS: Mapping[str, Callable[[Any, Config, str], bytes]] = {
    "torch-export": _encode_program,
    "onnx": _encode_onnx,
    "safetensors": _encode_weights,
}
_DECODERS: Mapping[str, Callable[[Path, Config, int], Program]] = {
    "torch-export": _decode_program,
    "onnx": _decode_onnx,
    "safetensors": _decode_weights,
}
