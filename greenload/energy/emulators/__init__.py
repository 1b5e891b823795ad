"""The shipped fakes of meters and machines."""
