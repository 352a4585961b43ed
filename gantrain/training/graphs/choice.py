"""Whether the steps of a run are computed as usual, on parts of batches, or as CUDA graphs."""

from __future__ import annotations

from gantrain.models.base import GAN
from gantrain.optim.accumulation import Accumulation, TrainStep
from gantrain.optim.updates import SideOptimizer
from gantrain.runtime import distributed
from gantrain.training.build import Parts
from gantrain.training.graphs.cuda import CudaGraphs
from gantrain.training.graphs.steps import GraphedSteps


def train_step_of(parts: Parts) -> TrainStep:
    """What computes the steps of a run, as configured; called like the model's ``train_step``."""
    model, update, settings = parts.model, parts.update, parts.context.trainer
    count = parts.stream.batch_size // parts.images_at_once
    step = Accumulation(model.train_step, update, count) if count > 1 else model.train_step
    if not settings.cuda_graphs:
        return step
    obstacle = obstacle_of(parts)
    graphs = None if obstacle else CudaGraphs(parts.context.device, [update.draws.generator])
    return GraphedSteps(model, update, graphs, obstacle=obstacle, otherwise=step)


def advice(parts: Parts) -> list[str]:
    """That steps could be replayed, for a run on a GPU whose steps could be and aren't."""
    settings = parts.context.trainer
    if settings.cuda_graphs or settings.compile or obstacle_of(parts):
        return []
    return [
        "steps of few or small images are limited by the host: trainer.cuda_graphs=true replays them as a whole, which "
        "was 2 to 5 times as fast on an H100"
    ]


def obstacle_of(parts: Parts) -> str:
    """Why no step of a run can be captured; empty if one may be."""
    device, settings = parts.context.device, parts.context.trainer
    if device.type != "cuda":
        return f"graphs are for GPUs, and this run is on {device.type}"
    if distributed.world_size() > 1:
        return f"graphs are for one process, and trainer.devices={distributed.world_size()}"
    if parts.images_at_once < parts.stream.batch_size:
        return f"trainer.micro_batch={settings.micro_batch} divides steps"
    if type(parts.model).step_kind is GAN.step_kind:
        return f"{type(parts.model).__name__} does not define step_kind()"
    return next(filter(None, map(optimizer_obstacle, parts.update.sides)), "")


def optimizer_obstacle(side: SideOptimizer) -> str:
    """Why the steps of an optimizer can't be captured; empty if they can."""
    options = side.optimizer.defaults
    name = type(side.optimizer).__name__
    if not options.get("fused") and "capturable" not in options:
        return f"the optimizer {name} has no form that can be captured"
    if side.scaler.is_enabled() and not options.get("fused"):
        return f"trainer.precision=float16 reads from the GPU with the optimizer {name}"
    return ""
