"""The one schema of a run's configuration: what a recipe may say, with defaults, limits and units.

A resolved `Config` is frozen, complete and serialisable; ``RUN/config.yaml`` is exactly it. Sections are named after
what they decide.
"""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_serializer, model_validator

from segctl.config import slurm_options
from segctl.config.time_limit import parse_time_limit
from segctl.plain_data import plain

__all__ = [
    "Augment",
    "Config",
    "Data",
    "Evaluation",
    "Input",
    "Launch",
    "Optimizer",
    "Plugin",
    "Schedule",
    "Slurm",
    "Training",
]

Positive = Annotated[int, Field(gt=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class Plugin(Section):
    """A plugin by name, with its options beside the name: ``{name: unet, backbone: resnet50}``, or just ``unet``."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value, "options": {}}
        if isinstance(value, dict) and "options" not in value:
            options = {key: item for key, item in value.items() if key != "name"}
            return {"options": options, **({"name": value["name"]} if "name" in value else {})}
        return value

    @field_validator("options", mode="after")
    @classmethod
    def _plain_options(cls, options: dict[str, Any]) -> dict[str, Any]:
        # What config.yaml gives back is then equal to what was written, tuples and paths included.
        try:
            return {name: plain(value) for name, value in options.items()}
        except TypeError as error:
            raise ValueError(str(error)) from None

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"name": self.name, **self.options}


class Training(Section):
    """How long, how much at a time, and in which arithmetic."""

    epochs: Annotated[float, Field(gt=0, description="passes over the training split (when `steps` is not given)")] = 50
    steps: Annotated[int | None, Field(gt=0, description="optimizer steps; overrides `epochs`")] = None
    batch_size: Annotated[int, Field(gt=0, description="samples per optimizer step, over all processes")] = 16
    accumulate: Annotated[int, Field(gt=0, description="micro-batches that make up one step on each process")] = 1
    clip_norm: Annotated[float | None, Field(gt=0, description="largest global gradient norm")] = None
    ema: Annotated[
        float | None, Field(gt=0, lt=1, description="decay of an exponential moving average of the weights")
    ] = None
    sync_bn: Annotated[bool, Field(description="batch statistics over all processes")] = True
    amp: Annotated[
        Literal["auto", "bf16", "fp16", "off"],
        Field(description="autocast; auto is bf16 on a GPU that has it, else off"),
    ] = "auto"
    channels_last: bool = True
    compile: Annotated[bool, Field(description="torch.compile the model")] = False
    deterministic: Annotated[bool, Field(description="only deterministic GPU algorithms; slower")] = False
    workers: Annotated[
        int | None, Field(ge=0, description="data workers per process; default: the free cores, at most 8")
    ] = None
    log_every: Annotated[int, Field(gt=0, description="steps between two records in metrics.jsonl")] = 10
    eval_every: Annotated[float, Field(ge=0, description="epochs between evaluations; 0: only at the end")] = 1
    checkpoint_every: Annotated[
        int | None, Field(gt=0, description="steps between checkpoints, beside the one at each evaluation")
    ] = None
    keep_every: Annotated[int | None, Field(gt=0, description="epochs between checkpoints that are kept for good")] = (
        None
    )


class Optimizer(Section):
    name: Annotated[
        Literal["sgd", "adam", "adamw"],
        Field(description="adam adds the weight decay to the gradient, adamw takes it off the weights"),
    ] = "sgd"
    lr: Annotated[float, Field(gt=0, description="peak learning rate")] = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1, description="SGD only")] = 0.9
    nesterov: Annotated[bool, Field(description="SGD only")] = False
    betas: Annotated[tuple[Decay, Decay], Field(description="Adam and AdamW only")] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    decay_norm_and_bias: Annotated[bool, Field(description="apply weight decay to norm layers and biases too")] = False
    head_lr_factor: Annotated[
        float, Field(gt=0, description="learning rate of everything but the backbone, relative to lr")
    ] = 1.0


class Schedule(Section):
    """Learning rate over time, as a factor of `optimizer.lr`; the last step is never at zero."""

    name: Literal["poly", "cosine", "step", "constant"] = "poly"
    power: Annotated[float, Field(gt=0, description="poly: (1 - t)^power")] = 0.9
    milestones: Annotated[
        tuple[Fraction, ...], Field(description="step: at these fractions of the training, times gamma")
    ] = (0.5, 0.75)
    gamma: Annotated[float, Field(gt=0, le=1, description="step")] = 0.1
    min_factor: Annotated[float, Field(ge=0, le=1, description="floor, relative to the peak")] = 0.0
    warmup_steps: Annotated[int, Field(ge=0, description="linear warm-up")] = 0
    warmup_factor: Annotated[float, Field(ge=0, le=1, description="where the warm-up starts, relative to the peak")] = (
        0.1
    )


class Augment(Section):
    """Random changes to training samples. Each is a function of (seed, step, sample) alone."""

    crop: Annotated[
        tuple[Positive, Positive] | Positive | None,
        Field(description="height and width, or one side; null: the size of the images"),
    ] = 480
    scale: Annotated[
        tuple[float, float],
        Field(
            description="range of the random scale",
            json_schema_extra={"allowed": "a list of two numbers above 0, the smaller first"},
        ),
    ] = (0.5, 2.0)
    flip: Annotated[Fraction, Field(description="probability of a horizontal flip")] = 0.5
    max_class_share: Annotated[
        float, Field(gt=0, le=1, description="a crop of which one class covers more is drawn again, ten times at most")
    ] = 0.75
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.0
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.0
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    blur: Annotated[Fraction, Field(description="probability of a Gaussian blur")] = 0.0

    @field_validator("scale")
    @classmethod
    def _scale_is_a_range(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0 < scale[0] <= scale[1]:
            raise ValueError("not a range")
        return scale


class Data(Section):
    """How samples are read."""

    cache: Annotated[
        str | None,
        Field(
            description="folder on each node's own disk, such as $TMPDIR, for a file of all samples, decoded; "
            "for data on a slow file system"
        ),
    ] = None


class Input(Section):
    """How uint8 RGB becomes the model's input: ``(x / 255 - mean) / std``."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (
        0.229,
        0.224,
        0.225,
    )


class Evaluation(Section):
    """How masks are predicted and counted; every image once, at its own resolution."""

    split: Annotated[str | None, Field(description="default: the data set's evaluation split")] = None
    mode: Annotated[Literal["whole", "slide"], Field(description="the whole image at once, or sliding windows")] = (
        "whole"
    )
    window: Annotated[
        tuple[Positive, Positive] | Positive, Field(description="slide: height and width, or one side")
    ] = 512
    overlap: Annotated[float, Field(ge=0, lt=1, description="slide: fraction shared by neighbouring windows")] = 0.33
    scales: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...],
        Field(min_length=1, description="probabilities are averaged over these"),
    ] = (1.0,)
    flip: Annotated[bool, Field(description="average with the mirrored image")] = False
    max_pixels: Annotated[
        int,
        Field(gt=0, description="a larger image is predicted in windows of about this many pixels, to bound memory"),
    ] = 4_194_304
    save_predictions: Annotated[
        bool, Field(description="segctl eval: write palette PNGs in the data set's own label values")
    ] = False
    submission: Annotated[
        bool, Field(description="segctl eval: zip the predictions as the benchmark's server wants them")
    ] = False


class Slurm(Section):
    """What a SLURM cluster wants to know; read where `launch.on` is ``slurm``."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: Annotated[str | None, Field(description="features of nodes, such as a100|h100")] = None
    gpu_type: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9._-]+$",
            description="type of the GPUs, such as a100; default: any",
            json_schema_extra={"allowed": "the name of a type, such as a100"},
        ),
    ] = None
    cpus_per_gpu: Annotated[int | None, Field(gt=0, description="CPU cores per process; default: the cluster's")] = None
    memory: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9]+[KMGT]?B?$",
            description="per node, such as 64G; default: the cluster's",
            json_schema_extra={"allowed": "a number with K, M, G or T, such as 64G"},
        ),
    ] = None
    setup: Annotated[tuple[str, ...], Field(description="shell lines that run before the job on its first node")] = ()
    environment: Annotated[dict[str, str], Field(description="variables for each process")] = Field(
        default_factory=dict
    )
    container: Annotated[
        str | None, Field(description="command that each process is run in, such as apptainer exec --nv FILE.sif")
    ] = None
    options: Annotated[
        dict[str, str | int | float | bool],
        Field(description="any other option of sbatch; true for one without value, false for none"),
    ] = Field(default_factory=dict)

    @field_validator("container")
    @classmethod
    def _container_is_a_command(cls, container: str | None) -> str | None:
        shlex.split(container or "")  # a quotation mark that is left open: ValueError
        return container

    @field_validator("options")
    @classmethod
    def _options_are_nobody_elses(cls, options: dict[str, Any]) -> dict[str, Any]:
        named = {slurm_options.name_of(key): value for key, value in options.items()}
        for name, value in named.items():
            if why := slurm_options.why_refused(name, value):
                raise ValueError(why)
        return {name: value for name, value in named.items() if value is not False}


class Launch(Section):
    """Where, on how many processes, for how long, and what happens when the job is interrupted."""

    on: Annotated[str, Field(description="local, slurm or the name of a profile")] = "local"
    profile: Annotated[str | None, Field(description="the profile that these values began with")] = None
    nodes: Positive = 1
    procs: Annotated[int | None, Field(gt=0, description="processes per node; default: one per GPU, else 1")] = None
    gpus: Annotated[
        int | None, Field(ge=0, description="GPUs per node; default: the visible ones, on SLURM none; 0: CPU")
    ] = None
    time: Annotated[
        str | None,
        Field(
            description="time limit in SLURM's form; default: none, on SLURM the partition's",
            json_schema_extra={"allowed": "minutes, hours:minutes:seconds or days-hours, such as 90, 12:00:00, 2-0"},
        ),
    ] = None
    save_before: Annotated[
        int, Field(gt=0, description="seconds before the time limit at which the job saves and requeues itself")
    ] = 120
    requeue: Annotated[bool, Field(description="go on by itself after the time limit or a preemption")] = True
    max_restarts: Annotated[int, Field(ge=0, description="how often it may go on by itself")] = 100
    hang_timeout: Annotated[
        float, Field(ge=0, description="seconds without progress after which a job that hangs is ended; 0: never")
    ] = 900
    snapshot: Annotated[
        bool, Field(description="freeze the code that is not installed: the job runs it as it is at submission")
    ] = False
    slurm: Slurm = Field(default_factory=Slurm)

    @field_validator("time", mode="before")
    @classmethod
    def _time_is_a_duration(cls, time: Any) -> Any:
        text = str(time) if type(time) is int else time  # YAML reads 90 as a number
        if isinstance(text, str):
            parse_time_limit(text)
        return text


class Config(Section):
    name: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
            max_length=80,
            description="part of the run's id",
            json_schema_extra={
                "allowed": "a letter or digit, followed by at most 79 letters, digits, dots, hyphens and underscores"
            },
        ),
    ] = None
    seed: Annotated[
        int,
        Field(ge=0, lt=2**32, json_schema_extra={"allowed": "a whole number from 0 to 4294967295"}),
    ] = 0
    data_root: Annotated[str, Field(description="folder that holds the data sets")] = "data"
    model: Plugin
    dataset: Plugin
    loss: Annotated[Plugin | None, Field(description="default: the model's own")] = None
    train: Training = Field(default_factory=Training)
    optimizer: Optimizer = Field(default_factory=Optimizer)
    schedule: Schedule = Field(default_factory=Schedule)
    data: Data = Field(default_factory=Data)
    augment: Augment = Field(default_factory=Augment)
    input: Input = Field(default_factory=Input)
    eval: Evaluation = Field(default_factory=Evaluation)
    launch: Launch = Field(default_factory=Launch)
