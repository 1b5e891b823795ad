"""Anyone's ``tf.data.Dataset``, taken apart and measured: walked, rebuilt without tracing anything again, run.

TensorFlow keeps what is needed in private attributes of its dataset classes (as of 2.21); `rebuild` and `graph` are the
only modules that read them.
"""
