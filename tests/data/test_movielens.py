"""MovieLens in its three layouts, cold start, and what is broken; users of a real release on one side each."""

import logging

import numpy as np
import pytest

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.data.parts import Part
from fewshot.data.preparation import prepare
from fewshot.data.source import SPLITS, table_of
from fewshot.data.splits import ColdStart, KFold
from fewshot.data.tables.movielens import MovieLens
from fewshot.hashing import bucket
from fewshot.tasks.group_sampler import GroupSampler
from fewshot.tasks.streams import stream_key
from fewshot.tasks.table import Column, Table
from tests.data.fakes import refusal, silent, write_zip
from tests.toy import ToyRatings

MOVIES = {"2": ("Old, Film, The (1950)", ["Drama", "Crime"]), "10": ("New One (2015–2016)", ["Comedy"]), "7": ("Nameless", [])}
RATINGS = [("1", "2", 4.0, 5), ("1", "10", 3.0, 6), ("11", "7", 1.0, 7), ("2", "10", 5.0, 8)]
HEADER = "userId,movieId,rating,timestamp\n"


def movielens(root, length=8):
    return MovieLens(str(root), "movielens_small", length, 64)


def write_latest(root, ratings=RATINGS, text=None):
    root.mkdir(parents=True, exist_ok=True)
    lines = [f'{number},"{title}",{"|".join(genres) or "(no genres listed)"}' for number, (title, genres) in MOVIES.items()]
    (root / "movies.csv").write_text("\n".join(["movieId,title,genres", *lines]) + "\n", "utf-8")
    rows = [f"{user},{movie},{value},{time}" for user, movie, value, time in ratings]
    (root / "ratings.csv").write_text(HEADER + "\n".join(rows) + "\n" if text is None else text)
    return movielens(root)


def write_100k(root):
    root.mkdir(parents=True)
    marks = {"2": (6, 8), "10": (5,), "7": (0,)}
    lines = [
        "|".join([number, title, "01-Jan-1950", "", "http://x", *("1" if i in marks[number] else "0" for i in range(19))])
        for number, (title, _) in MOVIES.items()
    ]
    (root / "u.item").write_bytes("\n".join(lines).replace("–", "-").encode("latin-1"))
    (root / "u.data").write_text("\n".join(f"{u}\t{m}\t{v:g}\t{t}" for u, m, v, t in RATINGS))
    return movielens(root)


def write_1m(root):
    root.mkdir(parents=True)
    lines = [f"{number}::{title}::{'|'.join(genres)}" for number, (title, genres) in MOVIES.items()]
    (root / "movies.dat").write_bytes("\n".join(lines).replace("–", "-").encode("latin-1"))
    (root / "ratings.dat").write_text("\n".join(f"{u}::{m}::{v:g}::{t}" for u, m, v, t in RATINGS))
    return movielens(root)


@pytest.mark.parametrize("write", [write_latest, write_100k, write_1m])
def test_layouts_hold_the_same(tmp_path, write):
    """Users and movies in the order of their numbers; years from titles, of which one has none."""
    source = write(tmp_path / "movielens_small")
    assert source.columns("all") == {
        "user": ["1", "1", "2", "11"], "item": ["2", "10", "10", "7"], "year": ["1950", "2015", "2015", "0"],
    }  # fmt: skip
    ((x, y),) = source.read("all")
    assert y.tolist() == [4, 3, 5, 1]
    assert x[:, 0].tolist() == [0, 2, 2, 1]  # movies 2, 7, 10
    words = ["old", "film", "the"]
    expected = {bucket(f"genre {genre}", 64) for genre in ("Drama", "Crime")} | {bucket(f"word {word}", 64) for word in words}
    assert set(x[0, 1:].tolist()) == expected | {bucket("decade 195", 64)} | ({0} if len(expected) < 6 else set())
    assert prepare(source, "all", tmp_path / "cache", silent).y.tolist() == [4, 3, 5, 1]


def test_users_may_have_any_name(tmp_path):
    """Python reads neither a superscript nor five thousand digits as a number."""
    names = ["10", "9", "9" * 5000, "²", "ann"]
    source = write_latest(tmp_path / "movielens_small", [(name, "2", 4.0, 5) for name in names])
    assert source.columns("all")["user"] == ["9", "10", "9" * 5000, "ann", "²"]


def test_an_archive_need_not_be_unpacked(tmp_path):
    """Where it is downloaded to, and by the side of other datasets, whose files have plain names too."""
    loose = write_latest(tmp_path / "loose")
    members = {f"ml-latest-small/{name}": (tmp_path / "loose" / name).read_bytes() for name in ("ratings.csv", "movies.csv")}
    for folder in ("own/movielens", "beside"):
        (tmp_path / folder).mkdir(parents=True)
        write_zip(tmp_path / folder / "ml-latest-small.zip", members)
    (tmp_path / "beside/banking77").mkdir()
    (tmp_path / "beside/banking77/u.data").write_text("of another")
    for root in (tmp_path / "own", tmp_path / "beside"):
        assert movielens(root).columns("all") == loose.columns("all")
        assert [path.name for path in movielens(root).files("all")] == ["ml-latest-small.zip"]
    (tmp_path / "loose/movies.csv").unlink()
    assert "holds ratings.csv and no movies.csv" in refusal(movielens(tmp_path / "loose").files, "all")


def test_inputs_know_no_rating_and_no_user(tmp_path):
    """Other ratings by other users leave what an item looks like to the bit."""
    one = next(write_latest(tmp_path / "a").read("all"))[0]
    others = [("5", movie, 6 - value, time) for _, movie, value, time in RATINGS[:1] + RATINGS[2:]]
    other = next(write_latest(tmp_path / "b", others).read("all"))[0]
    by_item = {row[0]: row for row in one.tolist()}
    assert all(by_item[row[0]] == row for row in other.tolist())


def test_long_titles_are_cut(tmp_path):
    source = write_latest(tmp_path)
    ((x, _),) = source.read("all")
    ((short, _),) = movielens(tmp_path, length=3).read("all")
    np.testing.assert_array_equal(short, x[:, :3])


def test_the_latest_of_several_ratings_stands(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        ((_, y),) = write_latest(tmp_path, [("1", "2", 4.0, 5), ("1", "2", 2.0, 9), ("1", "2", 3.0, 7)]).read("all")
    assert y.tolist() == [2]
    assert "1 ratings of 1 movies by 1 users; 2 earlier ratings of the same movie left out" in caplog.text


def test_times_may_be_missing(tmp_path):
    """Then the last in the file stands."""
    ((_, y),) = write_latest(tmp_path, text="userId,movieId,rating\n1,2,4\n1,2,1.5\n").read("all")
    assert y.tolist() == [1.5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEADER + "1,2,5.5,0\n", "line 2: rating 5.5 is none of 0.5 to 5 by 0.5; mend the line"),
        (HEADER + "1,2,nan,0\n", "line 2: rating nan is none of"),
        (HEADER + "1,2,4,0\n1,2,good,0\n", "line 3: no user, movie, rating and time (could not convert"),
        (HEADER + "1,2,4,\n", "line 2: no user, movie, rating and time"),
        (HEADER + "1,2,4,nan\n", "line 2: user '1', time nan; mend the line"),
        (HEADER + ",2,4,0\n", "line 2: user '', time 0; mend the line"),
        (HEADER + "1,99,4,0\n", "line 2: movie 99 is not in movies.csv"),
        (HEADER + "1,2\n", "line 2: not as many fields as the header"),
        ("user,movieId,rating\n1,2,4\n", "has no column userId (it has user, movieId, rating)"),
        (HEADER, "ratings.csv holds no rating"),
    ],
)
def test_broken_ratings_are_refused(tmp_path, text, said):
    assert said in refusal(write_latest(tmp_path, text=text).columns, "all")


def test_other_scales_and_layouts_that_are_broken(tmp_path):
    source = write_1m(tmp_path / "movielens_small")
    (tmp_path / "movielens_small/ratings.dat").write_text("1::2::3.5::0")
    assert "rating 3.5 is none of 1 to 5 by 1" in refusal(source.columns, "all")
    (tmp_path / "movielens_small/ratings.dat").write_text("1::2")
    assert "line 1: no user, movie, rating and time" in refusal(movielens(tmp_path).columns, "all")
    (tmp_path / "movielens_small/ratings.dat").write_text("1::2::3::0")
    (tmp_path / "movielens_small/movies.dat").write_text("1::2")
    assert "line 1: a movie is no NUMBER::TITLE::GENRES" in refusal(movielens(tmp_path).columns, "all")
    assert "holds no ratings (ratings.csv, u.data, ratings.dat)" in refusal(
        movielens(tmp_path / "movielens_small/x").files, "all"
    )


# Cold start


def table_of_users(users=10, items=20):
    pairs = [(user, item) for user in range(users) for item in range(items)]
    columns = {
        "user": [f"u{u}" for u, _ in pairs],
        "item": [f"i{i}" for _, i in pairs],
        "year": [f"{1990 + i}" for _, i in pairs],
    }
    return Table({name: Column.of(values) for name, values in columns.items()})


@pytest.mark.parametrize("scenario", ["users", "items", "both"])
@pytest.mark.parametrize("fold", range(5))
def test_cold_start_keeps_new_users_and_new_items_out_of_training(scenario, fold):
    table = table_of_users()
    parts = {part: table.select(ColdStart(scenario, fold=fold).rows(part, table)) for part in SPLITS}
    users = {part: set(of_part.columns["user"].names) for part, of_part in parts.items()}
    years = {part: {int(year) for year in of_part.columns["year"].names} for part, of_part in parts.items()}
    assert years["train"] == years["val"] == set(range(1990, 2006))
    assert years["test"] == (set(range(1990, 2006)) if scenario == "users" else set(range(2006, 2010)))
    assert not users["train"] & users["val"]
    assert users["test"] == users["train"] if scenario == "items" else not users["test"] & (users["train"] | users["val"])


def test_each_user_is_new_once():
    table = table_of_users()
    tested = [table.select(ColdStart(fold=fold).rows("test", table)).columns["user"].names for fold in range(5)]
    assert sorted(user for users in tested for user in users) == sorted(table.columns["user"].names)


def test_mistaken_cold_starts_are_refused():
    assert "data.split.scenario=movies is unknown" in refusal(ColdStart, "movies")
    assert "data.split.new=1.0 must be a share" in refusal(ColdStart, new=1.0)
    assert "data.split.fold=5 but data.split.folds=5" in refusal(ColdStart, fold=5)
    assert "less than the share of the items of the last year" in refusal(ColdStart(new=0.01).rows, "train", table_of_users())


@pytest.mark.slow
@pytest.mark.real_data
def test_no_user_of_the_real_release_is_on_both_sides(data_dir):
    """10,000 training tasks, and every validation and test task, as they are drawn."""
    source = MovieLens(str(data_dir), "movielens_small", 20, 8192)
    table = table_of(source, [], source.columns("all"))
    assert (len(table), len(table.columns["user"].names)) == (100_836, 610)
    users = table.columns["user"]
    for split in (KFold(by="user"), ColdStart("both")):
        seen = {}
        for part, once in (("train", False), ("val", True), ("test", True)):
            rows = split.rows(part, table)
            members = table.select(rows)
            sampler = GroupSampler("user", "rest" if once else 10, 10, once, (13, 100) if once else None)
            unfit = [members.columns["user"].names.index(name) for name in sampler.unfit(members)]
            rows = rows[~np.isin(members.columns["user"].values, unfit)]
            members = table.select(rows)
            drawn = sampler.draw(members, stream_key(part), range(sampler.tasks(members) or 10_000))
            for tasks in drawn:
                assert not (tasks.support[:, :, None] == tasks.query[:, None, :]).any()
                taken = np.concatenate([tasks.support.numpy(), tasks.query.numpy()], axis=1)
                of_tasks = users.values[rows[taken]]
                assert (of_tasks == of_tasks[:, :1]).all()
                seen.setdefault(part, set()).update(of_tasks[:, 0].tolist())
        assert not seen["train"] & seen["val"]
        assert not seen["test"] & (seen["train"] | seen["val"])


def rated(tmp_path, fold, **changes):
    tasks = [GroupSampler("user", 4, 4, once=part != "train") for part in SPLITS]
    parts = {part: Part(ToyRatings(), sampler) for part, sampler in zip(SPLITS, tasks, strict=True)}
    arguments = {"image_shape": [6], "meta_batch_size": 2, "val_tasks": 2, "test_tasks": 4, "seed": 0} | changes
    return EpisodicDataModule(**parts, cache_dir=str(tmp_path), split=KFold(folds=5, fold=fold, by="user"), **arguments)


def test_users_that_were_trained_on_are_refused_in_an_evaluation(tmp_path):
    trained = rated(tmp_path, fold=0)
    trained.check(SPLITS)
    assert len(trained.state_dict()["classes"]) == 12
    same, other, allowed = (rated(tmp_path, fold, allow_seen_classes=fold == 3) for fold in (0, 2, 3))
    for module in (same, other, allowed):
        module.trained_on = trained.state_dict()
    same.check(["test"])
    message = refusal(other.check, ["test"])
    assert "was trained on" in message
    assert "of the 4 test values of user" in message
    allowed.check(["test"])
    assert (same.seen_classes["test"], allowed.seen_classes["test"]) == (0, 4)


def test_users_that_the_first_weights_were_trained_on_are_refused(tmp_path):
    first, same, other = (rated(tmp_path, fold) for fold in (0, 0, 2))
    first.check(SPLITS)
    same.started_from = other.started_from = first.state_dict()
    same.check(SPLITS)
    assert same.seen_classes["test"] == 0
    assert "was trained on" in refusal(other.check, SPLITS)
    elsewhere = rated(tmp_path, 2)
    elsewhere.started_from = first.state_dict() | {"source": "other ratings"}
    elsewhere.check(SPLITS)
    assert elsewhere.seen_classes["test"] == 0
