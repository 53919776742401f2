"""Multi30k, task 1: 31,014 captions of photographs in English, with translations (Elliott et al., 2016 and 2017).

The files lie in ``DATA_DIR/multi30k``: raw text as ``train.en.gz``, and the text that its authors lower-cased and
tokenized as ``tok/train.lc.norm.tok.en``. Files that are there are used as they are; missing ones are downloaded from
one commit of the authors' repository, https://github.com/multi30k/dataset. The data is for research and education, not
for commercial use.
"""

from collections.abc import Iterable
from pathlib import Path

from mlpx.data.downloads import provide
from mlpx.data.folders import data_folder

FOLDER = "multi30k"
COMMIT = "a3d2e0d26b56f3846f66a952536ffed4e401d05a"
URL = f"https://raw.githubusercontent.com/multi30k/dataset/{COMMIT}/data/task1"
PARTS = {"train": "train", "val": "val", "test": "test_2016_flickr"}
NAMES = {"raw": "{part}.{language}.gz", "tok": "tok/{part}.lc.norm.tok.{language}"}
CHECKSUMS = {  # SHA-256
    "test_2016_flickr.de.gz": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    "test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    "test_2016_flickr.fr.gz": "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
    "train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "train.fr.gz": "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c",
    "val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "val.fr.gz": "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9",
    "tok/test_2016_flickr.lc.norm.tok.de": "c6a33d39d48f9f510de147651316cd9d918e09ad0219df734a2f16b6baccacc4",
    "tok/test_2016_flickr.lc.norm.tok.en": "5b7f32627cf99eced828311b955dae9800bb52bc8b91cf8b6526829e605b29d2",
    "tok/test_2016_flickr.lc.norm.tok.fr": "1463bd5960f9bfe098ec3cd752d3df0c49c84dc646fb518964a29232658cd836",
    "tok/train.lc.norm.tok.de": "cb5a23529b65ec2061f1dc446192a9c37382b63cc75f81a0be59d34894b3a505",
    "tok/train.lc.norm.tok.en": "08925f8e0572bcd5a006702fc5fe20e2d77c6917d4eebd576fc20de6693c2119",
    "tok/train.lc.norm.tok.fr": "8fa41bb718412bcb7c5dfa58603842810a01543eae86a51279f9886b901266e1",
    "tok/val.lc.norm.tok.de": "97232bd273eceb7207f689527386a97e4be2616b18ada47576bdaf96c8ae1f00",
    "tok/val.lc.norm.tok.en": "46573ce391ae227f1c72f873392436a20ef18e0a6d518098cfbd70b77c8572ec",
    "tok/val.lc.norm.tok.fr": "b303e301aa21fe7822a846b2b3fb2d5a1121ec807cd5b1d006fb7b2b5507168a",
}
WAYS_OUT = "Put them there, or name their folder by --data-dir or MLPX_DATA_DIR."


def names(text: str, part: str, languages: Iterable[str]) -> list[str]:
    """The names of the files of a part of the corpus, one a language.

    Args:
        text: Which text: "raw" or "tok".
        part: "train", "val" or "test".
        languages: Among "en", "de" and "fr".
    """
    return [NAMES[text].format(part=PARTS[part], language=language) for language in languages]


def fetch(data_dir: str, wanted: Iterable[str] = tuple(CHECKSUMS)) -> Path:
    """The folder that holds the files ``wanted``; those that are missing are downloaded.

    Raises:
        InputError: A file is missing and cannot be downloaded.
        MachineError: A file cannot be written.
    """
    folder = data_folder(data_dir) / FOLDER
    missing = [name for name in wanted if not (folder / name).exists()]
    files = {
        name: ([f"{URL}/{name if '/' in name else f'raw/{name}'}"], f"sha256:{CHECKSUMS[name]}") for name in missing
    }
    provide(folder, files, WAYS_OUT)
    return folder
