"""A table in CSV: read by make_csv_dataset and by lines, normalized, categories looked up."""

import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

COLORS = ("red", "green", "blue")
MEANS = {"length": 45.0, "weight": 10.0}


def packed(features, label):
    numbers = [(tf.cast(features[name], tf.float32) - mean) / mean for name, mean in MEANS.items()]
    return {"numbers": tf.stack(numbers, axis=-1), "color": features["color"]}, label


def from_line(line):
    length, weight, color, label = tf.io.decode_csv(line, [0.0, 0.0, "", 0])
    return {"numbers": tf.stack([length, weight]), "color": color}, label


with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "table.csv")
    with open(path, "w") as file:
        file.write("length,weight,color,label\n")
        file.writelines(f"{i % 90},{i % 7 * 3.5},{COLORS[i % 3]},{i % 2}\n" for i in range(160))

    table = tf.data.experimental.make_csv_dataset(
        path, batch_size=16, label_name="label", num_epochs=1, shuffle_seed=3, shuffle_buffer_size=64
    ).map(packed)
    lookup = keras.layers.StringLookup(output_mode="one_hot")
    lookup.adapt(table.map(lambda features, label: features["color"]))
    print("vocabulary:", lookup.get_vocabulary())

    def encoded(features, label):
        color = tf.cast(lookup(features["color"]), tf.float32)
        return tf.concat([features["numbers"], color], axis=1), label

    rows = table.map(encoded)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dense(1)])
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(rows, epochs=2, verbose=0)
    print("rows:", rows.reduce(0, lambda count, batch: count + tf.shape(batch[0])[0]).numpy())
    lines = tf.data.TextLineDataset(path).skip(1).map(from_line).batch(32)
    for features, labels in lines.take(1):
        print(features["color"].numpy()[:3].tolist(), int(tf.reduce_sum(labels)))
