"""What stands in for an experiment's data in tests: small data of the same kind."""

from hydra import compose, initialize_config_dir

from tests.entry import ROOT

RATINGS = ("data/source=toy_ratings", "data.eval.rows=null", "data.rows=null")
IMAGES = ("data=toy", "data.source.classes=25", "data.source.images=20")
SENTENCES = ("data=toy_sentences",)


def stand_in(experiment: str) -> tuple[str, ...]:
    """Overrides; functions are computed, so that nothing needs to stand in for them."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        data = compose("train", [f"experiment={experiment}"]).data
    if "buckets" in data:
        return SENTENCES
    if "source" not in data:
        return ()
    if "group" in data:
        return RATINGS
    elsewhere = ("data/source@data.test.source=toy", "data.test.source.classes=25", "data.test.source.images=20")
    return (*IMAGES, "data.apart=null", "data.test.apart=null", *(elsewhere if data.test.source is not None else ()))
