"""Train a backbone from a script, without a config."""

import argparse

from ssl_lib import LARS, Loader, Schedule, SimCLR, Trainer, ViewPipeline, backbones, data, views


def main(epochs: float = 1) -> None:
    """Trains SimCLR on the Fashion-MNIST images that are included in the package."""
    images = data.fashion_mnist_mini(split="train")
    pipeline = ViewPipeline(views.presets.simclr(size=28), images.mean, images.std)
    loader = Loader(images, pipeline, batch_size=256)
    method = SimCLR(backbones.resnet_tiny(in_channels=1), hidden_dim=256, temperature=0.2)
    optimizer = LARS(method.param_groups(weight_decay=1e-4), lr=0.3)
    state = Trainer().fit(method, loader, optimizer, Schedule(epochs=epochs))
    print(f"trained for {state.step} steps")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=float, default=1)
    main(parser.parse_args().epochs)
