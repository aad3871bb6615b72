"""Helpers: arrays, sequences, windows, splits, images, files from the net."""

import http.server
import io
import os
import tarfile
import threading
import zipfile

import numpy as np
import pytest

from narae import utils
from narae.training.data import make_dataset
from narae.utils.files import atomic_path
from narae.utils.get_file import hash_file

# --- arrays


@pytest.mark.parametrize("x", [[0, 2, 1], [[0], [2], [1]], np.uint8([0, 2, 1]), [0.0, 2.0, 1.0]])
def test_to_categorical(x):
    y = utils.to_categorical(x)
    np.testing.assert_array_equal(y, np.eye(3)[[0, 2, 1]])
    assert y.dtype == "float32"


def test_to_categorical_shapes():
    assert utils.to_categorical([[0, 1], [2, 0]], 5).shape == (2, 2, 5)
    assert utils.to_categorical([], 3).shape == (0, 3)
    assert utils.to_categorical(1, 3).tolist() == [0, 1, 0]


@pytest.mark.parametrize("x, n", [([3], 3), ([-1], 3), ([0.5], None), (["a"], None)])
def test_to_categorical_range(x, n):
    with pytest.raises(ValueError, match="to_categorical: expected integers"):
        utils.to_categorical(x, n)


def test_normalize():
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(utils.normalize(x), [[0.6, 0.8], [0, 0]])
    np.testing.assert_allclose(utils.normalize(x, axis=0), [[1, 1], [0, 0]])
    np.testing.assert_allclose(utils.normalize([[1, 3]], order=1), [[0.25, 0.75]])
    assert x[0, 0] == 3.0


@pytest.mark.parametrize(
    "kwargs, expected",
    [({}, [[0, 0, 1], [2, 3, 4], [0, 5, 6]]),
     ({"padding": "post"}, [[1, 0, 0], [2, 3, 4], [5, 6, 0]]),
     ({"maxlen": 2}, [[0, 1], [3, 4], [5, 6]]),
     ({"maxlen": 2, "truncating": "post"}, [[0, 1], [2, 3], [5, 6]]),
     ({"maxlen": 2, "value": 9}, [[9, 1], [3, 4], [5, 6]]), ({"maxlen": 0}, [[], [], []])],
)  # fmt: skip
def test_pad_sequences(kwargs, expected):
    padded = utils.pad_sequences([[1], [2, 3, 4], (5, 6)], **kwargs)
    np.testing.assert_array_equal(padded, expected)
    assert padded.dtype == "int32"


def test_pad_sequences_of_vectors_and_strings():
    padded = utils.pad_sequences([np.ones((1, 2)), [], np.ones((3, 2))], dtype="float32")
    assert padded.shape == (3, 3, 2) and padded.sum() == 8
    strings = utils.pad_sequences([["a"], ["b", "c"]], dtype=object, value="")
    assert strings.tolist() == [["", "a"], ["b", "c"]]
    assert utils.pad_sequences([]).shape == (0, 0)


@pytest.mark.parametrize(
    "args, kwargs, message",
    [([[[1]]], {"padding": "left"}, "padding='left'"), ([[[1]]], {"truncating": "x"}, "truncating"),
     ([5], {}, "list of sequences"), ([[1, 2]], {}, r"Received: sequences\[0\]=1"),
     ([[["a"]]], {"value": "x"}, "dtype=object"),
     ([[np.ones((1, 2)), np.ones((1, 3))]], {}, r"entries of shape \(3,\) in sequences\[1\]")],
)  # fmt: skip
def test_wrong_sequences(args, kwargs, message):
    with pytest.raises(ValueError, match=message):
        utils.pad_sequences(*args, **kwargs)


# --- windows


def windows(*args, **kwargs):
    dataset = utils.timeseries_dataset_from_array(*args, **kwargs)
    return [dataset[i] for i in range(len(dataset))]


def test_timeseries():
    data, targets = np.arange(10), np.arange(10) + 100
    [(x, y)] = windows(data, targets, sequence_length=4)
    assert x.shape == (7, 4) and x[2].tolist() == [2, 3, 4, 5] and y[2] == 102
    (x0, _), (x1, y1) = windows(data, targets, 4, batch_size=4)
    assert len(x0) == 4 and len(x1) == 3 and y1.tolist() == [104, 105, 106]
    [x] = windows(data, None, 3, sampling_rate=2, sequence_stride=3)
    assert x.tolist() == [[0, 2, 4], [3, 5, 7]]
    [(x, y)] = windows(data, targets[:3], 4)
    assert len(x) == 3  # no more windows than targets
    [(x, y)] = windows(data, targets, 2, start_index=5, end_index=8)
    assert x.tolist() == [[5, 6], [6, 7]] and y.tolist() == [105, 106]
    first = windows(np.ones((5, 3)), None, 2, batch_size=None)[0]
    assert first.shape == (2, 3)


def test_timeseries_shuffles_once():
    def order(seed):
        dataset = utils.timeseries_dataset_from_array(
            np.arange(50), np.arange(50), 1, batch_size=8, shuffle=True, seed=seed
        )
        return [int(v) for _, y, _ in make_dataset(dataset).epoch() for v in y]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == list(range(50))


@pytest.mark.parametrize(
    "kwargs, message",
    [({"sequence_length": 0}, "sequence_length=0"), ({"sequence_length": 11}, "one window"),
     ({"sequence_length": 2, "sampling_rate": 2.5}, "sampling_rate=2.5"),
     ({"sequence_length": 2, "end_index": 11}, "end_index=11"),
     ({"sequence_length": 2, "start_index": 5, "end_index": 5}, "start_index=5"),
     ({"sequence_length": 2, "batch_size": 0}, "batch_size=0")],
)  # fmt: skip
def test_wrong_windows(kwargs, message):
    with pytest.raises(ValueError, match=message):
        utils.timeseries_dataset_from_array(np.arange(10), None, **kwargs)


# --- splits


@pytest.mark.parametrize(
    "sizes, left, right",
    [((0.7, None), 7, 3), ((None, 0.25), 8, 2), ((6, None), 6, 4), ((0.5, 0.2), 5, 2),
     ((4, 0.3), 4, 3)],
)  # fmt: skip
def test_split_dataset(sizes, left, right):
    x, y = np.arange(10), list(range(10))
    (x_left, y_left), (x_right, y_right) = utils.split_dataset((x, y), *sizes)
    assert x_left.tolist() == y_left.tolist() == list(range(left))
    assert x_right.tolist() == y_right.tolist() == list(range(left, left + right))


def test_split_dataset_kinds():
    left, right = utils.split_dataset({"a": np.arange(4)}, 0.5, shuffle=True, seed=3)
    assert sorted([*left["a"], *right["a"]]) == [0, 1, 2, 3]
    again, _ = utils.split_dataset({"a": np.arange(4)}, 0.5, shuffle=True, seed=3)
    np.testing.assert_array_equal(left["a"], again["a"])
    series = utils.timeseries_dataset_from_array(np.arange(10), None, 1, batch_size=1)
    left, right = utils.split_dataset(series, 0.8)
    assert len(left) == 8 and right[1].tolist() == [[9]]
    assert make_dataset(left).num_batches == 8


@pytest.mark.parametrize(
    "data, sizes, message",
    [(np.arange(4), (None, None), "left_size or right_size"),
     (np.arange(4), (1.5, None), "shares in"),
     (np.arange(4), (0.8, 0.8), "together"), (np.arange(4), (0.01, None), "both sides"),
     ((np.arange(4), np.arange(3)), (0.5, None), "one length"),
     (np.arange(4), (-1, None), "shares")],
)  # fmt: skip
def test_wrong_splits(data, sizes, message):
    with pytest.raises(ValueError, match=message):
        utils.split_dataset(data, *sizes)


# --- images


def test_images(tmp_path):
    pytest.importorskip("PIL")
    x = np.arange(2 * 3 * 3, dtype="float32").reshape(2, 3, 3) * 10
    image = utils.array_to_img(x, scale=False)
    assert image.size == (3, 2) and image.mode == "RGB"
    np.testing.assert_array_equal(utils.img_to_array(image), x)
    assert utils.img_to_array(image, "channels_first").shape == (3, 2, 3)
    assert utils.array_to_img(x.transpose(2, 0, 1), "channels_first").size == (3, 2)
    scaled = utils.img_to_array(utils.array_to_img(x - 50))
    assert scaled.min() == 0 and scaled.max() == 255
    path = tmp_path / "image.png"
    utils.save_img(path, x, scale=False)
    np.testing.assert_array_equal(utils.img_to_array(utils.load_img(path)), x)
    gray = utils.load_img(path, color_mode="grayscale", target_size=(4, 5))
    assert utils.img_to_array(gray, dtype="uint8").shape == (4, 5, 1)
    cut = utils.load_img(path, target_size=(2, 2), keep_aspect_ratio=True)
    assert cut.size == (2, 2)
    utils.save_img(tmp_path / "alpha.jpg", np.zeros((2, 2, 4)))


@pytest.mark.parametrize(
    "call, message",
    [(lambda: utils.array_to_img(np.ones((2, 2))), "3 axes"),
     (lambda: utils.array_to_img(np.ones((2, 2, 2))), "1, 3 or 4 channels"),
     (lambda: utils.array_to_img(np.ones((2, 2, 3)), "channels"), "data_format"),
     (lambda: utils.load_img("x.png", color_mode="cmyk"), "color_mode"),
     (lambda: utils.load_img("x.png", interpolation="x"), "interpolation"),
     (lambda: utils.img_to_array(np.ones(3)), "2 or 3 axes")],
)  # fmt: skip
def test_wrong_images(call, message):
    pytest.importorskip("PIL")
    with pytest.raises(ValueError, match=message):
        call()


# --- files


def test_atomic_path(tmp_path):
    path = tmp_path / "file"
    with atomic_path(path) as temporary, open(temporary, "w") as file:
        file.write("one")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary, open(temporary, "w") as file:
        file.write("two")
        raise RuntimeError
    assert path.read_text() == "one" and os.listdir(tmp_path) == ["file"]


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves the folder `served`; `cut` makes it break connections off."""
    monkeypatch.setenv("NARAE_HOME", str(tmp_path / "home"))
    (tmp_path / "served").mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        cut = False
        requests = 0

        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / "served"))

        def copyfile(self, source, outputfile):
            type(self).requests += 1
            outputfile.write(source.read()[: 5 if self.cut else None])

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        Handler.address = f"http://127.0.0.1:{http_server.server_address[1]}"
        Handler.folder = tmp_path / "served"
        Handler.cache = tmp_path / "home" / "datasets"
        yield Handler
        http_server.shutdown()


def test_get_file(server, capsys):
    (server.folder / "a.bin").write_bytes(b"0123456789" * 20000)
    path = utils.get_file(origin=server.address + "/a.bin")
    assert path == str(server.cache / "a.bin") and os.path.getsize(path) == 200000
    assert "Downloading data from http" in capsys.readouterr().out
    sha = hash_file(path)
    assert utils.get_file("a.bin", server.address + "/a.bin", file_hash=sha) == path
    assert utils.get_file("a.bin", server.address + "/a.bin", md5_hash=hash_file(path, "md5"))
    assert server.requests == 1  # from the cache
    with open(path, "a") as file:
        file.write("damage")
    with pytest.warns(UserWarning, match="does not have the expected hash"):
        utils.get_file("a.bin", server.address + "/a.bin", file_hash=sha)
    assert os.path.getsize(path) == 200000 and server.requests == 2
    utils.get_file("a.bin", server.address + "/a.bin", force_download=True)
    assert server.requests == 3
    assert os.listdir(server.cache) == ["a.bin"]


def test_get_file_leaves_nothing_broken(server):
    (server.folder / "a.bin").write_bytes(b"0123456789")
    with pytest.raises(ValueError, match="to have the hash"):
        utils.get_file(origin=server.address + "/a.bin", file_hash="0" * 64)
    server.cut = True
    with pytest.raises(OSError):
        utils.get_file(origin=server.address + "/a.bin")
    with pytest.raises(OSError, match="could not download .*: 404"):
        utils.get_file(origin=server.address + "/b.bin")
    with pytest.raises(OSError, match="could not download"):
        utils.get_file(origin="http://127.0.0.1:1/a.bin")
    assert os.listdir(server.cache) == []


@pytest.mark.parametrize("name", ["../a.bin", "", "a/../../b"])
def test_get_file_stays_in_the_cache(server, name):
    with pytest.raises(ValueError, match="inside the cache"):
        utils.get_file(name or None, origin=server.address + ("/" + name if name else "/?x"))
    with pytest.raises(ValueError, match="expected an address"):
        utils.get_file("a")


def test_get_file_unpacks(server):
    with tarfile.open(server.folder / "t.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("inner/a.txt")
        member.size = 2
        archive.addfile(member, io.BytesIO(b"hi"))
    with zipfile.ZipFile(server.folder / "z.zip", "w") as archive:
        archive.writestr("inner/a.txt", "hi")
    for name in ("t.tar.gz", "z.zip"):
        folder = utils.get_file(origin=f"{server.address}/{name}", extract=True)
        assert folder == str(server.cache / f"{name[0]}_extracted")
        with open(os.path.join(folder, "inner", "a.txt")) as file:
            assert file.read() == "hi"
    assert utils.get_file(origin=f"{server.address}/t.tar.gz", untar=True).endswith("t_extracted")
    (server.folder / "no.zip").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="expected a tar or zip archive"):
        utils.get_file(origin=f"{server.address}/no.zip", extract=True)


def test_get_file_refuses_archives_that_leave_their_folder(server):
    with tarfile.open(server.folder / "evil.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../evil.txt"))
    with pytest.raises((ValueError, tarfile.TarError)):
        utils.get_file(origin=server.address + "/evil.tar", extract=True)
    assert os.listdir(server.cache) == ["evil.tar"]
