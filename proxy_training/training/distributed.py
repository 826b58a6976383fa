"""One model over several processes: replicated weights (DDP) or sharded ones (FSDP2), with the losses of one process.

Both average gradients over equal shares of the batch. FSDP2 gathers a block's weights when it runs, in bfloat16 where
the model computes in it (the rounding that autocast makes anyway), and reduces gradients in float32; embedding, last
norm and head form the root's group in float32, whole while the loss reads them. Sources: torch's documents of
`DistributedDataParallel` and `fully_shard`; Zhao et al. 2023. Bytes a parameter: 16 replicated, 16 / ranks sharded.
"""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from curate.proxy_training.model import Proxy

if TYPE_CHECKING:
    from curate.proxy_training.training.world import World


def replicate(model: Proxy, world: "World") -> nn.Module:
    """`model`, on its device, with gradients averaged over ranks while the backward pass still runs."""
    on_gpu = world.device.type == "cuda"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 knows broadcast_buffers by another name too
        return DistributedDataParallel(
            model,
            device_ids=[world.device.index] if on_gpu else None,
            broadcast_buffers=False,  # rotary tables: equal by construction
            gradient_as_bucket_view=on_gpu,  # on the CPU gradients lie in the optimiser's buffer
        )


def shard(model: Proxy, world: "World") -> nn.Module:
    """`model` with its weights as DTensors over all ranks, moved to its device a block at a time."""
    mesh = init_device_mesh(world.device.type, (world.size,))
    half = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in model.blocks:
        fully_shard(
            block,
            mesh=mesh,
            reshard_after_forward=world.reshard_after_forward,
            mp_policy=half if model.bf16 else MixedPrecisionPolicy(),
        )
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    return model


def recompute_blocks(model: Proxy) -> None:
    """Keep only the input of each block and compute the rest again in the backward pass: a third more work, and the
    activations of one block instead of all. The numbers stay the same."""
    for block in model.blocks:
        # a closure: torch.compile runs a functools.partial eagerly, without a word
        def forward(*inputs: Tensor | None, inner: Callable[..., Tensor] = block.forward) -> Tensor:
            return checkpoint(inner, *inputs, use_reentrant=False)

        block.forward = forward


def whole_state(model: Proxy, world: "World") -> dict[str, Tensor]:
    """All weights on the main rank's CPU, {} elsewhere; one weight at a time is whole on a device."""
    state = {}
    for name, weight in model.named_parameters():
        some = weight.detach()
        whole = some.full_tensor() if isinstance(some, DTensor) else some
        if world.main:
            state[name] = whole.to("cpu", copy=True)
    return state
