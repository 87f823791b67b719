"""A process that prepares `HeldToy`: ``python -m tests.data.held CACHE NOTES``; prints the images' digest."""

import sys
from pathlib import Path

from fewshot.data.prepared import prepare
from tests.data.fakes import HeldToy

if __name__ == "__main__":
    cache, notes = Path(sys.argv[1]), Path(sys.argv[2])
    split = prepare(HeldToy(notes), "train", cache, lambda message: (notes / "waiting").write_text(message))
    sys.stdout.write(f"\n{split.images_sha256} {split.x.numpy().shape}")
