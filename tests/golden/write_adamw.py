#!/usr/bin/env python3
"""Three steps of torch.optim.AdamW in f64 and f32, for several shapes and settings: adamw.safetensors.

Case `name`: name.p0, gradients name.g1 .. g3 and, for each type, name.<type>.p1 .. p3, exp_avg and
exp_avg_sq. tests/golden/adamw_golden_test.cc has the same settings.
"""

import torch

from golden_io import normal, save

SETTINGS = {
    "usual": dict(lr=3e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
    "large_epsilon": dict(lr=0.1, betas=(0.8, 0.999), eps=0.3, weight_decay=0.0),
}
SHAPES = [(1,), (33,), (5, 7), (3, 1, 4)]

tensors = {}
for setting, options in SETTINGS.items():
    for i, shape in enumerate(SHAPES):
        name = f"{setting}.{i}"
        tensors[f"{name}.p0"] = start = normal(*shape, mean=2)
        # Of very different sizes: the second moment must follow.
        gradients = [normal(*shape, scale=scale) for scale in (1, 1e-3, 30)]
        for step, gradient in enumerate(gradients, 1):
            tensors[f"{name}.g{step}"] = gradient
        for dtype, label in ((torch.float64, "f64"), (torch.float32, "f32")):
            p = start.to(dtype).clone().requires_grad_()
            optimizer = torch.optim.AdamW([p], **options, foreach=False, fused=False)
            for step, gradient in enumerate(gradients, 1):
                p.grad = gradient.to(dtype)
                optimizer.step()
                tensors[f"{name}.{label}.p{step}"] = p.detach().clone()
            for moment in ("exp_avg", "exp_avg_sq"):
                tensors[f"{name}.{label}.{moment}"] = optimizer.state[p][moment]
save("adamw", tensors)
