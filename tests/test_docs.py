"""What the pages of ``docs/applications`` show is so: their Python is executed, their experiments exist."""

import re

import pytest

from tests.entry import ROOT

PAGES = sorted((ROOT / "docs/applications").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages(page):
    text = page.read_text("utf-8")
    exec("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)), {})  # noqa: S102
    for name in re.findall(r"experiment=(\w+)", text):
        assert (ROOT / f"configs/experiment/{name}.yaml").is_file(), name
