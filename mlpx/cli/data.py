"""``mlpx data fetch``: downloading a data set before it is needed."""

from mlpx.experiments.mlp import images
from mlpx.experiments.transformer import corpora, multi30k


def fetch(name: str, data_dir: str) -> None:
    """Download the missing files of a data set, read all of it, and print its folder.

    Args:
        name: The data set.
        data_dir: The folder of data sets; empty for the default one.

    Raises:
        InputError: A file cannot be downloaded, or is broken.
        MachineError: A file cannot be written.
    """
    if name == multi30k.FOLDER:
        folder = multi30k.fetch(data_dir)
        for file in multi30k.CHECKSUMS:
            corpora.read_lines(folder / file)
    else:
        folder = images.fetch(name, data_dir)
        images.load(name, data_dir)
    print(folder.absolute(), flush=True)
