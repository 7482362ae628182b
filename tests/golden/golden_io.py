"""Numbers for goldens: drawn in f64, rounded to f32, so that one stored copy serves both types."""

import os

import torch
from safetensors.torch import save_file

FOLDER = os.path.dirname(os.path.abspath(__file__))
torch.set_num_threads(1)
GENERATOR = torch.Generator().manual_seed(20)


def normal(*shape, scale=1.0, mean=0.0):
    values = mean + scale * torch.randn(shape, dtype=torch.float64, generator=GENERATOR)
    return values.float().double()


def integers(high, *shape):
    return torch.randint(0, high, shape, dtype=torch.int64, generator=GENERATOR)


def small(tensor):
    """The narrowest type that holds the values exactly."""
    tensor = tensor.detach().contiguous().clone()
    if tensor.dtype == torch.int64:
        return tensor.int()
    if tensor.dtype == torch.float64 and torch.equal(tensor.float().double(), tensor):
        return tensor.float()
    return tensor


def save(name, tensors):
    path = os.path.join(FOLDER, name + ".safetensors")
    # One entry: their order in the file would be random.
    save_file({key: small(value) for key, value in tensors.items()}, path,
              metadata={"writer": f"tests/golden/write_{name}.py, torch {torch.__version__}"})
    print(f"{path}: {len(tensors)} tensors, {os.path.getsize(path)} bytes")
