"""Between images of Pillow and arrays."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from narae.engine import config


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("narae.utils: expected Pillow for images: pip install pillow.") from error
    return Image


def _data_format(data_format: str | None) -> str:
    data_format = data_format or config.image_data_format()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            "narae.utils: expected data_format to be 'channels_last' or 'channels_first'. "
            f"Received: data_format={data_format!r}."
        )
    return data_format


def array_to_img(
    x: Any, data_format: str | None = None, scale: bool = True, dtype: str | None = None
) -> Any:
    """Turns an array into an image of Pillow.

    Args:
        x: array (H, W, C) with 1, 3 or 4 channels.
        data_format: `"channels_last"` or `"channels_first"`; the configured one by default.
        scale: stretch the values to [0, 255].
        dtype: dtype to compute in; `floatx` by default.

    Returns:
        The image.

    Raises:
        ValueError: another number of axes or channels.
        ImportError: no Pillow.
    """
    Image = _pillow()
    x = np.asarray(x, dtype=dtype or config.floatx())
    if x.ndim != 3:
        raise ValueError(
            f"narae.utils.array_to_img: expected an array of 3 axes. Received: x.shape={x.shape}."
        )
    if _data_format(data_format) == "channels_first":
        x = x.transpose(1, 2, 0)
    if x.shape[2] not in (1, 3, 4):
        raise ValueError(
            f"narae.utils.array_to_img: expected 1, 3 or 4 channels. Received: x.shape={x.shape}."
        )
    if scale:
        x = x - x.min()
        top = x.max()
        x = x / (top if top else 1) * 255
    if x.shape[2] == 1:
        if x.max() > 255:
            return Image.fromarray(x[:, :, 0].astype("int32"))
        return Image.fromarray(x[:, :, 0].astype("uint8"))
    return Image.fromarray(x.astype("uint8"))


def img_to_array(img: Any, data_format: str | None = None, dtype: str | None = None) -> np.ndarray:
    """Turns an image of Pillow into an array.

    Args:
        img: the image.
        data_format: `"channels_last"` or `"channels_first"`; the configured one by default.
        dtype: dtype of the result; `floatx` by default.

    Returns:
        Array (H, W, C), or (C, H, W) with channels first.
    """
    data_format = _data_format(data_format)
    x = np.asarray(img, dtype=dtype or config.floatx())
    if x.ndim == 2:
        x = x[:, :, None]
    if x.ndim != 3:
        raise ValueError(
            f"narae.utils.img_to_array: expected an image of 2 or 3 axes. Received: {x.shape}."
        )
    return np.ascontiguousarray(x.transpose(2, 0, 1)) if data_format == "channels_first" else x


_MODES = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}


def load_img(
    path: Any,
    color_mode: str = "rgb",
    target_size: tuple[int, int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
) -> Any:
    """Reads an image with Pillow.

    Args:
        path: path or open file.
        color_mode: `"grayscale"`, `"rgb"` or `"rgba"`.
        target_size: (height, width) to resize to.
        interpolation: `"nearest"`, `"bilinear"`, `"bicubic"`, `"hamming"`, `"box"` or `"lanczos"`.
        keep_aspect_ratio: cut the middle out before resizing, rather than distort.

    Returns:
        The image.
    """
    Image = _pillow()
    if color_mode not in _MODES:
        raise ValueError(
            f"narae.utils.load_img: expected color_mode to be one of {list(_MODES)}. "
            f"Received: color_mode={color_mode!r}."
        )
    filters = {name.lower(): value for name, value in Image.Resampling.__members__.items()}
    if interpolation not in filters:
        raise ValueError(
            f"narae.utils.load_img: expected interpolation to be one of {list(filters)}. "
            f"Received: interpolation={interpolation!r}."
        )
    with Image.open(path) as file:
        gray16 = color_mode == "grayscale" and file.mode in ("I;16", "I")
        img = file.copy() if gray16 else file.convert(_MODES[color_mode])
    if target_size is None:
        return img
    height, width = target_size
    box = None
    if keep_aspect_ratio:
        part_width = min(img.width, img.height * width // height)
        part_height = min(img.height, img.width * height // width)
        left, top = (img.width - part_width) // 2, (img.height - part_height) // 2
        box = (left, top, left + part_width, top + part_height)
    return img.resize((width, height), filters[interpolation], box=box)


def save_img(
    path: str | os.PathLike,
    x: Any,
    data_format: str | None = None,
    file_format: str | None = None,
    scale: bool = True,
    **kwargs: Any,
) -> None:
    """Writes an array as an image file.

    Args:
        path: path of the file.
        x: array (H, W, C).
        data_format: `"channels_last"` or `"channels_first"`; the configured one by default.
        file_format: format of the file; told from the path by default.
        scale: stretch the values to [0, 255].
        **kwargs: passed on to Pillow's `save`.
    """
    img = array_to_img(x, data_format=data_format, scale=scale)
    if img.mode == "RGBA" and str(file_format or path).lower().endswith(("jpg", "jpeg")):
        img = img.convert("RGB")  # JPEG has no alpha channel
    img.save(path, format=file_format, **kwargs)
