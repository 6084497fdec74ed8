"""The textbook recipe, as the Keras tutorials write it, timed.

A frozen backbone, global average pooling, one dense layer, Adam at 0.001, `ImageDataGenerator`
with the usual augmentation, batch 32. Started by `compare.py`, which gives both sides the same
photos, the same split and the same starting weights.

    python -m benchmarks.textbook PHOTOS BACKBONE.keras [--epochs N] [--no-augment]

PHOTOS has a folder `train` and a folder `val` with one folder per class each. BACKBONE.keras is
headless and pooled and takes RGB scaled to [-1, 1]. Prints one JSON object; imports are excluded.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

AUGMENTATION = {
    "rotation_range": 20,
    "width_shift_range": 0.2,
    "height_shift_range": 0.2,
    "shear_range": 0.2,
    "zoom_range": 0.2,
    "horizontal_flip": True,
    "fill_mode": "nearest",
}


def main() -> None:
    """Trains once and prints seconds and validation accuracy per epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("backbone", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--no-augment", action="store_true")
    options = parser.parse_args()

    import keras
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    start = time.perf_counter()
    base = keras.models.load_model(options.backbone)
    base.trainable = False
    classes = sorted(path.name for path in (options.photos / "train").iterdir())
    is_binary = len(classes) == 2
    units, activation = (1, "sigmoid") if is_binary else (len(classes), "softmax")
    output = keras.layers.Dense(units, activation=activation)(base.output)
    model = keras.Model(base.input, output)
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=0.001),
        loss="binary_crossentropy" if is_binary else "categorical_crossentropy",
        metrics=["accuracy"],
    )
    flow = {
        "target_size": base.input_shape[1:3],
        "batch_size": 32,
        "class_mode": "binary" if is_binary else "categorical",
        "classes": classes,
        "seed": 0,
    }
    varied = {} if options.no_augment else AUGMENTATION
    train = ImageDataGenerator(preprocessing_function=_scale, **varied).flow_from_directory(
        options.photos / "train", **flow
    )
    val = ImageDataGenerator(preprocessing_function=_scale).flow_from_directory(
        options.photos / "val", shuffle=False, **flow
    )
    history = model.fit(train, validation_data=val, epochs=options.epochs, verbose=2)
    report = {
        "seconds": round(time.perf_counter() - start, 2),
        "epochs": options.epochs,
        "photos": train.samples + val.samples,
        "val_accuracy": [round(float(value), 4) for value in history.history["val_accuracy"]],
    }
    print(json.dumps(report))


def _scale(pixels):  # type: ignore[no-untyped-def]  # numpy array in, numpy array out
    return pixels / 127.5 - 1.0


if __name__ == "__main__":
    main()
