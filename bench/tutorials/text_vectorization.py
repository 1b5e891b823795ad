"""Sentences in text files: standardized, turned into a vocabulary's numbers, and classified."""

import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

WORDS = [
    "the",
    "a",
    "film",
    "was",
    "story",
    "good",
    "bad",
    "dull",
    "bright",
    "long",
    "short",
    "and",
    "never",
    "again<br/>",
    "Surely!",
    "quite",
]


def standardized(text):
    return tf.strings.regex_replace(tf.strings.regex_replace(tf.strings.lower(text), "<br />|<br/>", " "), "[!.,]", "")


with tempfile.TemporaryDirectory() as folder:
    for label, name in enumerate(("negative", "positive")):
        os.makedirs(os.path.join(folder, name))
        for number in range(20):
            words = [WORDS[(number * 7 + place * (3 + label)) % len(WORDS)] for place in range(25)]
            with open(os.path.join(folder, name, f"{number}.txt"), "w") as file:
                file.write(" ".join(words))

    train = keras.utils.text_dataset_from_directory(folder, batch_size=8, seed=5, verbose=False)
    vectorize = keras.layers.TextVectorization(standardize=standardized, max_tokens=50, output_sequence_length=20)
    vectorize.adapt(train.map(lambda text, label: text))
    print("vocabulary:", len(vectorize.get_vocabulary()))

    def vectorized(text, label):
        return vectorize(tf.expand_dims(text, -1)), label

    numbers = train.map(vectorized).cache().prefetch(tf.data.AUTOTUNE)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.layers.Embedding(50, 8), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)]
    )
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(numbers, epochs=2, verbose=0)
    print("rows:", sum(int(text.shape[0]) for text, _ in numbers), "words:", next(iter(numbers))[0].shape)
