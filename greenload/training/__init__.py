"""What a Keras fit costs."""
