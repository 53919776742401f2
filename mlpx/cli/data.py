"""Having data before it is needed."""

from mlpx.data import corpora, images, multi30k


def fetch(name: str, data_dir: str) -> None:
    """Download what is missing of a data set, read all of it, and print its folder; raises MlpxError."""
    if name == multi30k.FOLDER:
        folder = multi30k.fetch(data_dir)
        for file in multi30k.CHECKSUMS:
            corpora.read_lines(folder / file)
    else:
        folder = images.fetch(name, data_dir)
        images.load(name, data_dir)
    print(folder.absolute(), flush=True)
