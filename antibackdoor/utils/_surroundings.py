"""Versions and hardware that the exact result of a computation depends on."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

#: Packages that compute.
_PACKAGES = ("antibackdoor", "numpy", "scikit-learn", "scipy", "torch", "torchvision")


def surroundings(device: torch.device) -> dict[str, Any]:
    """Return versions, threads and hardware that the exact result of a computation depends on.

    Stored results are saved with it, so that they are reused only where a new computation would
    give the same bits.

    Parameters
    ----------
    device : torch.device
        Device of the computation.

    Returns
    -------
    dict
        Text, numbers, and dicts of them.
    """
    told: dict[str, Any] = {
        "versions": {name: version(name) for name in _PACKAGES},
        "device": device.type,
        # Sums are split up among threads, and by the width of the processor's registers.
        "threads": torch.get_num_threads(),
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "onednn": bool(torch.backends.mkldnn.enabled),
        "flush_denormal": _flushes_denormals(),
    }
    if device.type == "cuda":
        told["cuda"] = _cuda(device)
    return told


def _flushes_denormals() -> bool:
    # Of `torch.set_flush_denormal`, which cannot be asked.
    return float(torch.tensor(1e-310, dtype=torch.float64) * 1) == 0


def _cuda(device: torch.device) -> dict[str, Any]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return {
        "name": torch.cuda.get_device_name(device),
        "version": torch.version.cuda,
        "cudnn": cudnn.version(),
        "cudnn_enabled": bool(cudnn.enabled),
        "cudnn_benchmark": bool(cudnn.benchmark),
        "cudnn_deterministic": bool(cudnn.deterministic),
        "cudnn_tf32": bool(cudnn.allow_tf32),
        "reduced_precision_sums": bool(matmul.allow_fp16_reduced_precision_reduction),
        "reduced_bfloat16_sums": bool(matmul.allow_bf16_reduced_precision_reduction),
    }
