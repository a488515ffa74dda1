"""DUNet: the tiles' layout, the temperature, the size of the decoder, and upsampling from a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from meta_models import count, on_meta

from segctl.errors import WeightsError
from segctl_models.dunet import DUpsampling, dunet


def test_the_decoder_has_as_many_parameters_as_a_public_reimplementation() -> None:
    """Its 8,293,729 include P, which is 256 x 5376 like W and only serves to find W, but not the tiles' mean."""
    model = on_meta(dunet, 21)
    decoder = (model.low_level, model.fuse, model.upsample)
    expected = 8_293_729 - 256 * 5376 + 5376
    assert count(*decoder) == expected


def test_a_position_s_scores_fill_its_tile_row_by_row() -> None:
    classes, ratio, (height, width) = 3, 4, (2, 5)
    layer = DUpsampling(classes * ratio**2, classes, ratio)
    layer.weight.data = torch.eye(classes * ratio**2)[:, :, None, None]
    layer.bias.data.zero_()
    x = torch.randn(1, classes * ratio**2, height, width)
    layer.log_temperature.data.zero_()
    scores = layer(x)
    assert scores.shape == (1, classes, 8, 20)
    for c in range(classes):
        for y in range(8):
            for z in range(20):
                number = c * ratio**2 + (y % ratio) * ratio + z % ratio
                assert scores[0, c, y, z] == x[0, number, y // ratio, z // ratio]


def test_the_temperature_divides_the_scores() -> None:
    torch.manual_seed(0)
    layer, x = DUpsampling(5, 2, 4), torch.randn(1, 5, 2, 2)
    layer.log_temperature.data = torch.tensor(1.0).log()
    scores = layer(x)
    layer.log_temperature.data = torch.tensor(0.25).log()
    torch.testing.assert_close(layer(x), 4 * scores)


@pytest.mark.parametrize("output_stride", [16, 32])
def test_tiles_beyond_the_image_are_cut_off(output_stride: int) -> None:
    torch.manual_seed(0)
    model = dunet(3, backbone="resnet18", output_stride=output_stride).eval()  # type: ignore[arg-type]
    sizes: list[torch.Size] = []
    whole: list[torch.Tensor] = []
    model.upsample.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape))
    model.upsample.register_forward_hook(lambda _, __, output: whole.append(output))
    logits = model(torch.randn(1, 3, 70, 33))["out"]
    assert sizes[0][-2:] == (-(-70 // output_stride), -(-33 // output_stride))
    torch.testing.assert_close(logits, whole[0][..., :70, :33])


def saved(folder: Path, num_classes: int, ratio: int = 16) -> dict[str, torch.Tensor]:
    rows = num_classes * ratio**2
    state = {"upsample.weight": torch.randn(rows, 256, 1, 1), "upsample.bias": torch.randn(rows)}
    torch.save({"model": state}, folder / "w.pt")
    return state


def test_the_upsampling_comes_from_its_file(tmp_path: Path) -> None:
    state = saved(tmp_path, 3)
    model = dunet(3, backbone="resnet18", upsampling_weights=str(tmp_path / "w.pt"))
    assert torch.equal(model.upsample.weight, state["upsample.weight"])
    assert torch.equal(model.upsample.bias, state["upsample.bias"])


def test_it_goes_before_that_of_the_whole_model_s_file(tmp_path: Path) -> None:
    state = saved(tmp_path, 3)
    torch.save(dunet(3, backbone="resnet18").state_dict(), tmp_path / "all.pt")
    files = {"weights": str(tmp_path / "all.pt"), "upsampling_weights": str(tmp_path / "w.pt")}
    model = dunet(3, backbone="resnet18", **files)  # type: ignore[arg-type]
    assert torch.equal(model.upsample.weight, state["upsample.weight"])


@pytest.mark.parametrize(("num_classes", "ratio"), [(4, 16), (3, 32)])
def test_upsampling_for_other_classes_or_strides_is_refused(tmp_path: Path, num_classes: int, ratio: int) -> None:
    saved(tmp_path, num_classes, ratio)
    with pytest.raises(WeightsError, match=r"upsample\.weight \(768, 256, 1, 1\).*For 3 classes.*output_stride 16"):
        dunet(3, backbone="resnet18", upsampling_weights=str(tmp_path / "w.pt"))


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save(dunet(3, backbone="resnet18").state_dict(), tmp_path / "all.pt")
    with pytest.raises(WeightsError, match="upsampling alone"):
        dunet(3, backbone="resnet18", upsampling_weights=str(tmp_path / "all.pt"))
    with pytest.raises(WeightsError, match="does not exist"):
        dunet(3, backbone="resnet18", upsampling_weights=str(tmp_path / "absent.pt"))
