"""TensorFlow's tf.data as a backend."""
