"""Weights: fetched once, verified, refused when damaged, and meant the way Keras means them."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from filelock import FileLock

from tlcore import pipeline
from tlcore.backbones import BACKBONES, BackboneSpec, locate, weights
from tlcore.backbones.build import build
from tlcore.backbones.cuts import cuts, split
from tlcore.backbones.weights import DownloadStopped, is_ready, place
from tlcore.config import TrainConfig
from tlcore.errors import WeightsError
from tlcore.events import Event, StageMoved

if TYPE_CHECKING:
    import keras

# The smallest network; one input size is as good as another for its weights.
SMALL = dataclasses.replace(BACKBONES["mobilenet_025"], input_size=32)


@pytest.fixture(autouse=True)
def _own_keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))


def _keras_network(spec: BackboneSpec) -> keras.Model:
    """Builds the network of a row as Keras offers it, without scaling, with random weights."""
    import keras

    keras.utils.set_random_seed(1)
    width = {"alpha": spec.alpha} if spec.alpha != 1 else {}
    return getattr(keras.applications, spec.application)(
        input_shape=(*spec.size, 3), include_top=False, weights=None, **width
    )


def _save_as_published(network: keras.Model, path: Path) -> Path:
    """Writes the older kind of H5 file, in which Keras publishes its weights."""
    import h5py

    layers = [layer for layer in network.layers if layer.weights]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        for layer in layers:
            group = file.create_group(layer.name)
            variables = (*layer.trainable_weights, *layer.non_trainable_weights)
            names = [f"{layer.name}/{place}" for place in range(len(variables))]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, variable in zip(names, variables, strict=True):
                group[name] = variable.numpy()
    return path


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("published") / "weights.h5"
    return _save_as_published(_keras_network(SMALL), path).read_bytes()


Serve = Callable[[bytes], BackboneSpec]


@pytest.fixture
def serve(serve_bytes: Callable[..., str]) -> Serve:
    """Returns a row whose weights are served on this computer."""

    def row(data: bytes) -> BackboneSpec:
        url = serve_bytes(data, {"Content-Length": str(len(data))})
        return dataclasses.replace(SMALL, url=f"{url}/weights.h5")

    return row


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_download_is_verified_kept_and_not_fetched_again(
    serve: Serve, published: bytes, tmp_path: Path
) -> None:
    digest = hashlib.md5(published).hexdigest()
    spec = dataclasses.replace(serve(published), digest=digest)
    assert not is_ready(spec)
    steps: list[tuple[int, int]] = []
    first = locate(spec, on_progress=lambda done, total: steps.append((done, total)))
    assert first == tmp_path / "models" / "weights.h5"
    assert first.read_bytes() == published
    assert is_ready(spec)
    assert steps[-1] == (len(published), len(published))
    assert steps == sorted(steps)
    assert {total for _, total in steps} == {len(published)}
    fetched: list[int] = []
    assert locate(spec, on_progress=lambda done, total: fetched.append(done)) == first
    assert fetched == []


def _put(spec: BackboneSpec, data: bytes) -> Path:
    """Puts a file where Keras keeps the weights of a network, as Keras or a person does."""
    path = place(spec)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_file_that_somebody_put_there_is_verified_once(
    published: bytes, closed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.md5(published).hexdigest()
    spec = dataclasses.replace(SMALL, url=f"{closed_url}/weights.h5", digest=digest)
    path = _put(spec, published)
    assert is_ready(spec)
    assert locate(spec) == path
    monkeypatch.setattr(weights, "_other_hash", lambda spec, file: pytest.fail("hashed again"))
    assert locate(spec) == path


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_half_written_file_is_not_ready_and_is_fetched_anew(
    share: float, serve: Serve, published: bytes
) -> None:
    spec = dataclasses.replace(serve(published), digest=hashlib.md5(published).hexdigest())
    path = _put(spec, published[: int(share * len(published))])
    assert is_ready(spec) == (share > 0.9)  # the last part holds no figures: only its hash tells
    assert locate(spec) == path
    assert path.read_bytes() == published
    assert is_ready(spec)


def test_a_file_that_was_changed_after_it_was_verified_is_fetched_anew(
    serve: Serve, published: bytes
) -> None:
    spec = dataclasses.replace(serve(published), digest=hashlib.md5(published).hexdigest())
    path = locate(spec)
    path.write_bytes(published[:-1] + b"x" + published[-1:])
    assert locate(spec).read_bytes() == published


def test_a_damaged_file_without_a_network_is_an_error_that_names_it(
    published: bytes, closed_url: str
) -> None:
    spec = dataclasses.replace(SMALL, url=f"{closed_url}/weights.h5", digest="0" * 32)
    path = _put(spec, published)
    with pytest.raises(WeightsError) as caught:
        locate(spec)
    assert caught.value.message == (
        f"The weights of MobileNet (0.25) in {path} are damaged and could not be downloaded "
        "(no network)."
    )
    assert path.read_bytes() == published


def test_a_file_that_does_not_fit_is_named_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "cut.h5"
    path.write_bytes(b"no weights")
    with pytest.raises(WeightsError) as caught:
        build(SMALL, path)
    assert caught.value.message.startswith(f"The weights file {path} does not fit mobilenet_025")


def test_a_run_tells_how_many_megabytes_of_a_download_came_and_when_it_is_done(
    serve: Serve,
) -> None:
    said: list[Event] = []
    spec = dataclasses.replace(serve(bytes(30_000_000)), digest="0" * 32)
    with pytest.raises(WeightsError):
        pipeline._weights(spec, TrainConfig(), said.append, lambda: False)
    moves = [event for event in said if isinstance(event, StageMoved)]
    assert {move.stage for move in moves} == {"prepare"}
    assert (moves[-1].done, moves[-1].total) == (0, 0)
    told = [move.done for move in moves[:-1]]
    assert told == sorted(told)
    assert (told[0], told[-1], {move.total for move in moves[:-1]}) == (1, 30, {30})
    assert len(told) <= 99


def test_a_download_with_another_hash_is_refused_and_not_kept(
    serve: Serve, published: bytes, tmp_path: Path
) -> None:
    spec = dataclasses.replace(serve(published), digest="0" * 32)
    found = hashlib.md5(published).hexdigest()
    with pytest.raises(WeightsError, match=f"damaged: its MD5 is {found}, published is 000"):
        locate(spec)
    spec = dataclasses.replace(spec, digest="0" * 64)
    found = hashlib.sha256(published).hexdigest()
    with pytest.raises(WeightsError, match=f"damaged: its SHA-256 is {found}, published is 000"):
        locate(spec)
    assert _left(tmp_path / "models") == []


def test_a_download_that_is_no_weights_file_is_refused_and_not_kept(
    serve: Serve, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=r"MobileNet \(0\.25\) were downloaded but are damaged"):
        locate(serve(b"<html>Please log in</html>"))
    assert _left(tmp_path / "models") == []


def test_a_download_with_tensors_of_other_shapes_is_refused_and_not_kept(
    serve: Serve, published: bytes, tmp_path: Path
) -> None:
    spec = dataclasses.replace(serve(published), alpha=0.5)
    with pytest.raises(WeightsError, match="135 tensors where 135 belong, .* from number 1 on"):
        locate(spec)
    assert _left(tmp_path / "models") == []


def test_names_that_are_too_many_for_one_attribute_are_read_in_pieces(
    serve: Serve, published: bytes, tmp_path: Path
) -> None:
    import h5py

    path = tmp_path / "pieces.h5"
    path.write_bytes(published)
    with h5py.File(path, "r+") as file:
        names = list(file.attrs.pop("layer_names"))
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:9], names[9:]
    assert locate(serve(path.read_bytes())).is_file()


def test_a_stopped_download_leaves_nothing(serve: Serve, published: bytes, tmp_path: Path) -> None:
    steps: list[int] = []
    spec = serve(published)
    with pytest.raises(DownloadStopped, match=r"The download of MobileNet \(0\.25\) was stopped"):
        locate(spec, on_progress=lambda done, total: steps.append(done), should_stop=lambda: True)
    assert len(steps) == 1
    assert _left(tmp_path / "models") == []


def test_who_waits_for_the_download_of_another_process_can_stop(
    serve: Serve, published: bytes, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    with FileLock(tmp_path / "models" / "weights.lock"), pytest.raises(DownloadStopped):
        locate(serve(published), should_stop=lambda: True)


def test_two_at_once_fetch_one_file(serve: Serve, published: bytes) -> None:
    spec = serve(published)
    fetched: list[int] = []
    start = threading.Barrier(2)

    def fetch(_: int) -> Path:
        start.wait()
        return locate(spec, on_progress=lambda done, total: fetched.append(done))

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(fetch, range(2))
    assert one == other
    assert one.read_bytes() == published
    assert fetched == sorted(set(fetched))


@pytest.mark.parametrize("name", ["nasnet_mobile", "nasnet_large"])
def test_a_file_that_keras_itself_fetched_is_found(name: str, tmp_path: Path) -> None:
    digest = hashlib.md5(b"here").hexdigest()
    spec = dataclasses.replace(BACKBONES[name], parameters=1, digest=digest)
    path = tmp_path / "models" / f"{name}_no_top.h5"
    path.parent.mkdir()
    path.write_bytes(b"here")
    assert is_ready(spec)
    assert locate(spec) == path


def test_without_a_network_the_error_names_the_file_its_place_and_the_bundled_backbones(
    closed_url: str, tmp_path: Path
) -> None:
    spec = dataclasses.replace(SMALL, url=f"{closed_url}/{SMALL.file}")
    with pytest.raises(WeightsError, match=r"could not be downloaded \(no network\)") as caught:
        locate(spec)
    assert caught.value.hint == (
        f"Put {SMALL.file} into {tmp_path / 'models'}, or use EfficientNet-Lite0, "
        "EfficientNet-Lite1, EfficientNet-Lite2, which need no download."
    )
    assert not is_ready(spec)
    assert not list((tmp_path / "models").glob("*.h5"))


CUT_DOWNLOADS = {
    "length": (b"half", {"Content-Length": "8"}),
    "chunks": (b"8\r\nhalf", {"Transfer-Encoding": "chunked"}),
}


@pytest.mark.parametrize(("data", "headers"), CUT_DOWNLOADS.values(), ids=CUT_DOWNLOADS)
def test_a_cut_download_says_so_and_leaves_no_file(
    data: bytes,
    headers: dict[str, str],
    serve_bytes: Callable[..., str],
    tmp_path: Path,
) -> None:
    spec = dataclasses.replace(SMALL, url=f"{serve_bytes(data, headers)}/weights.h5")
    with pytest.raises(WeightsError, match=r"could not be downloaded \(.*cut off after"):
        locate(spec)
    assert [path.suffix for path in (tmp_path / "models").iterdir()] in ([], [".lock"])


# What the figures mean


def _answers(network: keras.Model, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(network(pixels, training=False))


def _assert_like_keras(spec: BackboneSpec, theirs: keras.Model, weights: Path) -> keras.Model:
    """Builds a network from its weights file and compares it; returns it."""
    module = importlib.import_module(
        f"keras.applications.{spec.name if spec.family == 'vgg' else spec.family}"
    )
    pixels = _pixels(spec)
    expected = _answers(theirs, module.preprocess_input(pixels.copy()))
    model = build(spec, weights)
    found = model(pixels, training=False)
    # Random weights let the figures fade away from layer to layer.
    scale = float(np.abs(expected).max())
    assert scale > 0
    np.testing.assert_allclose(found["feature_map"] / scale, expected / scale, atol=1e-4)
    np.testing.assert_allclose(
        found["embedding"] / scale, expected.mean(axis=(1, 2)) / scale, atol=1e-4
    )
    return model


def _pixels(spec: BackboneSpec) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, *spec.size, 3)).astype(np.float32)


def test_vgg_reads_rgb_as_keras_reads_bgr(tmp_path: Path) -> None:
    spec = dataclasses.replace(BACKBONES["vgg16"], input_size=32)
    theirs = _keras_network(spec)
    _assert_like_keras(spec, theirs, _save_as_published(theirs, tmp_path / "weights.h5"))


def test_efficientnet_normalises_as_keras_does_when_it_downloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras adds a layer for its own download that it leaves out for a file that it is given."""
    import keras
    from keras.src.applications import efficientnet

    spec = dataclasses.replace(BACKBONES["efficientnet_b0"], input_size=32)
    source = _keras_network(spec)
    (normalization,) = (
        layer for layer in source.layers if isinstance(layer, keras.layers.Normalization)
    )
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalization.set_weights([mean, deviation, np.array(0)])
    weights = _save_as_published(source, tmp_path / "weights.h5")

    monkeypatch.setattr(efficientnet.file_utils, "get_file", lambda *_, **__: str(weights))
    theirs = keras.applications.EfficientNetB0(input_shape=(32, 32, 3), include_top=False)
    _assert_like_keras(spec, theirs, weights)

    ours = build(spec, None).get_layer(index=2)  # random weights are fed the same
    pixels = np.array([[[[0.0, 0.5, 1.0]]]], np.float32)
    np.testing.assert_allclose(ours(pixels), (pixels - mean) / deviation, rtol=1e-5)


# The least input of the networks that do not work at 32 pixels, as Keras states it.
LEAST = {"inception_v3": 75, "inception_resnet_v2": 75, "xception": 71}


@pytest.mark.exhaustive
@pytest.mark.parametrize("row", BACKBONES.values(), ids=BACKBONES)
def test_every_network_answers_as_keras_does_and_is_the_sum_of_its_halves_at_every_cut(
    row: BackboneSpec, tmp_path: Path
) -> None:
    import keras

    keras.backend.clear_session()
    spec = dataclasses.replace(row, input_size=LEAST.get(row.family, 32))
    if spec.origin == "package":
        model = build(spec, locate(spec))  # Keras has no such network
    else:
        theirs = _keras_network(spec)
        _disturb(theirs)
        model = _assert_like_keras(spec, theirs, _save_as_published(theirs, tmp_path / "all.h5"))
    whole = model(_pixels(spec), training=False)
    places = cuts(model)
    assert places
    for cut in places:
        front, tail = split(model, cut)
        halves = tail(front(_pixels(spec), training=False)["boundary"], training=False)
        assert sorted(halves) == sorted(whole)
        for name, values in halves.items():
            scale = float(np.abs(whole[name]).max())
            np.testing.assert_allclose(values / scale, whole[name] / scale, atol=1e-5)


def _disturb(network: keras.Model) -> None:
    """Gives normalisation layers statistics of their own, as trained networks have."""
    rng = np.random.default_rng(1)
    for layer in network.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
