"""A training loop of one's own: GradientTape, a tf.function for a step, and one for a whole epoch."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

random = np.random.default_rng(0)
images = random.integers(0, 256, (200, 28, 28), dtype=np.uint8)
labels = random.integers(0, 10, 200)


def normalized(image, label):
    return tf.cast(image, tf.float32)[..., tf.newaxis] / 255.0, label


train = tf.data.Dataset.from_tensor_slices((images[:160], labels[:160])).map(normalized).shuffle(160, seed=1).batch(32)
test = tf.data.Dataset.from_tensor_slices((images[160:], labels[160:])).map(normalized).batch(20)

keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
optimizer = keras.optimizers.SGD(0.1)
seen = tf.Variable(0, trainable=False)


@tf.function
def step(images, labels):
    with tf.GradientTape() as tape:
        loss = loss_of(labels, model(images, training=True))
    weights = model.trainable_variables
    optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
    return loss


@tf.function
def tested(dataset):
    for images, labels in dataset:
        loss_of(labels, model(images))
        seen.assign_add(tf.shape(images)[0])


for epoch in range(2):
    losses = [float(step(images, labels)) for images, labels in train]
    tested(test)
    print("epoch", epoch, "steps", len(losses), "finite", bool(np.isfinite(losses).all()), "tested", int(seen))

iterator = iter(train)
images, _ = next(iterator)
print("one batch:", images.shape)
