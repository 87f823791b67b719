"""What jobs are called in lines and tables: short, told apart, and never read as markup."""

import io

import pytest
from rich.console import Console

from fewshot.sweep.job import Job
from fewshot.sweep.labels import short_label, varied
from fewshot.sweep.report import status_table


@pytest.mark.parametrize(
    ("overrides", "among", "label"),
    [
        (["model.inner.lr=0.1", "model.inner.rates=fixed"], [], "lr=0.1 rates=fixed"),
        (["model.inner.lr=0.1", "model.optimizer.lr=0.2"], [], "inner.lr=0.1 optimizer.lr=0.2"),
        (["model.inner.lr=0.1"], ["lr=3"], "inner.lr=0.1"),
        (["lr=3"], ["model.inner.lr=0.1"], "lr=3"),
        (["model.lr=1"], ["model.inner.slr=2"], "lr=1"),
        (["model/backbone=mlp", "+trainer.x=1", "~callbacks.best"], [], "backbone=mlp x=1 ~best"),
        (["data/source@data.test.source=toy"], [], "data/source@data.test.source=toy"),
        (["model/backbone=mlp", "other.backbone.x=1"], ["other/backbone=mlp"], "model/backbone=mlp x=1"),
        (["model.inner.adapt=[head.*]", "data.source.files='a.b=c d'"], [], "adapt=[head.*] files='a.b=c d'"),
    ],
)
def test_keys_lose_the_groups_that_they_can_do_without(overrides, among, label):
    assert short_label(overrides, [*overrides, *among]) == label


def test_what_all_jobs_share_tells_none_from_another():
    assert varied([["a=1", "b=1", "c=1"], ["a=1", "b=2", "c=1"], ["a=1", "b=1", "c=3"]]) == ["b=1", "c=1", "b=2", "c=3"]
    assert varied([["a=1", "b=1"]]) == ["a=1", "b=1"]


def test_what_always_goes_with_a_choice_above_it_tells_none_from_another():
    timm = ["model/backbone=timm", "model.backbone.name=vit", "lr=1"]
    assert varied([timm, ["lr=1"], [*timm, "fold=1"]]) == ["model/backbone=timm", "fold=1"]
    other = ["model/backbone=timm", "model.backbone.name=resnet", "lr=1"]
    assert varied([timm, other]) == ["model.backbone.name=vit", "model.backbone.name=resnet"]
    assert varied([timm, other, ["lr=1"]]) == [*timm[:2], other[1]]


def test_at_80_columns_nothing_is_cut_and_nothing_is_markup(tmp_path):
    values = ["[head.*]", "[/x]", "[bold]", "[features.a_long_name.*,features.another_long_name.*,head.*]"]
    for number, value in enumerate(values):
        job = Job(tmp_path / str(number))
        job.freeze("", ["experiment=tiny", f"model.inner.adapt={value}"], [], "", "")
    shown = io.StringIO()
    Console(width=80, file=shown).print(status_table([Job(tmp_path / str(number)) for number in range(4)]))
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    column = lines[0].index("overrides"), lines[0].index("state")
    assert "".join(line[slice(*column)].strip() for line in lines[2:]) == "".join(f"adapt={value}" for value in values)
