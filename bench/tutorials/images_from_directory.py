"""Photos in a folder for each class, read by Keras, cached, and fitted."""

import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

SIZE = (48, 48)


def make_photos(folder: str, classes: int = 3, each: int = 16) -> None:
    for label in range(classes):
        os.makedirs(os.path.join(folder, f"class_{label}"))
        for number in range(each):
            noise = tf.random.stateless_uniform((64, 80, 3), (label, number), maxval=256, dtype=tf.int32)
            jpeg = tf.io.encode_jpeg(tf.cast(noise, tf.uint8))
            tf.io.write_file(os.path.join(folder, f"class_{label}", f"{number}.jpg"), jpeg)


def rescaled(images, labels):
    return images / 255.0, labels


with tempfile.TemporaryDirectory() as folder:
    make_photos(folder)
    parts = {
        subset: keras.utils.image_dataset_from_directory(
            folder, validation_split=0.25, subset=subset, seed=1, image_size=SIZE, batch_size=8, verbose=False
        )
        for subset in ("training", "validation")
    }
    print("classes:", parts["training"].class_names)
    train = parts["training"].map(rescaled, num_parallel_calls=tf.data.AUTOTUNE).cache().shuffle(50, seed=2).prefetch(2)
    valid = parts["validation"].map(rescaled).cache().prefetch(2)

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(4, 3, strides=2), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((*SIZE, 3)), *layers])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(train, validation_data=valid, epochs=2, verbose=0)
    print("epochs:", len(history.history["val_loss"]))
    print("predicted:", model.predict(valid, verbose=0).shape)
