"""Classes of images in shards: the fields and JSON files that hold them in WebDataset's shards."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from ssl_lib.data import ShardData, webdataset
from ssl_lib.data.base import DataWarning
from ssl_lib.data.labels import matched
from ssl_lib.errors import DataError
from tests.data.shard_samples import encoded, write

IMAGE = encoded(np.zeros((4, 5, 3), dtype=np.uint8))


def shard(tmp_path, *members, name="a.tar"):
    """Writes a shard. The content of images is given here, other contents are texts or JSON values."""
    contents = []
    for path, *content in members:
        value = content[0] if content else IMAGE
        contents.append((path, value if isinstance(value, bytes) else json.dumps(value).encode()))
    write(tmp_path / name, contents)
    return str(tmp_path / name)


def samples(field, *values, image="image.png"):
    """Samples with one class each, before or behind the image, as `tar --sort=name` orders them."""
    members = []
    for index, value in enumerate(values):
        members += sorted([(f"{index}.{image}",), (f"{index}.{field}", value)], key=lambda member: member[0])
    return members


@pytest.mark.parametrize("image", ["png", "image.png", "z.png"])
@pytest.mark.parametrize(
    ("field", "values", "names"),
    [
        ("cls", (b"2", b"0\n", b" 1 "), ()),
        ("label.cls", (b"2", b"0", b"1"), ()),
        ("y.cls", (b"2", b"0", b"1"), ()),
        ("LABEL.CLS", (b"2", b"0", b"1"), ()),
        ("class", (b"2", b"0", b"1"), ()),
        ("label.txt", (b"2", b"0", b"1\r\n"), ()),
        ("label.txt", (b"elk", b"cat", "dög".encode()), ("cat", "dög", "elk")),
        ("class.txt", (b"7", b"cat", b"dog hot"), ("7", "cat", "dog hot")),
        ("cls.txt", (b"elk", b"cat", b"dog"), ("cat", "dog", "elk")),
        ("json", ({"label": 2, "id": 5}, {"label": 0, "id": 6}, {"label": 1, "id": 7}), ()),
        ("json", ({"a": [1], "Class": "elk"}, {"Class": "cat"}, {"Class": "dog"}), ("cat", "dog", "elk")),
        ("meta.json", ({"target": 2}, {"target": 0}, {"target": 1}), ()),
        ("label.json", (2, 0, 1), ()),
        ("label.json", ("elk", "cat", "dog"), ("cat", "dog", "elk")),
    ],
)
def test_classes_are_found_in_the_fields_of_webdataset(tmp_path, field, values, names, image):
    data = ShardData(shard(tmp_path, *samples(field, *values, image=image)))
    expected = sorted(names).index if names else int
    texts = [value.decode().strip() if isinstance(value, bytes) else value for value in values]
    if field.endswith("json"):
        texts = [next(v for k, v in x.items() if k not in ("a", "id")) if isinstance(x, dict) else x for x in values]
    assert data.class_names == names and data.labels.tolist() == [expected(text) for text in texts]


def test_names_with_dots_keep_their_own_classes(tmp_path):
    members = [("v1.0.7.png",), ("v1.0.7.label.cls", b"1"), ("v1.0.8.label.cls", b"0"), ("v1.0.8.png",)]
    assert ShardData(shard(tmp_path, *members)).labels.tolist() == [1, 0]


def test_cls_is_preferred_and_another_field_can_be_chosen(tmp_path):
    members = [member for index in range(2) for member in ((f"{index}.png",), (f"{index}.cls", b"%d" % index))]
    members += [(f"{index}.fine.cls", b"%d" % (7 - index)) for index in range(2)]
    members += [(f"{index}.json", {"label": 3, "kind": f"k{index}"}) for index in range(2)]
    path = shard(tmp_path, *members)
    assert ShardData(path).labels.tolist() == [0, 1]
    assert ShardData(path, label="fine.cls").labels.tolist() == [7, 6]
    assert webdataset(path, label="json:label").labels.tolist() == [3, 3]
    named = webdataset(path, label="json:kind", test_urls=path, split="test")
    assert named.labels.tolist() == [0, 1] and named.class_names == ("k0", "k1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ShardData(path, label="none").labels is None


def test_text_can_be_chosen_and_classes_of_other_shards_are_matched_by_name(tmp_path):
    train = ShardData(shard(tmp_path, *samples("txt", b"cat", b"dog", b"cat"), name="train.tar"), label="txt")
    test = ShardData(shard(tmp_path, *samples("label.txt", b"dog", b"dog"), name="test.tar"))
    assert train.labels.tolist() == [0, 1, 0] and test.labels.tolist() == [0, 0]
    assert matched(test, train).labels.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("members", "label", "message"),
    [
        (
            [*samples("fine.cls", b"0"), ("0.coarse.cls", b"1")],
            None,
            r"classes \(coarse\.cls, fine\.cls\): choose one with data\.label=fine\.cls, or",
        ),
        ([*samples("label.txt", b"a"), ("0.label.cls", b"1")], None, "several fields may hold the classes"),
        (samples("json", {"label": 1, "class": 2}), None, r"several keys may hold the class.*data\.label=json:label"),
        (samples("label.cls", b"dog"), None, r"0\.label\.cls must contain a class index, got b'dog'"),
        (samples("label.cls", b"-1"), None, r"must contain a class index in \[0, 2\*\*63\), got -1"),
        (samples("label.txt", b"0 .5 .5\n1 .2 .2\n"), None, r"must contain a class: an index, or a text of one line"),
        (samples("label.txt", b"x" * 101), None, r"at most 100 bytes"),
        (samples("label.txt", b""), None, r"label\.txt must contain a class"),
        (samples("label.json", {"label": [1, 2]}), None, r"must contain a class: .*got \[1, 2\]; data\.label chooses"),
        (samples("json", {"label": 0.5}), None, r"must contain a class: .*got 0\.5"),
        (samples("label.json", b"{"), None, r"is not a JSON file"),
        (samples("cls", b"1"), "y.cls", r"data\.label=y\.cls fits no sample .* the fields of its samples are cls"),
        (samples("json", {"id": 1, "kind": "a"}), "json:clas", r"label=json:clas fits no .* the keys are id, kind"),
        ([*samples("label.txt", b"a"), ("1.png",)], None, r"1 of 2 images have no label; add a \.cls file for each"),
        (samples("json", {"label": 1}, {"label": None}), None, r"1 of 2 images have no label"),
        ([*samples("txt", b"a"), ("0.mask.png",)], "txt", r"0\.txt belongs to several .*data\.field=image\.png$"),
        ([*samples("label.txt", b"a"), ("0.label.txt", b"b")], None, r"0\.label\.txt occurs twice"),
    ],
)
def test_unclear_classes_are_refused(tmp_path, members, label, message):
    with pytest.raises(DataError, match=message):
        ShardData(shard(tmp_path, *members), label=label)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (samples("json", {"id": 1, "kind": "a"}, {"id": 2}), r"If json \(with id, kind\) holds .* data\.label=json:id"),
        (
            samples("json", b"no JSON", b"\xff"),
            r"If json holds the classes, .* such as data\.label=json;",
        ),
        (samples("json", [1, 2]), r"If json holds the classes"),
        (samples("txt", b"a caption"), r"If txt holds the classes, set data\.label, such as data\.label=txt"),
    ],
)
def test_files_that_may_hold_classes_are_reported(tmp_path, members, message):
    with pytest.warns(DataWarning, match=message) as found:
        assert ShardData(shard(tmp_path, *members)).labels is None
    assert len(found) == 1


@pytest.mark.parametrize(
    ("fields", "suggested"),
    [
        (("image.png", "mask.png"), "image.png"),
        (("depth.png", "image.png"), "image.png"),
        (("jpg", "seg.png"), "jpg"),
        (("label.png", "png"), "png"),
        (("a.png", "img.jpg", "z.mask.png"), "img.jpg"),
        (("jpg", "png"), "jpg or png"),
        (("l.png", "r.png"), "l.png or r.png"),
        (("depth.png", "mask.png"), "depth.png or mask.png"),
    ],
)
def test_field_of_the_pictures_is_suggested_and_not_that_of_masks(tmp_path, fields, suggested):
    path = shard(tmp_path, *[(f"{index}.{field}",) for index in range(2) for field in fields])
    with pytest.warns(
        DataWarning, match=rf"choose one of each with data\.field={suggested}$".replace(".png", r"\.png")
    ):
        assert len(ShardData(path)) == 2 * len(fields)
