"""An ONNX file whose convolutions compute in 8 bits, by onnxruntime's static quantisation.

Weights have a scale for each channel. An activation has one scale, for its smallest to its largest
value on photos. Everything after the networks (distances, sums, filters) stays float32.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import quantization

_FEW = 3  # channels: convolutions of the photo and depthwise ones, which lose most and gain least


def quantize(source: Path, target: Path, photos: np.ndarray, signed: bool) -> None:
    """Writes ``target`` from the file ``source``; photos are [n, h, w, 3] uint8.

    Activations are uint8 with a zero of their own, or ``signed`` and symmetric. onnxruntime is
    quicker with uint8, but OpenVINO 2026.4 then gives other scores.
    """
    graph = onnx.load(source)
    kernels = {constant.name: constant.dims for constant in graph.graph.initializer}
    kept = []
    for i, node in enumerate(graph.graph.node):
        node.name = f"n{i}"
        if node.op_type == "Conv" and kernels.get(node.input[1], (0, 0))[1] <= _FEW:
            kept.append(node.name)
    onnx.save(graph, source)
    with _without_advice():
        quantization.quantize_static(
            source,
            target,
            _Photos(photos),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=kept,
            per_channel=True,
            activation_type=getattr(quantization.QuantType, "QInt8" if signed else "QUInt8"),
            extra_options={"ActivationSymmetric": signed},
            weight_type=quantization.QuantType.QInt8,
        )


class _Photos(quantization.CalibrationDataReader):
    def __init__(self, photos: np.ndarray):
        self._each = iter(photos)

    def get_next(self) -> dict[str, np.ndarray] | None:
        photo = next(self._each, None)
        return None if photo is None else {"image": photo[None]}


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Mutes onnxruntime's advice to run a preparation that this graph does not need."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
