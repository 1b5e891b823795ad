"""Profiles anyone's ``tf.data.Dataset``: takes it apart, rebuilds it without tracing anything again, and runs it.

TensorFlow keeps what is needed in private attributes of its dataset classes (as of 2.21); `rebuild` and `graph` are the
only modules that read them.
"""
