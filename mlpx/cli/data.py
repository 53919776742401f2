"""Having data before it is needed."""

from mlpx.data import images


def fetch(name: str, data_dir: str) -> None:
    """Download what is missing of a data set, read all of it, and print its folder; raises MlpxError."""
    folder = images.fetch(name, data_dir)
    images.load(name, data_dir, seed=0)
    print(folder.absolute(), flush=True)
