#!/usr/bin/env python3
"""How long metrics take: gantrain's beside those of torch-fidelity and pytorch-fid, in one run, on the CPU.

    pip install torch-fidelity pytorch-fid
    OMP_NUM_THREADS=1 python benchmarks/metrics.py --repeats 1

From features to the number: the Fréchet distance and KID of made-up features of Inception's size, 2048, for 120
generated against 140 real images and for 1,000 against 1,000. KID is the mean over 100 subsets of 1,000, or of as many
as there are; pytorch-fid has none. And Inception's features of a batch of images of 256 pixels, with random weights;
pytorch-fid's network takes only those from the internet.

Prints a table: medians over the repeats, in which all libraries take turns, of wall-clock and CPU time; the CPU time as
a multiple of gantrain's; and the number, which has to be the same. A library that is missing or fails has a row that
says so.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from gantrain.metrics.base import Extracted
from gantrain.metrics.features.inception import InceptionFeatures
from gantrain.metrics.frechet import frechet_distance
from gantrain.metrics.kid import KernelDistance

DIM = 2048
COUNTS = ((120, 140), (1000, 1000))
SUBSETS, SUBSET = 100, 1000
BATCH, SIDE = 8, 256
Way = Callable[[], float]  # Computes a number.


def features(count: int, seed: int) -> Tensor:
    """Made-up features (N, 2048): correlated and not negative, as Inception's are."""
    draws = torch.Generator().manual_seed(seed)
    mixing = torch.randn(64, DIM, generator=torch.Generator().manual_seed(0)) / 8
    values = torch.randn(count, 64, generator=draws) @ mixing + 0.3 * torch.randn(count, DIM, generator=draws)
    return (0.4 + 0.02 * seed + 0.4 * values).clamp(min=0)


# ---- the Fréchet distance


def torch_fidelity_frechet(one: Tensor, other: Tensor) -> float:
    """torch-fidelity's, by the eigenvalues of the product of the covariances."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    moments = [fid_features_to_statistics(each) for each in (one, other)]
    return fid_statistics_to_metric(*moments, verbose=False)["frechet_inception_distance"]


def pytorch_fid_frechet(one: Tensor, other: Tensor) -> float:
    """pytorch-fid's, by ``scipy.linalg.sqrtm``."""
    import numpy as np
    from pytorch_fid.fid_score import calculate_frechet_distance

    arrays = [each.numpy() for each in (one, other)]
    moments = [value for array in arrays for value in (array.mean(axis=0), np.cov(array, rowvar=False))]
    return float(calculate_frechet_distance(*moments))


# ---- KID


def own_kid(one: Tensor, other: Tensor) -> float:
    """gantrain's, with the unbiased distance of all images."""
    size = min(SUBSET, len(one), len(other))
    metric = KernelDistance(subsets=SUBSETS, subset_size=size, degree=3)
    return metric.compute(Extracted(one), Extracted(other), seed=0)["kid"]


def torch_fidelity_kid(one: Tensor, other: Tensor) -> float:
    """torch-fidelity's, for the same subsets."""
    from torch_fidelity.metric_kid import kid_features_to_metric

    size = min(SUBSET, len(one), len(other))
    found = kid_features_to_metric(one, other, kid_subsets=SUBSETS, kid_subset_size=size, rng_seed=0, verbose=False)
    return found["kernel_inception_distance_mean"]


METRICS: dict[str, dict[str, Callable[[Tensor, Tensor], float]]] = {
    "KID": {"gantrain": own_kid, "torch-fidelity": torch_fidelity_kid},
    "FID": {
        "gantrain": frechet_distance,
        "torch-fidelity": torch_fidelity_frechet,
        "pytorch-fid": pytorch_fid_frechet,
    },
}


# ---- Inception's features


def networks(folder: Path) -> dict[str, Way]:
    """Both networks with equal random weights, computing the mean feature of a batch."""
    from torchvision.models import Inception3

    torch.manual_seed(0)
    network = Inception3(num_classes=1008, aux_logits=False, init_weights=False)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    path = folder / "random.pth"
    torch.save(network.state_dict(), path)
    images = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8)
    ways: dict[str, torch.nn.Module] = {"gantrain": InceptionFeatures(weights=str(path), resize="legacy")}
    with suppress(ImportError):
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        ways["torch-fidelity"] = FeatureExtractorInceptionV3("", ["2048"], feature_extractor_weights_path=str(path))
    return {name: lambda network=network: network(images)[0].double().mean().item() for name, network in ways.items()}


# ---- timing


def measure(ways: dict[str, Way], repeats: int) -> dict[str, list[tuple[float, float, float]] | str]:
    """The wall and CPU seconds and the number of every way in turns, or why there are none."""
    found: dict[str, list[tuple[float, float, float]] | str] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            times = found[name]
            if isinstance(times, str):
                continue
            try:
                wall, cpu = time.perf_counter(), time.process_time()
                number = way()
                times.append((time.perf_counter() - wall, time.process_time() - cpu, number))
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"
    return found


def print_rows(what: str, ways: dict[str, Way], repeats: int) -> None:
    """A row of each way."""
    found = measure(ways, repeats)
    own = found["gantrain"]
    assert not isinstance(own, str), own
    for name, times in found.items():
        if isinstance(times, str):
            print(f"| {what} | {name} | not measured: {times} | | | |", flush=True)
            continue
        wall, cpu, number = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(its[1] / mine[1] for its, mine in zip(times, own, strict=True))
        print(f"| {what} | {name} | {wall:.3f} | {cpu:.3f} | {ratio:,.2f} | {number:.6g} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1, help="of every way")
    typed = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}\n")
    print("| what | library | seconds | CPU seconds | times gantrain | number |")
    print("|---|---|---:|---:|---:|---:|")
    with torch.no_grad(), tempfile.TemporaryDirectory() as scratch:
        print_rows(f"Inception, {BATCH} images", networks(Path(scratch)), typed.repeats)
        for counts in COUNTS:
            sets = [features(count, seed) for seed, count in enumerate(counts, start=1)]
            for metric, libraries in METRICS.items():
                ways = {name: partial(way, *sets) for name, way in libraries.items()}
                print_rows(f"{metric}, {counts[0]:,} against {counts[1]:,}", ways, typed.repeats)


if __name__ == "__main__":
    main()
