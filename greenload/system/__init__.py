"""What is asked of the operating system: files, processes, limits, the end of the interpreter."""
