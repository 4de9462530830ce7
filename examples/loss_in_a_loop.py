"""Use a loss in a plain PyTorch loop, without the rest of the library."""

import argparse

import torch
from torch import nn

from ssl_lib.losses import VICRegLoss


def main(steps: int = 100) -> None:
    """Trains a small network that maps two noisy copies of a vector to similar embeddings with high variance."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16))
    loss_function = VICRegLoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for step in range(steps):
        x = torch.randn(256, 32)
        loss = loss_function(network(x + 0.1 * torch.randn_like(x)), network(x + 0.1 * torch.randn_like(x)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == steps - 1:
            print(f"step {step:3d}  loss {loss.item():.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    main(parser.parse_args().steps)
