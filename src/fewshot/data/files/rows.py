"""Tables in text files, as datasets are listed in and users write them."""

import csv
import io
from collections.abc import Sequence

from fewshot.data.files.archives import LARGEST_LISTING
from fewshot.data.files.places import Place
from fewshot.errors import UserError


def read_rows(place: Place, columns: Sequence[str] = ()) -> list[tuple[int, dict[str, str]]]:
    """The rows of a csv file by its header, each with the number of the line that it ends on.

    Args:
        place: of the file, in UTF-8.
        columns: that it must have.

    Raises:
        UserError: it is no UTF-8, lacks a column or has one twice, a quote is never closed, or a row has more or fewer fields
            than the header.
    """
    reader = csv.DictReader(io.StringIO(read_text(place), newline=""), strict=True)
    rows = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise UserError(f"{place}, line {reader.line_num}: not as many fields as the header; put quotes around commas")
            rows.append((reader.line_num, dict(row)))
    except csv.Error as error:
        raise UserError(f"{place}, line {reader.line_num}: {error}; is a quote never closed?") from error
    header = reader.fieldnames or ()
    if twice := [name for name in set(header) if name and list(header).count(name) > 1]:
        raise UserError(f"{place} has the column {twice[0]} twice; take one out")
    if missing := [name for name in columns if name not in header]:
        raise UserError(f"{place} has no column {missing[0]} (it has {', '.join(header)}); replace the file")
    return rows


def read_text(place: Place) -> str:
    """The text of a file in UTF-8.

    Raises:
        UserError: it is in no UTF-8.
    """
    try:
        return place.read(LARGEST_LISTING).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: byte {error.start} is no UTF-8; save the file as UTF-8") from error
