"""Peak rates of devices: dense matrix products in TFLOP/s, by JAX's ``device_kind``.

NVIDIA: half of what the data sheets of A100 (2021), H100 (2024) and H200 (2024) give "with
sparsity"; the float32 column is TF32, which XLA uses for float32. Google: "peak compute per chip"
of the system architecture pages of Cloud TPU v4, v5e, v5p and v6e, which have no float32 column.
"""

_H100_SXM, _HOPPER_NVL = (989.4, 494.7), (835.5, 417.7)
_A100 = (312.0, 156.0)
# device_kind -> (bfloat16, float32)
PEAKS: dict[str, tuple[float, float | None]] = {
    "NVIDIA A100-SXM4-40GB": _A100,
    "NVIDIA A100-SXM4-80GB": _A100,
    "NVIDIA A100-PCIE-40GB": _A100,
    "NVIDIA A100 80GB PCIe": _A100,
    "NVIDIA H100 80GB HBM3": _H100_SXM,
    "NVIDIA H100 PCIe": (756.0, 378.0),
    "NVIDIA H100 NVL": _HOPPER_NVL,
    "NVIDIA H200": _H100_SXM,
    "NVIDIA H200 NVL": _HOPPER_NVL,
    "TPU v4": (275.0, None),
    "TPU v5 lite": (197.0, None),
    "TPU v5e": (197.0, None),
    "TPU v5": (459.0, None),
    "TPU v5p": (459.0, None),
    "TPU v6 lite": (918.0, None),
    "TPU v6e": (918.0, None),
}


def peak_flop_per_second(device_kind: str, dtype: str) -> float | None:
    """The peak of one device; None if it is not known. ``dtype``: bfloat16 or float32."""
    if device_kind not in PEAKS:
        return None
    teraflops = PEAKS[device_kind][("bfloat16", "float32").index(dtype)]
    return teraflops and teraflops * 1e12
