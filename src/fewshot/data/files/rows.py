"""Tables in text files, as data sets are listed in."""

import csv
import io
from collections.abc import Sequence

from fewshot.data.files.places import Place
from fewshot.errors import UserError


def read_rows(place: Place, columns: Sequence[str]) -> list[dict[str, str]]:
    """The lines of a csv file with a header, each by column.

    Args:
        place: of the file.
        columns: that it must have.

    Raises:
        UserError: it cannot be read, lacks a column, or has a line of other length than its header.
    """
    try:
        reader = csv.DictReader(io.StringIO(place.read().decode("utf-8-sig"), newline=""), strict=True)
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise UserError(f"{place}, line {reader.line_num}: not as many fields as the header; replace the file")
            rows.append(row)
        header = reader.fieldnames or ()
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{place} cannot be read ({error}); replace the file") from error
    if missing := [name for name in columns if name not in header]:
        raise UserError(f"{place} has no column {missing[0]} (it has {', '.join(header)}); replace the file")
    return rows
