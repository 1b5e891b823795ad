"""Ready pipelines: run them by name (``greenload profile imagenet:train --data FOLDER``), or copy and change them."""
