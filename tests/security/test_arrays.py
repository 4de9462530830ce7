"""Tests that an array with a wrong header is refused and allocates no memory."""

from __future__ import annotations

import struct
import zipfile

import pytest

from ssl_lib import DataError
from ssl_lib.data import arrays
from tests.security.conftest import memory_limit

WRONG_SHAPES = [
    *("(1000000000000, 28, 28)", f"({2**62}, 4)", f"({2**63}, 1)", f"({2**64}, 28)", f"({2**40}, {2**40})"),
    *("(-1, 28, 28)", "((1,), 2)", "(1.5, 2)", "'a'", "(", "(" * 300, "-" * 4000 + "1", "__import__('os').abort()"),
]


def npy(shape, descr="'|u1'"):
    """A .npy file with 64 bytes of data and a given header."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64)


@pytest.mark.parametrize("kind", ["npy", "stored", "deflated"])
@pytest.mark.parametrize("shape", WRONG_SHAPES, ids=lambda text: text[:20])
def test_header_that_claims_too_much_is_refused(shape, kind, tmp_path):
    path = tmp_path / ("set.npy" if kind == "npy" else "set.npz")
    if kind == "npy":
        path.write_bytes(npy(shape))
    else:
        method = zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("images.npy", npy(shape))
    with memory_limit(), pytest.raises(DataError, match=r"set\.np[yz]"):
        arrays(path)


@pytest.mark.parametrize("descr", ["'|O'", "'|V99999999999'", "[('a', '|O')]", "'nonsense'", "('|u1', (10**15,))"])
def test_header_with_an_unsafe_type_is_refused(descr, tmp_path):
    (tmp_path / "set.npy").write_bytes(npy("(2, 3, 4)", descr))
    with memory_limit(), pytest.raises(DataError, match=r"set\.npy"):
        arrays(tmp_path / "set.npy")
