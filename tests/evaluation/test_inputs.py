"""Tests of what an encoder is fed: one preprocessing for training and test images, labels matched by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib import DataError, Evaluator, TrainedBackbone, ViewPipeline
from ssl_lib.data import ArrayData, FolderData, pixel_statistics
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.embedding import EmbeddingTable, embed
from ssl_lib.evaluation import KNN, EvaluatedEncoder, RawPixels, extract_features, knn_accuracy, view_features
from ssl_lib.evaluation.features import check_features, encode
from ssl_lib.views import ViewConfig
from tests.conftest import TinyBackbone

LEVELS = np.array([20, 60, 120, 240], np.uint8)  # the classes are brightness levels


def bright(labels):
    """Images of 8 x 8 pixels whose brightness is their class."""
    return np.broadcast_to(LEVELS[labels][:, None, None], (len(labels), 8, 8)).copy()


BANK = np.arange(40) % 4
QUERIES = np.arange(20) % 2 + 2  # only bright classes: their own mean is another one


class Brightness(torch.nn.Module):
    """One direction per brightness, so that a shift of all queries makes every answer wrong."""

    out_dim = 2

    def forward(self, x):
        angle = x.mean(dim=(1, 2, 3)).unsqueeze(1)
        return torch.cat([angle.cos(), angle.sin()], dim=1)


def test_queries_are_normalized_as_the_training_images():
    train = ArrayData(bright(BANK))
    train = ArrayData(bright(BANK), BANK, (), *pixel_statistics(train))
    test = ArrayData(bright(QUERIES), QUERIES)
    inputs = Preprocessing.of(train)
    bank, labels = extract_features(Brightness(), train)
    queries, truth = extract_features(Brightness(), test, preprocessing=inputs)
    assert knn_accuracy(queries, truth, bank, labels, 4, k=1) == 1
    own = ArrayData(bright(QUERIES), QUERIES, (), *pixel_statistics(test))
    assert knn_accuracy(extract_features(Brightness(), own)[0], truth, bank, labels, 4, k=1) < 1
    with pytest.raises(ValueError, match="no mean and std: pass the preprocessing of the training"):
        extract_features(Brightness(), test)
    evaluator = Evaluator(train, test, [KNN(k=1, also=())], random_encoder=RawPixels())
    assert evaluator(Brightness()).values["trained"]["knn"] == 1


def test_classes_are_matched_by_name():
    train = ArrayData(bright(BANK), BANK, ("a", "b", "c", "d"), (0.5,), (0.5,))
    test = ArrayData(bright(QUERIES), 3 - QUERIES, ("d", "c", "b", "a"))  # the same classes in another order
    evaluator = Evaluator(train, test, [KNN(k=1, also=())], random_encoder=RawPixels())
    assert evaluator(Brightness()).values["trained"]["knn"] == 1
    with pytest.raises(DataError, match="have no class 'e'"):
        unknown = ArrayData(bright(QUERIES), 3 - QUERIES, ("e", "c", "b", "a"))
        Evaluator(train, unknown, [KNN(k=1, also=())], random_encoder=RawPixels())


@pytest.mark.filterwarnings("ignore:class ids from")
def test_sparse_class_ids_are_matched():
    ids = np.array([7, 300, 2_000_000, 2**62])
    train = ArrayData(bright(BANK), ids[BANK], (), (0.5,), (0.5,))
    test = ArrayData(bright(QUERIES), ids[QUERIES])
    evaluator = Evaluator(train, test, [KNN(k=1, also=())], random_encoder=RawPixels())
    assert evaluator(Brightness()).values["trained"]["knn"] == 1
    assert train.labels.max() == 3


def test_non_finite_features_name_the_image(tmp_path):
    class Broken(Brightness):
        def forward(self, x):
            features = super().forward(x)
            return torch.where(x.amax(dim=(1, 2, 3)).unsqueeze(1) > 0.9, torch.nan, features)

    data = ArrayData(bright(np.array([0, 1, 3, 3])), mean=(0.0,), std=(1.0,))
    with pytest.raises(DataError, match="2: the encoder returns NaN or infinity"):
        extract_features(Broken(), data)
    with pytest.raises(DataError, match="2: the encoder returns NaN or infinity"):
        embed(Broken(), data, tmp_path / "e.npz", progress=False)


def test_embeddings_equal_extracted_features(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (9, 12, 12, 3), dtype=np.uint8)
    inputs = Preprocessing(size=8, resize=9, mean=(0.4,) * 3, std=(0.3,) * 3)
    data = ArrayData(images)
    features, _ = extract_features(Brightness(), data, preprocessing=inputs)
    embed(Brightness(), data, tmp_path / "e.npz", preprocessing=inputs, batch_size=4, progress=False)
    table = EmbeddingTable.load(tmp_path / "e.npz")
    np.testing.assert_allclose(table.embeddings, features.numpy(), rtol=1e-6)
    direct = Brightness()(inputs(torch.from_numpy(images).permute(0, 3, 1, 2)))
    torch.testing.assert_close(features, direct)


@pytest.mark.filterwarnings("ignore:only the training images have class names, so classes are matched by number")
def test_classes_matched_by_number_would_all_be_wrong():
    train = ArrayData(bright(BANK), BANK, ("a", "b", "c", "d"), (0.5,), (0.5,))
    names = ("d", "c", "b", "a")
    protocols = [KNN(k=1, also=())]
    by_name = ArrayData(bright(QUERIES), 3 - QUERIES, names)
    by_number = ArrayData(bright(QUERIES), 3 - QUERIES)
    for test, accuracy in ((by_name, 1), (by_number, 0)):
        evaluator = Evaluator(train, test, protocols, random_encoder=RawPixels())
        assert evaluator(Brightness())["trained"]["knn"] == accuracy
        assert evaluator.settings["classes"] == (["a", "b", "c", "d"] if accuracy else [])
    assert by_name.labels.tolist() == (3 - QUERIES).tolist() and by_name.class_names == names


def test_evaluator_and_subject_use_the_given_preprocessing():
    """The bank's own statistics are not needed then."""
    inputs = Preprocessing(size=4, resize=6, mean=(0.5,), std=(0.25,))
    train, test = ArrayData(bright(BANK), BANK), ArrayData(bright(QUERIES), QUERIES)
    with pytest.raises(ValueError, match="ArrayData has no mean and std: pass the preprocessing"):
        Evaluator(train, test, [KNN(k=1, also=())], random_encoder=RawPixels())
    evaluator = Evaluator(train, test, [KNN(k=1, also=())], random_encoder=RawPixels(), preprocessing=inputs)
    assert (evaluator.size, evaluator.resize) == (4, 6) and evaluator.limited(8).preprocessing == inputs
    assert evaluator(Brightness())["trained"]["knn"] == 1
    subject = EvaluatedEncoder("x", RawPixels(), train, test, preprocessing=inputs)
    assert subject.inputs is inputs and subject.features.queries.shape == (20, 16)
    level = (LEVELS[QUERIES] / 255 - 0.5) / 0.25
    np.testing.assert_allclose(subject.features.queries[:, 0].numpy(), level, rtol=1e-5)
    statistics = pixel_statistics(train)
    own = EvaluatedEncoder("x", RawPixels(), ArrayData(bright(BANK), BANK, (), *statistics), test, size=4)
    assert own.inputs == Preprocessing(size=4, resize=5, mean=statistics[0], std=statistics[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_all_ways_to_features_are_equal(tmp_path, workers):
    """`extract_features`, `embed`, and an exported backbone on tensors and on PIL images, of mixed files."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[274] = 6  # to display, rotate by 90 degrees clockwise
    Image.fromarray(rng.integers(0, 256, (30, 50, 3), dtype=np.uint8)).save(tmp_path / "0.png", exif=exif)
    Image.fromarray(rng.integers(0, 256, (30, 30), dtype=np.uint8)).save(tmp_path / "1.png")
    Image.fromarray(rng.integers(0, 256, (12, 200, 3), dtype=np.uint8)).save(tmp_path / "2.jpg")
    Image.fromarray(rng.integers(0, 256, (16, 16, 4), dtype=np.uint8)).save(tmp_path / "3.png")
    data, encoder = FolderData(tmp_path), TinyBackbone(3).eval()
    inputs = Preprocessing.of(data, 16)
    options = {"preprocessing": inputs, "workers": workers}
    features, _ = extract_features(encoder, data, **options)
    embed(encoder, data, tmp_path / "e.npz", progress=False, **options)
    np.testing.assert_array_equal(EmbeddingTable.load(tmp_path / "e.npz").embeddings, features.numpy())
    backbone = TrainedBackbone(encoder, inputs)
    pictures = [Image.open(data.path(index)) for index in range(4)]
    torch.testing.assert_close(backbone(backbone.preprocess(pictures)), features, rtol=1e-5, atol=1e-6)
    for index, feature in enumerate(features):
        raw = data.read(index)[None]
        torch.testing.assert_close(backbone(backbone.preprocess(raw))[0], feature, rtol=1e-5, atol=1e-6)
        arranged = inputs.arrange(data.read(index))
        torch.testing.assert_close(encode(encoder, arranged[None], inputs)[0], feature, rtol=1e-5, atol=1e-6)


def test_float_and_uint8_images_give_the_same_features():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 12, 12), dtype=np.uint8)
    encoder = TinyBackbone().eval()
    inputs = Preprocessing(size=12, resize=12, mean=(0.4,), std=(0.3,))
    expected, _ = extract_features(encoder, ArrayData(pixels), preprocessing=inputs)
    found, _ = extract_features(encoder, ArrayData((pixels / 255).astype(np.float32)), preprocessing=inputs)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [8, 6])
def test_float_images_out_of_range_are_refused(size):
    """At another size, bicubic interpolation would have clamped them to white."""

    class Unscaled(ArrayData):
        def gather(self, indices):
            return super().gather(indices).float()

    data = Unscaled(bright(BANK), BANK, (), (0.5,), (0.25,))
    with pytest.raises(ValueError, match=r"float images must be in \[0, 1\], got 20 to 240"):
        extract_features(RawPixels(), data, size=size)


@pytest.mark.parametrize(
    ("encoder", "got"),
    [
        (lambda x: x, r"got \(40, 1, 8, 8\)"),
        (lambda x: x.mean(), r"got \(\)"),
        (lambda x: x[1:].flatten(1), r"got \(39, 64\)"),
        (lambda x: {"features": x}, "got dict"),
    ],
)
def test_encoder_without_one_row_per_image_is_refused(encoder, got):
    class Wrong(torch.nn.Module):
        forward = staticmethod(encoder)

    with pytest.raises(ValueError, match=r"must return features \(N, D\) of 40 images, " + got):
        extract_features(Wrong(), ArrayData(bright(BANK), mean=(0.5,), std=(0.5,)))


def test_non_finite_features_of_views_name_the_image():
    class Broken(RawPixels):
        def forward(self, x):
            return super().forward(x) / (x.amax(dim=(1, 2, 3)).unsqueeze(1) < 0.9)

    data = ArrayData(bright(np.array([0, 1, 2, 3, 0])), mean=(0.0,), std=(1.0,))
    views = ViewPipeline([ViewConfig(size=8, count=2)], data.mean, data.std)
    places = torch.tensor([0, 1, 3, 4])
    assert view_features(RawPixels(), data, views, 2, indices=places).shape == (4, 2, 64)
    with pytest.raises(DataError, match=r"^3: the encoder returns NaN or infinity"):
        view_features(Broken(), data, views, 2, indices=places)


def test_check_features_counts_positions_in_the_data_set():
    data = ArrayData(bright(BANK))
    features = torch.zeros(3, 2)
    check_features(features, data, torch.tensor([5, 7, 9]))
    features[1, 1], features[2, 0] = float("-inf"), float("nan")
    with pytest.raises(DataError, match=r"^7: the encoder returns NaN or infinity"):
        check_features(features, data, torch.tensor([5, 7, 9]))
    check_features(torch.empty(0, 2), data, torch.tensor([], dtype=torch.int64))


def test_a_missing_stderr_is_no_error(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    features, _ = extract_features(RawPixels(), ArrayData(bright(BANK), mean=(0.5,), std=(0.25,)))
    assert features.shape == (40, 64)


def test_an_image_that_cannot_be_arranged_is_named(tmp_path):
    for index in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{index}.png")
    data = FolderData(tmp_path)
    data.read = lambda index: torch.full((3, 8, 8), float(index))  # float images end at 1
    with pytest.raises(DataError, match=r"2\.png: float images must be in \[0, 1\], got 2 to 2"):
        extract_features(RawPixels(), data, size=8, workers=0)


@pytest.mark.parametrize("sizes", [{"size": 8}, {"resize": 9}])
def test_preprocessing_and_a_size_are_refused(sizes, tmp_path):
    data = ArrayData(bright(BANK), mean=(0.5,), std=(0.25,))
    inputs = Preprocessing.of(data, 8)
    with pytest.raises(ValueError, match=r"preprocessing or size and resize, not both; preprocessing\.at\(size\)"):
        extract_features(RawPixels(), data, preprocessing=inputs, **sizes)
    with pytest.raises(ValueError, match="not both"):
        embed(TinyBackbone(), data, tmp_path / "e.npz", preprocessing=inputs, **sizes)
