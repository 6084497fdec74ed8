"""An epoch of fine-tuning and an epoch of Keras `fit`, side by side in one run.

    python -m benchmarks.finetune PHOTOS.zip [--backbone B] [--blocks N] [--epochs N] [--turns N]

The same photos, split, starting weights and layers are tuned on both sides, BatchNorm frozen on
both, with AdamW that spares biases, and the same rate, schedule and label smoothing; both have
oneDNN. `fit` has the decoded photos in memory and goes through the whole network; this project goes
through the tail, on boundaries that it has computed before (which is reported apart, and costs a
pass a photo and view, once). An epoch includes the measures on the photos set aside, here also
those on 256 training photos. The first epoch of each side, in which TensorFlow compiles, is left
out. Both sides take turns; the figure is the ratio of the medians. Needs three classes or more.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlcore import backbones, boundary, dataset, finetune, hardware, head, looking
from tlcore.backbones import cuts
from tlcore.backbones.build import EMBEDDING, build
from tlcore.config import DEFAULT_BACKBONE, TailConfig, TrainConfig
from tlcore.decoded import DecodedCache
from tlcore.features import PLAIN_VIEW
from tlcore.finetune import TailData
from tlcore.head import HeadData, Layers
from tlcore.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """What both sides start from."""

    options: argparse.Namespace
    spec: backbones.BackboneSpec
    weights: Path
    data: TailData
    pixels: np.ndarray
    layers: Layers
    head_accuracy: float


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """Seconds of each epoch but the first, and validation accuracies."""

    seconds: list[float]
    accuracies: list[float]


def main() -> None:
    """Runs both sides in turns and prints a table."""
    hardware.configure_libraries(log_level=3)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE)
    parser.add_argument("--blocks", type=int, default=4, help="4 is the first cut at 7 x 7")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--turns", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        setting = _set_up(options, Workspace(Path(folder)))
        ours, theirs = [], []
        for _ in range(options.turns):
            ours.append(_ours(setting))
            theirs.append(_fit(setting))
    _print(setting, ours, theirs)


def _set_up(options: argparse.Namespace, workspace: Workspace) -> _Setting:
    spec = backbones.find(options.backbone)
    weights = backbones.locate(spec)
    manifest = dataset.ingest(options.photos, workspace, decode_size=spec.size)
    photos = (*manifest.subset("train"), *manifest.subset("val"))
    keys = [photo.sha256 for photo in photos]
    load = looking.loader(workspace, manifest.id, DecodedCache(workspace, spec.size))
    if len(manifest.classes) < 3:
        raise SystemExit("Two classes end in one sigmoid here and in a softmax in fit: take more.")
    data = _tail_data(options, spec, weights, workspace, manifest, keys, load)
    embeddings = looking.look(
        keys,
        backbones.convert(spec, weights, workspace),
        workspace,
        load,
        on_progress=lambda *_: None,
        should_stop=lambda: False,
    )
    assert embeddings is not None
    x = embeddings.embeddings
    learned = HeadData(
        train_x=x[data.train],
        train_y=data.labels[data.train],
        val_x=x[data.val],
        val_y=data.labels[data.val],
        classes=data.classes,
    )
    trained = head.train(learned, TrainConfig(), on_epoch=lambda _: None, should_stop=lambda: False)
    assert trained is not None
    said = head.probabilities(learned.val_x, trained.layers).argmax(axis=1)
    return _Setting(
        options=options,
        spec=spec,
        weights=weights,
        data=data,
        pixels=np.stack([load(key) for key in keys]),
        layers=trained.layers,
        head_accuracy=float((said == learned.val_y).mean()),
    )


def _tail_data(
    options: argparse.Namespace,
    spec: backbones.BackboneSpec,
    weights: Path,
    workspace: Workspace,
    manifest: dataset.Manifest,
    keys: list[str],
    load: Any,
) -> TailData:
    file = cuts.boundary_file(spec, weights, workspace, options.blocks)
    store = boundary.BoundaryStore(workspace, file.space, file.shape)
    start = time.perf_counter()
    computed = boundary.compute(keys, PLAIN_VIEW, load, lambda: cuts.Front(file.path), store)
    assert computed is not None
    rate = computed.misses / (time.perf_counter() - start)
    print(f"boundaries {file.shape}: {computed.misses} photos, {rate:.0f} photos/s, once a view")
    index = {label: number for number, label in enumerate(manifest.classes)}
    photos = (*manifest.subset("train"), *manifest.subset("val"))
    count = len(manifest.subset("train"))
    return TailData(
        source=boundary.StoredSource([computed.rows]),
        labels=np.array([index[photo.label] for photo in photos]),
        train=np.arange(count),
        val=np.arange(count, len(photos)),
        classes=len(manifest.classes),
    )


def _config(setting: _Setting) -> TrainConfig:
    tail = TailConfig(blocks=setting.options.blocks, epochs=setting.options.epochs, decay=1.0)
    return TrainConfig(mode="finetune", backbone=setting.spec.name, tail=tail)


def _ours(setting: _Setting) -> _Measured:
    model = build(setting.spec, setting.weights)
    _, tail = cuts.split(model, cuts.cut_for(model, setting.options.blocks))
    times, accuracies = [time.perf_counter()], []

    def on_epoch(event: Any) -> None:
        times.append(time.perf_counter())
        accuracies.append(event.val_accuracy)

    finetune.train(
        tail,
        setting.layers,
        setting.data,
        _config(setting),
        depths={},
        on_epoch=on_epoch,
        should_stop=lambda: False,
    )
    return _Measured(seconds=list(np.diff(times)[1:]), accuracies=accuracies)


def _fit(setting: _Setting) -> _Measured:
    import keras

    backbone = build(setting.spec, setting.weights)
    cut = cuts.cut_for(backbone, setting.options.blocks)
    _, tail = cuts.split(backbone, cut)
    for layer in tail.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    ((kernel, bias),) = setting.layers
    dense = keras.layers.Dense(kernel.shape[1], activation="softmax")
    model = keras.Model(backbone.input, dense(backbone.get_layer(EMBEDDING).output))
    dense.set_weights([kernel, bias])
    data, config = setting.data, _config(setting).tail
    steps = config.epochs * -(-len(data.train) // config.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        steps - int(config.warmup * steps),
        warmup_target=config.learning_rate,
        warmup_steps=int(config.warmup * steps),
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    variables = model.trainable_variables
    optimizer.exclude_from_weight_decay([each for each in variables if len(each.shape) < 2])
    model.compile(
        optimizer,
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing),
        metrics=["accuracy"],
    )
    targets = np.eye(data.classes, dtype=np.float32)[data.labels]
    times = [time.perf_counter()]
    on_end = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: times.append(time.perf_counter())
    )
    history = model.fit(
        setting.pixels[data.train],
        targets[data.train],
        batch_size=config.batch_size,
        epochs=config.epochs,
        validation_data=(setting.pixels[data.val], targets[data.val]),
        callbacks=[on_end],
        verbose=0,
    )
    return _Measured(seconds=list(np.diff(times)[1:]), accuracies=history.history["val_accuracy"])


def _print(setting: _Setting, ours: list[_Measured], theirs: list[_Measured]) -> None:
    print(f"head alone: validation accuracy {setting.head_accuracy:.3f}")
    print("| | seconds an epoch | training photos/s | validation accuracy after the last epoch |")
    print("|---|---|---|---|")
    seconds = []
    for name, side in (("tlstudio", ours), ("Keras fit", theirs)):
        seconds.append(statistics.median(value for run in side for value in run.seconds))
        accuracy = statistics.mean(run.accuracies[-1] for run in side)
        rate = len(setting.data.train) / seconds[-1]
        print(f"| {name} | {seconds[-1]:.2f} | {rate:.0f} | {accuracy:.3f} |")
    print(f"an epoch is {seconds[1] / seconds[0]:.1f} times faster")


if __name__ == "__main__":
    main()
