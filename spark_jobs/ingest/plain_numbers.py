"""Numbers as people write them: with a decimal comma, with groups of digits."""

import re

from feature_definitions.language import Csv
from spark_jobs.ingest.cells import Cell

_SPACES = " \u00a0\u202f"


def of_text(cell: Cell, kind: str, csv: Csv) -> Cell:
    """What turns a number's text into its value where CSV is written with another decimal sign or with groups; a cell for plain ones."""
    if csv.has_plain_numbers:
        return cell
    between = f"[{re.escape(_SPACES if csv.thousands == ' ' else csv.thousands)}]" if csv.thousands else None
    groups = rf"|[0-9]{{1,3}}(?:{between}[0-9]{{2,3}})*{between}[0-9]{{3}}" if between else ""
    point = re.escape(csv.decimal)
    written = re.compile(rf"\s*([+-]?)([0-9]+{groups})?(?:{point}([0-9]*))?([eE][+-]?[0-9]+)?\s*")

    def convert(text: str) -> object:
        found = written.fullmatch(text)
        if found is None or not (found[2] or found[3]):
            if not re.search(r"[0-9]", text):
                return cell(text)
            raise ValueError(f"is not {'an' if kind == 'int64' else 'a'} {kind} as the source's Csv writes numbers")
        whole = re.sub(r"[^0-9]", "", found[2] or "0")
        return cell(f"{found[1]}{whole}{'' if found[3] is None else '.' + (found[3] or '0')}{found[4] or ''}")

    return convert
