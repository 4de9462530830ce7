"""Shapes, parameters and boxes of the `images` fixture."""

import torch

COUNT, HEIGHT, WIDTH = 12, 37, 29


def factors(name):
    """Factors of `adjust_{name}`, including the limits and the identity."""
    values = torch.rand(COUNT, generator=torch.Generator().manual_seed(1))
    values[:3] = torch.tensor([0.0, 0.5, 1.0])
    return values - 0.5 if name == "hue" else 2 * values


def random_boxes(generator):
    """Boxes (COUNT, 4): the whole image, a pixel, a row and a column, then random boxes."""
    boxes = [[0, 0, HEIGHT, WIDTH], [5, 7, 1, 1], [HEIGHT - 1, 0, 1, WIDTH], [0, WIDTH - 2, HEIGHT, 2]]
    while len(boxes) < COUNT:
        height, width = (int(torch.randint(1, side + 1, (), generator=generator)) for side in (HEIGHT, WIDTH))
        top = int(torch.randint(HEIGHT - height + 1, (), generator=generator))
        boxes.append([top, int(torch.randint(WIDTH - width + 1, (), generator=generator)), height, width])
    return torch.tensor(boxes)
