"""Augmentation inside the dataset: Keras' layers, and stateless operations with a counter or a generator of seeds."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

SIZE = 40
images = tf.cast(tf.random.stateless_uniform((48, 60, 50, 3), (1, 2), maxval=256, dtype=tf.int32), tf.uint8)
labels = tf.range(48) % 5
source = tf.data.Dataset.from_tensor_slices((images, labels))

resize = keras.Sequential([keras.layers.Resizing(SIZE, SIZE), keras.layers.Rescaling(1.0 / 255)])
augment = keras.Sequential([keras.layers.RandomFlip("horizontal", seed=1), keras.layers.RandomRotation(0.2, seed=2)])


def prepared(dataset, training=False):
    dataset = dataset.map(lambda image, label: (resize(image), label), num_parallel_calls=2)
    dataset = dataset.shuffle(48, seed=3).batch(12) if training else dataset.batch(12)
    if training:
        dataset = dataset.map(lambda image, label: (augment(image, training=True), label))
    return dataset.prefetch(1)


def cropped(image_and_label, seed):
    image, label = image_and_label
    image = tf.image.resize_with_crop_or_pad(tf.cast(image, tf.float32) / 255.0, SIZE + 6, SIZE + 6)
    next_seed = tf.random.split(seed, num=1)[0, :]
    image = tf.image.stateless_random_crop(image, (SIZE, SIZE, 3), seed=seed)
    return tf.image.stateless_random_brightness(image, 0.5, seed=next_seed), label


keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5)])
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(prepared(source, training=True), validation_data=prepared(source), epochs=2, verbose=0)
print("batches:", [image.shape[0] for image, _ in prepared(source)])

counter = tf.data.Dataset.counter()
stateless = tf.data.Dataset.zip((source, (tf.data.Dataset.zip((counter, counter))))).shuffle(48, seed=4)
stateless = stateless.map(lambda pair, seed: cropped(pair, tf.stack(seed)), num_parallel_calls=2).batch(16)
for image, label in stateless:
    print(image.shape, int(tf.reduce_sum(label)), round(float(tf.reduce_sum(image)), 1))
