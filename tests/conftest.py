import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

import neuronpath as nph

torch.set_num_threads(1)  # tensors this small are slower on several, much slower beside other work


@pytest.fixture(scope="session")
def demo():
    return nph.demo.load()


@pytest.fixture(scope="session")
def random_vit():
    return build_vit


@pytest.fixture(scope="session")
def random_images():
    return draw_images


def build_vit(seed: int, pool: str = "token", **sizes) -> VisionTransformer:
    """A tiny ViT whose weights anyone can draw again: the recipe behind tests/data/parity.json, float32."""
    golden = {
        "img_size": 16,
        "patch_size": 4,
        "embed_dim": 32,
        "depth": 4,
        "num_heads": 4,
        "mlp_ratio": 2,
        "num_classes": 5,
    }
    pooling = {"global_pool": "avg", "class_token": True, "fc_norm": True} if pool == "avg" else {}
    model = VisionTransformer(**{**golden, **pooling, **sizes})
    state, draw = model.state_dict(), np.random.RandomState(seed)
    for key in sorted(state):
        shape = tuple(state[key].shape)
        z = draw.standard_normal(shape).astype(np.float32)
        if len(shape) >= 2 and key.endswith("weight"):
            z = z * 1.5 / np.sqrt(np.prod(shape[1:]))
        elif "norm" in key and key.endswith("weight"):
            z = 1 + 0.1 * z
        else:
            z = z * (0.1 if key.endswith("bias") else 0.5)
        state[key] = torch.as_tensor(z, dtype=torch.float32)
    model.load_state_dict(state)
    return model.eval()


def draw_images(seed: int, n: int, size: int = 16) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((n, 3, size, size)).astype(np.float32))


@pytest.fixture(scope="session")
def early(demo):
    """Two shared blocks, four loops, an exit behind each, trained a little: images leave at all of them."""
    train = nph.demo.load("train")[1][:320]
    looped = nph.with_exits(nph.recursive(demo[0], 2, rank=8, images=train[:100]))
    return nph.distil(looped, demo[0], train.split(32), 3, 1e-3, hidden=False)
