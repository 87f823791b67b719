"""What stands in for an experiment's data in tests: small data of the same kind."""

from hydra import compose, initialize_config_dir

from tests.entry import ROOT

IMAGES = ("data=toy", "data.source.classes=25", "data.source.images=20")
SENTENCES = ("data=toy_sentences",)


def stand_in(experiment: str) -> tuple[str, ...]:
    """Overrides; functions are computed, so that nothing needs to stand in for them."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        data = compose("train", [f"experiment={experiment}"]).data
    return SENTENCES if "buckets" in data else IMAGES if "source" in data else ()
