"""What would only fail after hours in a queue is tried before: data, model and loss, on a small input."""

from __future__ import annotations

import shlex
from pathlib import Path

import torch
from torch import Tensor, nn

from segctl import registry
from segctl.config.schema import Config, Plugin
from segctl.errors import CheckpointError, ConfigError, PluginError, SegctlError, WeightsError, listing
from segctl.options import describe
from segctl.plugin import DatasetInfo, model_traits
from segctl_jobs import checkpoint
from segctl_jobs.augment import crop_size
from segctl_jobs.build import INITIAL_WEIGHTS, amp_dtype, create_loss, create_model, open_split
from segctl_jobs.data import check_pair
from segctl_jobs.evaluate import check_classes, is_labelled, trained_model
from segctl_jobs.optim import create_optimizer
from segctl_jobs.sample_cache import refuse_uncachable
from segctl_jobs.server_zip import paths_inside
from segctl_jobs.timeline import Timeline
from segctl_jobs.weights_record import starting_notices

SIDE = 96  # pixels; enough for an output stride of 32 with room, small enough for a laptop
SHOWN = 5


def check(config: Config, *, processes: int, from_checkpoint: bool) -> tuple[str, ...]:
    """Opens both splits, reads a sample of each, and runs the real model and loss forward and backward once.

    Args:
        config: The training's.
        processes: How many will train together.
        from_checkpoint: The run goes on from a checkpoint, so that its initial weights are not needed any more.

    Returns:
        What the user should know although nothing is wrong.

    Raises:
        SegctlError: What is wrong, as the job itself would have said it.
    """
    notices: list[str] = []
    dataset, info = open_split(config, None, training=True)
    held_out, held_out_info = open_split(config, config.eval.split, training=False)
    if config.eval.split and not is_labelled(held_out_info, config.eval.split):
        raise ConfigError(
            f"eval.split: the labels of {config.eval.split} are not public, so a training cannot be measured on it.",
            f"Choose one of {listing(held_out_info.splits or ())}.",
        )
    if held_out_info.classes != info.classes:
        raise SegctlError(
            f"The splits of data set {config.dataset.name} disagree about the classes: "
            f"{', '.join(info.classes)} to train on, {', '.join(held_out_info.classes)} to evaluate on."
        )
    refuse_uncachable(config, dataset)
    notices += [str(notice) for notice in getattr(dataset, "notices", ())]
    for samples in (held_out, dataset):
        image, mask = samples[0]
        check_pair(image, mask, info, samples.name(0))
    notices += _padding(config, *mask.shape)
    if config.launch.on == "local":
        uses_gpu = torch.cuda.is_available() and config.launch.gpus != 0
        amp_dtype(config.train.amp, torch.device("cuda" if uses_gpu else "cpu"))
    total = Timeline.of(config.train, len(dataset)).total
    if config.schedule.warmup_steps >= total:
        notices.append(
            f"The warm-up of {config.schedule.warmup_steps} steps outlast the training's {total}: its learning rate is "
            "never reached. Set schedule.warmup_steps."
        )
    notices += _try_model(config, info, processes, from_checkpoint)
    return tuple(notices)


def check_evaluation(config: Config, path: Path) -> tuple[str, ...]:
    """The same for an evaluation: opens its split, reads a sample, and fits the checkpoint at `path` to the model.

    Raises:
        SegctlError: What is wrong, as the job itself would have said it.
    """
    dataset, info = open_split(config, config.eval.split, training=False)
    if config.eval.submission:
        paths_inside(dataset, config.dataset.name)
    elif config.eval.split and not config.eval.save_predictions and not is_labelled(info, config.eval.split):
        raise ConfigError(
            f"The labels of {config.eval.split} are not public: there is nothing to measure.",
            "--submission writes the predictions as the benchmark's server wants them, --save-predictions as they are.",
        )
    image, mask = dataset[0]
    check_pair(image, mask, info, dataset.name(0))
    state = checkpoint.read(path)
    check_classes(state, info.classes, path)
    trained_model(config, state, path, torch.device("cpu"))
    return tuple(str(notice) for notice in getattr(dataset, "notices", ()))


def _try_model(config: Config, info: DatasetInfo, processes: int, from_checkpoint: bool) -> list[str]:
    torch.manual_seed(config.seed)
    model = _model(config, info, from_checkpoint).train()
    # Counting the pixels of the whole training split is the job's; any counts do to try the loss.
    loss = create_loss(config, info, lambda: [1] * len(info.classes))
    images = torch.randn(2, 3, SIDE, SIDE)
    target = torch.randint(len(info.classes), (2, SIDE, SIDE))
    target[:, :4] = info.ignore_index
    outputs = _forward(config, model, images)
    _check_logits(config, outputs, images, len(info.classes))
    total = _total(config, loss, outputs, target)
    total.backward()
    _try_optimizer(config, model)
    notices = _unused_parameters(config, info, model, processes)
    if from_checkpoint:
        return notices
    options = config.model.options
    if options.get("pretrained") is False and options.get("weights") is None:
        notices.append(_of_random_weights(config, model))
    return [*notices, *starting_notices(config.model, len(info.classes))]


def _of_random_weights(config: Config, model: nn.Module) -> str:
    """That it starts from nothing, and what it can start from: ImageNet's weights only where its backbone has any."""
    what = f"Model {config.model.name} starts from random weights"
    if getattr(getattr(model, "backbone", model), "imagenet", None) is None:
        return f"{what}; `--model.weights FILE`, `--model.weights run:RUN` start from a file, from another run."
    return (
        f"{what}; `--model.pretrained true` starts from ImageNet's "
        "(`--model.weights FILE`, `--model.weights run:RUN`: from a file, from another run)."
    )


def _model(config: Config, info: DatasetInfo, from_checkpoint: bool) -> nn.Module:
    try:
        return create_model(config.model, len(info.classes), from_checkpoint=from_checkpoint)
    except WeightsError as error:
        raise _of_another_run(config, info, error) from error


def _of_another_run(config: Config, info: DatasetInfo, error: WeightsError) -> WeightsError:
    """The same error; where the weights are a run's checkpoint, in terms of that run, with what would fit."""
    path = Path(str(config.model.options.get("weights")))
    try:
        trained = checkpoint.read(path)["dataset_info"]["classes"]
    except CheckpointError:
        return error
    options = {option.name: option.default for option in describe(registry.find("models", config.model.name).load())}
    given = [
        f"--model.{name}={value}"
        for name, value in config.model.options.items()
        if name not in INITIAL_WEIGHTS and value != options.get(name)
    ]
    command = [
        *("segctl", "weights", "import", str(path), "--model", config.model.name, *given),
        *("--num-classes", str(len(info.classes)), "--partial", "-o", "FILE"),
    ]
    way_out = f"What fits is taken by `{shlex.join(command)}` and `--model.weights FILE`."
    if len(trained) == len(info.classes):
        return WeightsError(error.message, way_out)
    return WeightsError(
        f"The weights in {path} are for {len(trained)} classes, but {config.dataset.name} has {len(info.classes)}.",
        way_out,
    )


def _padding(config: Config, height: int, width: int) -> list[str]:
    """A crop much larger than the images wastes most of the computation on padding."""
    rows, columns = crop_size(config.augment.crop, height, width)
    largest = config.augment.scale[1]
    covered = min(rows, height * largest) * min(columns, width * largest) / (rows * columns)
    if covered >= 0.5:
        return []
    return [
        f"Crops are {columns}x{rows}, images {width}x{height}: more than half of each crop is padding. "
        "`--set augment.crop=null` takes the images as they are."
    ]


def _unused_parameters(config: Config, info: DatasetInfo, model: nn.Module, processes: int) -> list[str]:
    unused = _without_gradient(model)
    if not unused:
        return []
    names = f"{', '.join(unused[:SHOWN])}{', ...' if len(unused) > SHOWN else ''}"
    what = f"{len(unused)} parameters of model {config.model.name} never get a gradient ({names})"
    wanted = _loss_that_uses_all(config, info, model)
    mend = f"Its outputs are for the loss {wanted}: name that, alone or in `sum`." if wanted else ""
    if processes > 1:
        raise PluginError(
            f"{what}, so it cannot be trained on {processes} processes.",
            f"{mend} Or train on one process." if mend else "Train on one process, or mend the model.",
        )
    return [f"{what}: it can be trained on one process only. {mend}".strip()]


def _without_gradient(model: nn.Module) -> list[str]:
    return [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None]


def _loss_that_uses_all(config: Config, info: DatasetInfo, model: nn.Module) -> str:
    """The loss that the model declares, if it is this one that lacks a term for some output; else nothing."""
    traits = model_traits(registry.find("models", config.model.name).load())
    own = config.model_copy(update={"loss": Plugin(name=traits.loss, options=dict(traits.loss_options))})
    target = torch.randint(len(info.classes), (2, SIDE, SIDE))
    try:
        loss = create_loss(own, info, lambda: [1] * len(info.classes))
        _total(own, loss, _forward(own, model, torch.randn(2, 3, SIDE, SIDE)), target).backward()
    except SegctlError:  # no advice, then
        return ""
    return "" if _without_gradient(model) else traits.loss


def _try_optimizer(config: Config, model: nn.Module) -> None:
    try:
        create_optimizer(model, config.optimizer, ())
    except ValueError as error:
        raise ConfigError(f"optimizer: {error}.") from error


def _forward(config: Config, model: nn.Module, images: Tensor) -> object:
    try:
        outputs: object = model(images)
    except SegctlError:
        raise
    except Exception as error:
        raise PluginError(
            f"Model {config.model.name} fails on images of {SIDE}x{SIDE}: {type(error).__name__}: {error}.",
            f"`segctl plugins check {config.model.name}` says more.",
        ) from error
    return outputs


def _check_logits(config: Config, outputs: object, images: Tensor, num_classes: int) -> None:
    logits = outputs.get("out") if isinstance(outputs, dict) else outputs
    expected = (images.shape[0], num_classes, *images.shape[2:])
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise PluginError(
            f"Model {config.model.name} returns {found} for images {tuple(images.shape)}; "
            f'logits {expected} are wanted, alone or as "out" of a dict.'
        )


def _total(config: Config, loss: object, outputs: object, target: Tensor) -> Tensor:
    name = config.loss.name if config.loss is not None else "the default loss"
    try:
        terms = loss(outputs, target)  # type: ignore[operator]
    except SegctlError:
        raise
    except Exception as error:
        raise PluginError(
            f"Loss {name} fails on the outputs of model {config.model.name}: {type(error).__name__}: {error}."
        ) from error
    total: Tensor = sum(terms.values()) if isinstance(terms, dict) else terms
    if not torch.isfinite(total).all():
        raise PluginError(f"Loss {name} of model {config.model.name} is {float(total)} on a small random input.")
    return total
