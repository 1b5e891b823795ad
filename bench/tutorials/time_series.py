"""Windows of a series: by Dataset.window, and by Keras."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

SERIES = np.sin(np.arange(400) / 10).astype("float32")
WIDTH = 24


def windows(series, batch_size=16):
    dataset = tf.data.Dataset.from_tensor_slices(series)
    dataset = dataset.window(WIDTH + 1, shift=1, drop_remainder=True)
    dataset = dataset.flat_map(lambda window: window.batch(WIDTH + 1))
    dataset = dataset.shuffle(100, seed=7).map(lambda window: (window[:-1], window[-1:]))
    return dataset.batch(batch_size).prefetch(1)


def split_window(features):
    inputs, labels = features[:, :-1], features[:, -1:]
    inputs.set_shape([None, WIDTH])
    return inputs, labels


train, valid = windows(SERIES[:300]), windows(SERIES[300:])
by_keras = keras.utils.timeseries_dataset_from_array(SERIES, None, WIDTH + 1, batch_size=16).map(split_window)

keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
model.compile("adam", "mse")
print("epochs:", len(model.fit(train, validation_data=valid, epochs=2, verbose=0).history["loss"]))
print("evaluated:", model.evaluate(by_keras, verbose=0) < 10)
for inputs, labels in train.take(2):
    print(inputs.shape, round(float(tf.reduce_sum(inputs)), 2), round(float(tf.reduce_sum(labels)), 2))
print("windows:", sum(1 for _ in by_keras.unbatch().as_numpy_iterator()))
