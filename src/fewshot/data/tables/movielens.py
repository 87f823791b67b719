"""MovieLens (Harper & Konstan 2015): ratings of movies by users; each user is a task.

A row is one rating. Its input says which movie it is of, and what is known of the movie without any rating: decade, genres,
words of the title. Its target is the rating.
"""

import logging
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot.data.catalogue import lacking
from fewshot.data.files.archives import LARGEST_LISTING
from fewshot.data.files.places import Place, all_places, own_folder
from fewshot.data.files.rows import read_rows
from fewshot.data.source import ArraySpec, ImageClass, Source
from fewshot.errors import UserError, check_int
from fewshot.hashing import FIRST, PAD, bucket

log = logging.getLogger(__name__)

RELEASED = re.compile(r"\s*\((\d{4})(?:[-–]\d{0,4})?\)\s*$")
"""The year that stands behind a title."""
GENRES_100K = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
"""In the order of their columns in ``u.item``."""


@dataclass(frozen=True)
class Movie:
    """What is known of a movie without its ratings."""

    number: str
    title: str
    genres: tuple[str, ...]

    @property
    def year(self) -> str:
        """Of its release; ``0`` where its title has none."""
        found = RELEASED.search(self.title)
        return found[1] if found else "0"

    @property
    def tokens(self) -> list[str]:
        """Its decade, its genres, and the words of its title."""
        words = re.findall(r"\w+", RELEASED.sub("", self.title).lower())
        return [f"decade {self.year[:3]}", *(f"genre {genre}" for genre in self.genres), *(f"word {word}" for word in words)]


@dataclass(frozen=True)
class Release:
    """The files of one release.

    Attributes:
        ratings, movies: their names.
        scale: ratings that there are.
        read_ratings: of a file, where each line is, and its user, movie, rating, and time if it has one.
        read_movies: of a file.
    """

    ratings: str
    movies: str
    scale: tuple[float, ...]
    read_ratings: Callable[[Place], Iterable[tuple[str, Sequence[str]]]]
    read_movies: Callable[[Place], Iterable[Movie]]


def _lines(separator: str) -> Callable[[Place], Iterator[tuple[str, Sequence[str]]]]:
    def read(place: Place) -> Iterator[tuple[str, Sequence[str]]]:
        for number, line in enumerate(place.read(LARGEST_LISTING).decode("latin-1").split("\n"), start=1):
            if line.strip():
                yield f"{place}, line {number}", line.rstrip("\r").split(separator)

    return read


def _csv_ratings(place: Place) -> Iterator[tuple[str, Sequence[str]]]:
    for number, row in read_rows(place, ("userId", "movieId", "rating")):
        times = (row["timestamp"],) if "timestamp" in row else ()
        yield f"{place}, line {number}", (row["userId"], row["movieId"], row["rating"], *times)


def _csv_movies(place: Place) -> Iterator[Movie]:
    for _, row in read_rows(place, ("movieId", "title", "genres")):
        yield Movie(row["movieId"], row["title"], tuple(row["genres"].split("|")))


def _movies_1m(place: Place) -> Iterator[Movie]:
    for where, fields in _lines("::")(place):
        if len(fields) != 3:
            raise UserError(f"{where}: a movie is no NUMBER::TITLE::GENRES; replace the file")
        yield Movie(fields[0], fields[1], tuple(fields[2].split("|")))


def _movies_100k(place: Place) -> Iterator[Movie]:
    for where, fields in _lines("|")(place):
        if len(fields) != 5 + len(GENRES_100K):
            raise UserError(f"{where}: a movie has {len(fields)} fields instead of {5 + len(GENRES_100K)}; replace the file")
        marked = tuple(genre for genre, mark in zip(GENRES_100K, fields[5:], strict=True) if mark == "1")
        yield Movie(fields[0], fields[1], marked)


STARS = (1.0, 2.0, 3.0, 4.0, 5.0)
RELEASES = (
    Release("ratings.csv", "movies.csv", tuple(half / 2 for half in range(1, 11)), _csv_ratings, _csv_movies),
    Release("u.data", "u.item", STARS, _lines("\t"), _movies_100k),
    Release("ratings.dat", "movies.dat", STARS, _lines("::"), _movies_1m),
)
"""ml-latest-small, ml-100k, ml-1m."""


@dataclass(frozen=True)
class Rating:
    """What one user thinks of one movie."""

    user: str
    movie: str
    value: float
    time: float


class MovieLens(Source):
    """Ratings, sorted by user. Rows have the columns ``user``, ``item``, and ``year``, in which the movie was released.

    Of several ratings of a movie by a user the latest stands (the last one in a file without times); the others are counted.
    An input is the place of the movie in the list of movies, then the hashed ids of its tokens, then 0s.

    Args:
        data_dir: holds ``ratings.csv`` and ``movies.csv``, or ``u.data`` and ``u.item``, or ``ratings.dat`` and ``movies.dat``,
            or a zip archive of them, directly, in `folder` or in ``movielens/``.
        folder: the release's own folder.
        length: numbers of an input; further words of a title are left out.
        tokens: ids that tokens are hashed into.
    """

    version = 1
    parts = ("all",)
    y = ArraySpec((), "float32")

    def __init__(self, data_dir: str, folder: str, length: int, tokens: int) -> None:
        check_int("data.image_shape[0]", length, least=2)
        check_int("data.tokens", tokens, least=FIRST + 1)
        self.name = f"movielens-{folder.removeprefix('movielens_')}"
        self._folder, self._length, self._tokens = own_folder(data_dir, folder, "movielens"), length, tokens
        self._root = Path(data_dir).absolute()
        self._broken: list[UserError] = []  # archives, perhaps of others, that were left out

    @property
    def x(self) -> ArraySpec:  # type: ignore[override]
        return ArraySpec((self._length,), "int64")

    def files(self, part: str) -> list[Path]:
        return list(dict.fromkeys(place.path for place in self._places))

    def classes(self, part: str) -> list[ImageClass]:
        return []

    def columns(self, part: str) -> dict[str, Sequence[str]]:
        movies = [rating.movie for rating in self._ratings]
        years = {number: movie.year for number, movie in self._movies.items()}
        return {"user": [rating.user for rating in self._ratings], "item": movies, "year": [years[movie] for movie in movies]}

    def read(self, part: str) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any] | None]]:
        inputs = {number: self._input(place, movie) for place, (number, movie) in enumerate(self._movies.items())}
        x = np.stack([inputs[rating.movie] for rating in self._ratings])
        yield x, np.array([rating.value for rating in self._ratings], dtype=np.float32)

    def _input(self, place: int, movie: Movie) -> npt.NDArray[np.int64]:
        ids = [place, *(bucket(token, self._tokens) for token in movie.tokens)][: self._length]
        row = np.full(self._length, PAD, dtype=np.int64)
        row[: len(ids)] = ids
        return row

    @cached_property
    def _release(self) -> Release:
        found = next((release for release in RELEASES if release.ratings in self._there), None)
        if found is None:
            known = ", ".join(release.ratings for release in RELEASES)
            lacks = f"{self._folder} holds no ratings ({known}); put them there, or set paths.data_dir=FOLDER"
            raise lacking(lacks, "movielens", self._broken)
        if found.movies not in self._there:
            raise UserError(f"{self._folder} holds {found.ratings} and no {found.movies}; put it there")
        return found

    @cached_property
    def _there(self) -> dict[str, Place]:
        """All files by name."""
        own = self._folder != self._root  # elsewhere, files of so plain names may be anybody's
        self._broken = []
        places = all_places(self._folder, broken=None if own else self._broken) if self._folder.is_dir() else []
        return {place.name.name: place for place in reversed(places) if own or place.path.parent == self._root}

    @property
    def _places(self) -> list[Place]:
        """Of the ratings and of the movies."""
        return [self._there[self._release.ratings], self._there[self._release.movies]]

    @cached_property
    def _movies(self) -> dict[str, Movie]:
        """By number, in its order."""
        movies = self._release.read_movies(self._places[1])
        return {movie.number: movie for movie in sorted(movies, key=lambda movie: _order(movie.number))}

    @cached_property
    def _ratings(self) -> list[Rating]:
        listed = [self._rating(where, fields) for where, fields in self._release.read_ratings(self._places[0])]
        if not listed:
            raise UserError(f"{self._places[0]} holds no rating; replace the file")
        listed.sort(key=lambda rating: rating.time)
        kept = {(rating.user, rating.movie): rating for rating in listed}
        left_out = (
            f"; {len(listed) - len(kept):,} earlier ratings of the same movie left out" if len(kept) < len(listed) else ""
        )
        users, movies = ({key[side] for key in kept} for side in (0, 1))
        log.info(f"{self.name}: {len(kept):,} ratings of {len(movies):,} movies by {len(users):,} users{left_out}")
        return sorted(kept.values(), key=lambda rating: (_order(rating.user), _order(rating.movie)))

    def _rating(self, where: str, fields: Sequence[str]) -> Rating:
        """One line of the ratings.

        Raises:
            UserError: it is none.
        """
        try:
            value, time = float(fields[2]), float(fields[3]) if len(fields) > 3 else 0.0
        except (ValueError, IndexError) as error:
            raise UserError(f"{where}: no user, movie, rating and time ({error}); mend the line") from error
        if not fields[0] or math.isnan(time):
            raise UserError(f"{where}: user {fields[0]!r}, time {time:g}; mend the line")
        if value not in self._release.scale:
            low, high = self._release.scale[0], self._release.scale[-1]
            step = self._release.scale[1] - low
            raise UserError(f"{where}: rating {fields[2]} is none of {low:g} to {high:g} by {step:g}; mend the line")
        if fields[1] not in self._movies:
            raise UserError(f"{where}: movie {fields[1]} is not in {self._release.movies}; mend the line or that file")
        return Rating(fields[0], fields[1], value, time)


def _order(number: str) -> tuple[int, str]:
    """Sorts numbers as such, of any length, and whatever else names a user or a movie behind them."""
    return (len(number) if number.isdecimal() else sys.maxsize, number)
